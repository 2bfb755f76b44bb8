"""The floor of the measures: distributions of weights, copy depth, coupling functions."""

import functools

import torch
from hypothesis import given

from syncattn import analysis, nn
from syncattn.analysis import heads
from tests.fuzz.law import budget, obeys
from tests.fuzz.strategies import Target, cases


@functools.cache
def layer():
    torch.manual_seed(0)
    return nn.FrustratedSynchronization(4, 2).eval()


def weights(dice):
    x = dice.positive(
        2, dice.size(), dice.size(), dtype=dice.choice((torch.float32, torch.float64))
    )
    return x / x.sum(-1, keepdim=True)


def draw_visible(dice):
    w = weights(dice)
    return {"weights": w, "visible": torch.ones(w.shape[-2:], dtype=torch.bool)}


def draw_losses(dice):
    ids = dice.integers(4, 2, dice.size(8))
    return {"losses": dice.positive(*ids.shape), "ids": ids, **dice.some(
        edges=lambda: (1, 2, 3), copied_only=lambda: False)}  # fmt: skip


def draw_token_losses(dice):
    b, n, v = 2, dice.size(), 4
    return {"logits": dice.normal(b, n, v), "ids": dice.integers(v, b, n)}


def draw_head(dice):
    w = weights(dice)
    told = dice.some(
        order_parameter=lambda: dice.positive(*w.shape[:2]) / 3, locked=lambda: w > 0.2
    )
    return {"weights": w, "visible": torch.ones(w.shape[-2:], dtype=torch.bool)} | told


def measured(*, weights, order_parameter=None, locked=None, visible):
    picture = nn.Synchrony(weights, order_parameter, locked)
    return heads.measure_heads(picture, visible=visible)


def draw_locked(dice):
    n, more = dice.size(), dice.size()
    return {"locked": dice.mask(2, n, n + more), "visible": dice.mask(n, n + more)}


def always(arguments):
    """Rows that attend to nothing have no entropy: NaN, as documented."""
    return True


TARGETS = [
    Target("effective_rank", analysis.effective_rank, lambda dice: {"weights": weights(dice)}),
    Target("head_divergence", analysis.head_divergence, lambda dice: {"weights": weights(dice)},
           may_be_nan=always),
    Target("order_by_head", analysis.order_by_head,
           lambda dice: {"phases": [dice.normal(1, dice.size(), 4)], "num_harmonics": 2,
                         "num_heads": 2}, may_be_nan=always),
    Target("entropy", analysis.entropy, lambda dice: draw_visible(dice) | dice.some(
        normalised=lambda: True), may_be_nan=always),
    Target("sparsity", analysis.sparsity, draw_visible, may_be_nan=always),
    Target("describe", analysis.describe, draw_visible),
    Target("effective_neighbours", analysis.effective_neighbours,
           lambda dice: {"weights": weights(dice)}),
    Target("largest_weight", analysis.largest_weight, lambda dice: {"weights": weights(dice)}),
    Target("head_diversity", analysis.head_diversity, lambda dice: {"weights": weights(dice)},
           may_be_nan=always),
    Target("copy_depth", analysis.copy_depth,
           lambda dice: {"ids": dice.integers(3, 2, dice.size(8))}),
    Target("loss_by_copy_depth", analysis.loss_by_copy_depth, draw_losses, may_be_nan=always),
    Target("loss_by_distance", analysis.loss_by_distance, draw_losses, may_be_nan=always),
    Target("token_losses", analysis.token_losses, draw_token_losses),
    Target("coupling_functions", analysis.coupling_functions,
           lambda dice: {"layer": layer(), "num_points": 5}),
    Target("frustration_parts", analysis.frustration_parts, lambda dice: {
        "layer": layer(), "phase": dice.normal(1, dice.randint(1, 4), 4), "num_bins": 4},
        may_be_nan=always),
    Target("measure_heads", measured, draw_head, may_be_nan=always),
    Target("locked_share", heads.locked_share, draw_locked),
    Target("order_by_layer", analysis.order_by_layer,
           lambda dice: {"phases": [dice.normal(1, dice.size(), 4)], "num_harmonics": 2},
           may_be_nan=always),
]  # fmt: skip

# Figures are looked at, and tested in tests/analysis.
FIGURES = {"LayerPattern", "attention_weights", "learning_curves", "save_figure"}


@budget(0.05)
@given(case=cases(TARGETS))
def test_everything(case):
    obeys(*case)


def test_no_public_name_is_left_out():
    known = {target.name for target in TARGETS} | FIGURES
    assert known >= {*analysis.__all__, *heads.__all__} - {"MEASURES"}
