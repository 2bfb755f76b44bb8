import math

import pytest
import torch

from syncattn._validation import OverflowedError
from syncattn.benchmarks.fitting import fit
from syncattn.benchmarks.networks import Shape
from syncattn.training import DivergedError, TrainingConfig
from tests.benchmarks.benchmark_small import network, problem


def config(**changes):
    values = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 1,
              "evaluation_interval": 2}  # fmt: skip
    return TrainingConfig(**(values | changes))


def test_the_curve_has_its_points_and_the_last_step():
    done = fit(network("softmax"), problem("copy"), config(steps=5), metric="accuracy")
    assert [point["step"] for point in done.curve] == [2, 4, 5]
    assert done.tokens == 5 * 4 * 31
    assert done.curve[-1]["valid_score"] == done.valid_score
    assert done.seconds > 0


def test_the_test_split_is_not_read(monkeypatch):
    task = problem("copy")
    asked = []
    batches = type(task).batches
    monkeypatch.setattr(
        type(task), "batches", lambda self, split, size: asked.append(split) or
        batches(self, split, size)
    )  # fmt: skip
    fit(network("softmax"), task, config(), metric="accuracy")
    assert set(asked) == {"valid"}


def test_it_learns():
    torch.manual_seed(0)
    model = network("softmax", "retrieve", Shape(16, 1, 2, 8))
    settings = config(steps=40, batch_size=16, evaluation_interval=20)
    done = fit(model, problem("retrieve"), settings, metric="accuracy")
    assert done.curve[1]["train_nats"] < done.curve[0]["train_nats"] < math.log(34)


def test_the_same_seed_gives_the_same_run():
    scores = []
    for _ in range(2):
        torch.manual_seed(0)
        model = network("kuramoto")
        fit(model, problem("copy"), config(), metric="accuracy")
        scores.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*scores)


def test_a_loss_that_is_not_finite_stops_the_training():
    model = network("softmax")
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with pytest.raises(DivergedError, match="must stay finite"):
        fit(model, problem("copy"), config(), metric="accuracy")


@pytest.mark.parametrize("metric", ["accuracy", "bits per byte"])
@pytest.mark.parametrize("refuses", [True, False])
def test_divergence_that_validation_finds_is_one(metric, refuses):
    model = network("softmax")

    def diverge(module, _, out):
        if module.training:
            return out
        if refuses:
            raise OverflowedError("`x` must be small enough; got values that overflow. Scale.")
        return out * torch.nan

    model.register_forward_hook(diverge)
    with pytest.raises(DivergedError, match=r"must stay finite; got .* after 2 steps"):
        fit(model, problem("copy"), config(), metric=metric)
    assert model.training


def test_a_rate_far_too_high_is_a_divergence_whatever_notices_it():
    for arm in ("kuramoto", "selective"):
        with pytest.raises(DivergedError, match="must stay finite"):
            fit(
                network(arm), problem("copy"), config(learning_rate=1e20, evaluation_interval=1),
                metric="accuracy",
            )  # fmt: skip
