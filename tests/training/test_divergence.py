"""Whose fault a refusal is: the weights', or the caller's."""

import math
import pickle

import pytest
import torch
from torch import nn

from syncattn._validation import OverflowedError
from syncattn.training.divergence import DivergedError, computed, finite


class Picky(nn.Module):
    """Makes its input larger, and refuses what it says it does."""

    def __init__(self, factor, refusal):
        super().__init__()
        self.grow = nn.Linear(1, 1, bias=False)
        self.refuse = Refusal(refusal)
        with torch.no_grad():
            self.grow.weight.fill_(factor)

    def forward(self, x):
        return self.refuse(self.grow(x).square())


class Refusal(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        if self.kind is not None:
            raise self.kind("`x` must be otherwise; got this. Change it.")
        return x


def call(network):
    return network(torch.ones(1, 1))


def test_what_can_be_computed_is():
    network = Picky(2.0, None)
    out = computed(call, network, 3, probed=network)
    assert out.item() == 4.0 and out.requires_grad


@pytest.mark.parametrize(
    ("factor", "kind"), [(1.0, OverflowedError), (1e30, OverflowedError), (1e30, ValueError)]
)
def test_what_overflows_has_diverged(factor, kind):
    network = Picky(factor, kind)
    with pytest.raises(DivergedError, match=r"output of the network must stay .* 3 steps") as info:
        computed(call, network, 3, probed=network)
    assert info.value.step == 3 and isinstance(info.value.__cause__, kind)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_any_other_refusal_is_the_callers():
    network = Picky(1.0, ValueError)
    for probed in (network, None):
        with pytest.raises(ValueError, match="`x` must be otherwise"):
            computed(call, network, 3, probed=probed)
    # Where nothing can be looked into, nothing is claimed.
    with pytest.raises(ValueError, match="`x` must be otherwise"):
        computed(call, Picky(1e30, ValueError), 3, probed=None)


@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(-math.inf)])
def test_figures_must_be_finite(value):
    with pytest.raises(DivergedError, match="The validation loss must stay finite; got"):
        finite("validation loss", value, 5)
    assert finite("loss", torch.tensor(2.0, requires_grad=True), 5) == 2.0


def test_it_crosses_processes_with_its_sentence_and_step():
    error = pickle.loads(pickle.dumps(DivergedError(7, "gradient norm", math.nan)))
    assert error.step == 7 and "gradient norm must stay finite; got nan after 7" in str(error)
