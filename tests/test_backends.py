import pytest
import torch

from syncattn import BackendUnavailableError, functional
from syncattn._backends import Requirement, choose_backend

MET, UNMET = Requirement("paper", True), Requirement("scissors", False)


def test_auto_takes_the_first_that_can_run():
    assert choose_backend("op", "auto", {"a": (MET,), "b": ()}) == "a"
    assert choose_backend("op", "auto", {"a": (MET, UNMET), "b": ()}) == "b"


def test_a_named_backend_runs_or_lists_what_is_not_met():
    assert choose_backend("op", "b", {"a": (), "b": (MET,)}) == "b"
    with pytest.raises(BackendUnavailableError) as caught:
        choose_backend("op", "a", {"a": (MET, UNMET), "b": ()})
    message = str(caught.value)
    assert "`backend` 'a' of op cannot run this call" in message
    assert "a: paper (met); scissors (NOT met)" in message
    assert "Use 'auto'" in message
    assert isinstance(caught.value, RuntimeError)


def test_when_none_can_run_all_are_listed():
    with pytest.raises(BackendUnavailableError, match=r"a: scissors \(NOT met\) \| b: scissors"):
        choose_backend("op", "auto", {"a": (UNMET,), "b": (UNMET,)})


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="`backend` of op must be one of 'auto', 'a'; got 'c'"):
        choose_backend("op", "c", {"a": ()})


def test_operators_refuse_what_they_do_not_have():
    x = torch.randn(1, 1, 3, 2)
    calls = {
        "selective_synchronization": lambda: functional.selective_synchronization(
            x, x, x, coupling_strength=1.0, coupling_decay=1.0, backend="sdpa"
        ),
        "oscillator_attention": lambda: functional.oscillator_attention(
            x, x, x, x, backend="sdpa"
        ),
        "kuramoto_attention": lambda: functional.kuramoto_attention(x, x, backend="blockwise"),
        "frustrated_synchronization": lambda: functional.frustrated_synchronization(
            x, x, harmonic_amplitude=torch.ones(1, 1, 1, 1), frustration=torch.ones(1, 1, 1, 1),
            backend="blockwise",
        ),
    }  # fmt: skip
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"`backend` of {name} must be one of 'auto'"):
            call()


def test_auto_equals_a_backend_asked_for_and_names_what_blocks_it():
    x = 0.3 * torch.randn(1, 1, 6, 2)
    options = {"coupling_strength": 1.3, "coupling_decay": 1.1}
    auto = functional.selective_synchronization(x, x, x, **options)
    named = functional.selective_synchronization(x, x, x, backend="blockwise", **options)
    assert torch.equal(auto, named)
    for blocked in ({"variant": "paper"},):
        functional.selective_synchronization(x, x, x, **options, **blocked)
        with pytest.raises(BackendUnavailableError, match=r"\(NOT met\)"):
            functional.selective_synchronization(x, x, x, backend="blockwise", **options, **blocked)
