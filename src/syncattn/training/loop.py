"""The training loop, readable from top to bottom; it reports bits per byte."""

from __future__ import annotations

import atexit
import math
import random
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import broadcast_object_list
from jaxtyping import UInt8
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel

from syncattn import _validation as check
from syncattn._typing import Float, Int, Tensor
from syncattn.data import Corpus, evaluation_batches, training_batch
from syncattn.training.checkpoint import (
    CurvePoint,
    TrainingState,
    has_checkpoints,
    last_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from syncattn.training.config import CHOICES, TrainingConfig
from syncattn.training.divergence import DivergedError, computed, finite
from syncattn.training.memory import PeakMemory
from syncattn.training.progress import Progress, RunFiles
from syncattn.training.result import TrainingResult
from syncattn.training.setup import Run, leave_group, prepare
from syncattn.training.sharding import copied_state, local, put_back, whole
from syncattn.training.trackers import start_tracker

__all__ = ["evaluate", "train"]

_NATS_PER_BIT = math.log(2)


def train(
    model: PreTrainedModel,
    corpus: Corpus,
    config: TrainingConfig,
    *,
    directory: Path | str,
    label: str = "model",
    progress: bool = True,
    position: int = 0,
    resume: bool = False,
) -> TrainingResult:
    """Trains a causal language model on bytes.

    The order of the data and the dropout of a step depend on `config.seed` and the step alone:
    every model sees the same bytes, and a run killed at any moment resumes to the same losses
    (on CUDA, up to kernels that are not deterministic themselves). The global generators of
    `random` and torch are seeded at every step. Under `torchrun` or `accelerate launch` the
    processes share each batch, and, with ``sharding="full"``, the weights, which stay in shards
    afterwards; its checkpoints are whole.

    With `patience`, or ``final_weights="best"``, the model ends with the weights of the point with
    the lowest validation figure. Their copy, on the model's device, is in every checkpoint too, as
    `best/`.

    Args:
        model: A causal language model of Transformers with a vocabulary of at least 256; it is
            trained in place and moved to the accelerator, if there is one.
        corpus: Bytes to learn from.
        config: How.
        directory: Folder of this run: `training.json` (settings and corpus), `metrics.jsonl` (a
            line per point of the curve), `checkpoints/`.
        label: Name shown in the progress.
        progress: Shows a bar on a terminal, else a line per point of the curve, on stderr.
        position: Row of the bar, for several trainings at once.
        resume: Goes on from the newest whole checkpoint; starts afresh if there is none.

    Returns:
        The curve and what was measured.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If corpus, model and settings do not fit each other; if `directory` holds a
            run and `resume` is False; or if `resume` finds a run with other settings or other
            frozen parameters, or one that should end with its best weights and has not kept them.
        DivergedError: If a loss, a gradient norm or what the network computes is not finite.
        OSError: If the disk is full or refuses; the last whole checkpoint stays.
        ImportError: If the tracker is not installed.
    """
    run = prepare(model, corpus, config, directory, label)
    accelerator = run.accelerator
    files = RunFiles(run.directory) if accelerator.is_main_process else None
    state = _start(run, files, resume=resume)
    told = config.tracker if files else "none"
    with (
        PeakMemory(accelerator.device) as memory,
        Progress(
            label,
            steps=config.steps,
            done=state.step,
            shown=progress and bool(files),
            position=position,
        ) as bar,
        start_tracker(told, run.directory, label, config.as_dict()) as tracker,
    ):
        while state.step < config.steps and not _has_stalled(state, config):
            started = time.perf_counter()
            with _keeping_last_finite(run, state):
                nats, gradient_norm = _learn(run, state.step)
            # A clock may stand still, and on some machines step back.
            state.advance(nats, max(0.0, time.perf_counter() - started))
            bar.step()
            if _is_due(state.step, config.evaluation_interval, config.steps):
                point = _measure(run, state, gradient_norm)
                bar.point(point)
                if files:
                    files.add(point)
                tracker.add(point)
            state.peak_memory_bytes = max(state.peak_memory_bytes, memory.num_bytes)
            last = config.steps if not _has_stalled(state, config) else state.step
            if _is_due(state.step, config.checkpoint_interval, last):
                _save(run, state)
    result = _result(run, state)
    atexit.register(leave_group)
    return result


def evaluate(
    model: PreTrainedModel,
    split: UInt8[Tensor, " bytes"],
    *,
    batch_size: int,
    context_length: int,
    max_tokens: int | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
) -> float:
    """Returns the mean bits per byte of a model on the head of a split.

    Args:
        model: A causal language model of Transformers; its mode is left as it was.
        split: Bytes, uint8.
        batch_size: Windows evaluated at once.
        context_length: Bytes the model sees at most; the first of a window has no context but one.
        max_tokens: Most bytes to predict; None takes the whole split.
        mixed_precision: As in training.

    Returns:
        Bits per byte; 8 is the score of a uniform guess.

    Raises:
        ValueError: If the split is shorter than one window, a size is not positive, or
            `mixed_precision` unknown.
    """
    check.require_choice(mixed_precision, "mixed_precision", CHOICES["mixed_precision"])
    was_training = model.training
    model.eval()
    nats, count = 0.0, 0
    try:
        with torch.no_grad():
            for batch in evaluation_batches(
                split, batch_size=batch_size, context_length=context_length, max_tokens=max_tokens
            ):
                nats += _nats(model, batch.to(model.device), mixed_precision, "sum").item()
                count += batch[:, 1:].numel()
    finally:
        model.train(was_training)
    return nats / count / _NATS_PER_BIT


def _start(run: Run, files: RunFiles | None, *, resume: bool) -> TrainingState:
    """Returns the state to begin from, and begins the files of the run."""
    if not resume and has_checkpoints(run.directory):
        raise ValueError(
            "`directory` must hold no earlier run unless `resume` is True; got "
            f"{str(run.directory)!r}, which has checkpoints. Resume it, or choose another."
        )
    newest = last_checkpoint(run.directory) if resume else None
    state = TrainingState()
    if newest:
        state = load_checkpoint(newest, run.model, run.optimizer, run=run.identity)
        _require_best(state, run.config)
    # No process may write before all have looked.
    run.accelerator.wait_for_everyone()
    if files:
        config, corpus = run.config.as_dict(), run.corpus.identity.as_dict()
        files.start({"label": run.label, "config": config, "corpus": corpus}, state.curve)
    return state


def _require_best(state: TrainingState, config: TrainingConfig) -> None:
    if not config.keeps_best:
        state.best = None
    elif state.curve and state.best is None:
        raise ValueError(
            "`final_weights` must be 'last' for a run that went on without keeping its best "
            f"weights; got {config.final_weights!r} and `patience` {config.patience}, but those of "
            f"step {state.best_point.step} are gone. Set it, or start in another directory."
        )


def _has_stalled(state: TrainingState, config: TrainingConfig) -> bool:
    """Tells whether the validation figure has not fallen for as many points as `patience`."""
    if config.patience is None or not state.curve:
        return False
    return len(state.curve) - 1 - state.curve.index(state.best_point) >= config.patience


def _learn(run: Run, step: int) -> tuple[float, float]:
    """Does one step of the optimiser and returns the loss, in nats, and the gradient's norm."""
    accelerator, config = run.accelerator, run.config
    _seed_dropout(config.seed, step, accelerator.process_index)
    for group in run.optimizer.param_groups:
        group["lr"] = config.learning_rate_at(step)
    loss = accelerator.reduce(_differentiate(run, step), "mean")
    norm = clip_grad_norm_(run.parameters, config.gradient_clip or math.inf)
    nats = finite("training loss", loss, step)
    gradient_norm = finite("gradient norm", whole(norm), step)
    run.optimizer.step()
    run.optimizer.zero_grad()
    return nats, gradient_norm


def _differentiate(run: Run, step: int) -> Float[Tensor, ""]:
    """Adds up the gradients of the parts of a batch and returns its mean loss in this process."""
    parts = _batch(run, step).chunk(run.config.accumulation_steps)
    mean = torch.zeros((), device=run.accelerator.device)
    for number, part in enumerate(parts, 1):
        # Between processes the gradients travel once, with the last part.
        quiet = run.accelerator.no_sync(run.prepared) if number < len(parts) else nullcontext()
        with quiet:
            loss = _loss(run, part, step) / len(parts)
            run.accelerator.backward(loss)
        mean += loss.detach()
    return mean


def _loss(run: Run, windows: Int[Tensor, "batch window"], step: int) -> Float[Tensor, ""]:
    """Returns the loss of windows; where it diverges in one process, all of them raise."""
    loss, error = torch.zeros(()), None
    try:
        loss = computed(
            lambda network: _nats(network, windows, run.config.mixed_precision), run.prepared, step,
            probed=None if run.is_sharded else run.model,
        )  # fmt: skip
    except DivergedError as raised:
        error = raised
    if run.is_sharded or run.accelerator.device.type != "cpu":
        # Between shards the others wait for a block's weights and cannot be told; elsewhere than
        # on a CPU no network looks at its numbers.
        diverged = error is not None
    else:
        diverged = bool(run.accelerator.reduce(torch.tensor(float(error is not None))))
    if diverged:
        raise error or DivergedError(step)
    return loss


def _batch(run: Run, step: int) -> Int[Tensor, "batch window"]:
    """Returns the windows of a step that fall to this process."""
    batch = training_batch(
        run.corpus.train,
        batch_size=run.config.batch_size,
        context_length=run.config.context_length,
        seed=run.config.seed,
        step=step,
    )
    here = run.accelerator
    return batch[here.process_index :: here.num_processes].to(here.device)


def _seed_dropout(seed: int, step: int, process: int) -> None:
    # Dropout as a function of the step: no generator to save, nothing that evaluation could move.
    random.seed(f"dropout/{seed}/{step}/{process}")
    torch.manual_seed(random.getrandbits(63))


def _nats(
    model: nn.Module,
    windows: Int[Tensor, "batch window"],
    mixed_precision: str,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """Returns the cross entropy, in nats, of every byte of the windows but the first."""
    # A cache of keys and values would be filled and thrown away.
    cache = {"use_cache": False} if hasattr(getattr(model, "config", None), "use_cache") else {}
    half = torch.autocast(windows.device.type, torch.bfloat16)
    with half if mixed_precision == "bf16" else nullcontext():
        logits = model(input_ids=windows[:, :-1], **cache).logits
    return cross_entropy(
        logits.float().flatten(0, 1), windows[:, 1:].flatten(), reduction=reduction
    )


def _is_due(step: int, interval: int, steps: int) -> bool:
    return interval > 0 and (step % interval == 0 or step == steps)


def _measure(run: Run, state: TrainingState, gradient_norm: float) -> CurvePoint:
    """Adds the point after the step just done to the curve, and keeps the weights if wanted."""
    config = run.config
    valid = _score(run, run.corpus.valid, config.evaluation_tokens, state.step)
    point = CurvePoint(
        step=state.step,
        tokens=state.step * config.batch_size * config.context_length,
        train_bits_per_byte=state.nats / state.nats_steps / _NATS_PER_BIT,
        valid_bits_per_byte=valid,
        learning_rate=config.learning_rate_at(state.step - 1),
        gradient_norm=gradient_norm,
        seconds=state.seconds,
    )
    # What is kept and when a run ends hangs on the figure: all processes take the first one's.
    (point,) = broadcast_object_list([point])
    finite("validation loss", point.valid_bits_per_byte, state.step)
    state.add(point)
    if config.keeps_best and state.best_point is point:
        state.best = copied_state(run.model)
    return point


def _score(run: Run, split: UInt8[Tensor, " bytes"], max_tokens: int | None, step: int) -> float:
    """Returns bits per byte; infinity, for all processes to hear of, where the network diverged."""
    config = run.config
    try:
        return computed(
            lambda network: evaluate(
                network, split, batch_size=config.batch_size, max_tokens=max_tokens,
                context_length=config.context_length, mixed_precision=config.mixed_precision,
            ),
            run.model, step, probed=None if run.is_sharded else run.model,
        )  # fmt: skip
    except DivergedError:
        return math.inf


def _save(run: Run, state: TrainingState) -> None:
    save_checkpoint(
        run.directory, run.model, run.optimizer, state, run=run.identity,
        write=run.accelerator.is_main_process,
    )  # fmt: skip
    run.accelerator.wait_for_everyone()


@contextmanager
def _keeping_last_finite(run: Run, state: TrainingState) -> Generator[None]:
    """Saves the state before a failed step, unless the weights themselves are lost."""
    try:
        yield
    except DivergedError as error:
        if run.is_sharded and error.__cause__ is not None:
            # Others may not have diverged: they are elsewhere, and would be waited for.
            raise
        lost = sum(int(not local(p).isfinite().all()) for p in run.model.parameters())
        # All processes or none: a sharded checkpoint needs them all.
        here = torch.tensor(lost, device=run.accelerator.device)
        everywhere: Any = run.accelerator.reduce(here)
        if run.config.checkpoint_interval and not int(everywhere):
            _save(run, state)
        raise


def _result(run: Run, state: TrainingState) -> TrainingResult:
    run.model.eval()
    config, point = run.config, state.curve[-1]
    if state.best is not None:
        put_back(run.model, state.best)
        point = state.best_point
    test = _score(run, run.corpus.test, config.test_tokens, state.step)
    tokens = state.step * config.batch_size * config.context_length
    return TrainingResult(
        label=run.label,
        curve=state.curve,
        weights_step=point.step,
        valid_bits_per_byte=point.valid_bits_per_byte,
        test_bits_per_byte=finite("test loss", test, state.step),
        num_tokens=tokens,
        seconds=state.seconds,
        tokens_per_second=tokens / state.seconds if state.seconds else math.inf,
        peak_memory_bytes=state.peak_memory_bytes,
        num_parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        seed=config.seed,
        device=str(run.accelerator.device),
        checkpoint=last_checkpoint(run.directory) if config.checkpoint_interval else None,
    )
