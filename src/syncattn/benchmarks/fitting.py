"""Training a network on a problem: the same steps, order and schedule for every arm."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from syncattn._typing import Float, Tensor
from syncattn.benchmarks.networks import Network
from syncattn.benchmarks.problems import Batch, Problem, unscored
from syncattn.training import TrainingConfig, parameter_groups
from syncattn.training.divergence import computed, finite
from syncattn.training.memory import PeakMemory

__all__ = ["Fit", "fit"]


@dataclass
class Fit:
    """What a training came to.

    Attributes:
        curve: Points with `step`, `tokens`, `train_nats` and `valid_score`.
        seconds: Spent in training steps.
        tokens: Tokens or frames read in training.
        peak_memory_bytes: See `PeakMemory`.
        valid_score: The metric on the validation split after the last step.
    """

    curve: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seconds: float = 0.0
    tokens: int = 0
    peak_memory_bytes: int = 0
    valid_score: float = math.nan


def fit(
    network: Network,
    problem: Problem,
    config: TrainingConfig,
    *,
    metric: str,
    device: torch.device | str = "cpu",
) -> Fit:
    """Trains a network and scores it on the validation split; the test split is not read.

    The loop of `syncattn.training` predicts the bytes of a corpus and reads its test split at the
    end, which a trial of a learning rate must not; optimiser, schedule and decay are its own.

    Args:
        network: Trained in place.
        problem: The task with its data.
        config: Steps, batch, learning rate; lengths of texts are the problem's affair.
        metric: Of the validation scores.
        device: Where.

    Returns:
        The curve and what was measured.

    Raises:
        DivergedError: If a loss, the gradient or what the network computes is not finite.
    """
    network.to(device).train()
    groups = parameter_groups(network, config.weight_decay)
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2)
    )
    done, nats, since = Fit(), 0.0, 0
    with PeakMemory(torch.device(device)) as memory:
        for step in range(config.steps):
            batch = problem.training_batch(config.batch_size, seed=config.seed, step=step)
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step)
            moved = batch.to(device)
            loss = computed(partial(_loss, batch=moved), network, step, probed=network)
            finite("training loss", loss, step)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, config.gradient_clip or math.inf)
            finite("gradient norm", norm, step)
            optimizer.step()
            optimizer.zero_grad()
            done.seconds += time.perf_counter() - started
            done.tokens += batch.inputs.shape[0] * batch.inputs.shape[1]
            nats, since = nats + loss.item(), since + 1
            if (step + 1) % config.evaluation_interval == 0 or step + 1 == config.steps:
                valid = partial(problem.score, split="valid", batch_size=config.batch_size)
                scores = computed(valid, network, step + 1, probed=network)
                finite("validation loss", scores.nats_per_target, step + 1)
                done.valid_score = scores.value(metric)
                done.curve.append({
                    "step": step + 1, "tokens": done.tokens, "train_nats": nats / since,
                    "valid_score": done.valid_score, "seconds": done.seconds, "seed": config.seed,
                })  # fmt: skip
                nats, since = 0.0, 0
    done.peak_memory_bytes = memory.num_bytes
    return done


def _loss(network: Network, batch: Batch) -> Float[Tensor, ""]:
    logits = network(batch).float()
    return cross_entropy(
        logits.reshape(-1, logits.shape[-1]), batch.target.reshape(-1), ignore_index=unscored
    )
