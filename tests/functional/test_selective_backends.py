import pytest
import torch

from syncattn import BackendUnavailableError, explain_backend, functional, kernels
from syncattn.functional import selective_backends
from tests.functional.test_selective_synchronization import run

COUPLINGS = {"coupling_strength": 1.3, "coupling_decay": 1.1}


def why(omega, **options):
    return explain_backend(omega, omega, **COUPLINGS, **options)


def spread(length, dim, width):
    return width * torch.randn(1, 1, length, dim)


@pytest.mark.parametrize(
    ("expected", "omega", "options"),
    [
        ("blockwise", spread(100, 1, 50.0), {}),
        ("window", spread(2048, 1, 8.0), {}),
        ("window", spread(2048, 1, 8.0), {"is_causal": True}),
        ("pruned", spread(1100, 2, 50.0), {}),
        ("blockwise", spread(1100, 8, 0.1), {}),
        ("blockwise", spread(1100, 1, 0.1), {}),
        ("repeats", spread(10, 8, 0.1).repeat(1, 1, 110, 1), {}),
        ("blockwise", spread(10, 8, 0.1).repeat(1, 1, 110, 1), {"is_causal": True}),
        ("reference", spread(20, 2, 0.1), {"variant": "paper"}),
    ],
)
def test_auto_takes_what_provably_needs_clearly_fewer_pairs(expected, omega, options):
    choice = why(omega, **options)
    assert choice.backend == expected
    assert choice.reason.endswith(".")
    if expected not in {"blockwise", "reference"}:
        assert f"'{expected}' is proven to need only" in choice.reason
        assert 4 * choice.pairs[expected] <= choice.pairs["blockwise"]
        assert choice.pairs[expected] <= 2 * min(choice.pairs.values())


def test_a_position_coordinate_opens_the_band():
    t = torch.arange(2048.0)[:, None]
    omega = torch.cat([0.1 * torch.randn(1, 1, 2048, 8), t[None, None]], -1)
    for place in (8, -1):
        choice = why(omega, position_coordinate=place, is_causal=True)
        assert choice.backend == "band"
    assert "band" not in why(omega, is_causal=True).pairs
    value = torch.randn(1, 1, 2048, 2)
    auto = run(omega, value, position_coordinate=-1, is_causal=True)
    expected = run(omega, value, backend="blockwise", is_causal=True)
    torch.testing.assert_close(auto, expected)


def test_reasons_say_what_decided():
    assert "100 x 100 pairs are too few" in why(spread(100, 1, 50.0)).reason
    near = why(spread(1100, 8, 0.1))
    assert near.reason.startswith("The best other, ")
    assert near.reason.endswith("it pays below 25%.")
    assert "`variant` is 'default'" in why(spread(9, 1, 1.0), variant="paper").reason
    assert why(spread(9, 1, 1.0), backend="pruned").reason.startswith("'pruned' was asked for")


def test_every_backend_that_can_run_is_counted():
    omega = spread(300, 1, 1.0)
    pairs = why(omega, position_coordinate=0).pairs
    assert set(pairs) == {"blockwise", "window", "band", "pruned", "repeats", "reference"}
    assert pairs["reference"] == pairs["blockwise"] == 300 * 300
    assert pairs["window"] == pairs["band"]
    assert set(why(omega, is_causal=True).pairs) == {"blockwise", "window", "pruned", "reference"}
    assert why(omega[:, :, :0]).pairs == {"reference": 0}


@pytest.mark.parametrize(
    ("backend", "options", "lacking"),
    [
        ("window", {}, "frequencies have 1 coordinate"),
        ("band", {}, "`position_coordinate` is given"),
        ("repeats", {"is_causal": True}, "not `is_causal`"),
        ("repeats", {"attn_mask": torch.ones(6, 6).bool()}, "no `attn_mask`"),
        ("repeats", {"cu_seqlens": torch.tensor([0, 2, 6])}, "no `cu_seqlens`"),
        ("repeats", {"top_k": 2}, "no `top_k`"),
        ("pruned", {"variant": "paper"}, "`variant` is 'default'"),
        ("blockwise", {"variant": "paper"}, "`variant` is 'default'"),
    ],
)
def test_a_backend_that_cannot_run_says_what_is_not_met(backend, options, lacking):
    omega = spread(6, 2, 1.0)
    calls = (
        lambda: run(omega, omega, backend=backend, position_coordinate=None, **options),
        lambda: why(omega, backend=backend, **options),
    )
    for call in calls:
        with pytest.raises(BackendUnavailableError) as caught:
            call()
        assert f"`backend` '{backend}' of selective_synchronization cannot run" in str(caught.value)
        assert f"{lacking} (NOT met)" in str(caught.value)


def test_what_is_asked_for_is_what_runs(monkeypatch):
    ran = []
    kernel = kernels.selective_synchronization

    def watched(*arguments, method, coordinate, **options):
        ran.append((method, coordinate))
        return kernel(*arguments, method=method, coordinate=coordinate, **options)

    monkeypatch.setattr(kernels, "selective_synchronization", watched)
    omega = torch.cat([spread(8, 1, 1.0), torch.arange(8.0)[None, None, :, None]], -1)
    for backend in ("blockwise", "pruned", "band", "repeats", "reference"):
        run(omega, omega, backend=backend, position_coordinate=-1)
    assert ran == [("blockwise", 0), ("pruned", 0), ("window", 1), ("repeats", 0)]


@pytest.mark.parametrize("place", [2, -3])
def test_a_position_coordinate_must_exist(place):
    with pytest.raises(ValueError, match="`position_coordinate` must be"):
        run(spread(4, 2, 1.0), spread(4, 2, 1.0), position_coordinate=place)


def test_an_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'topk'"):
        why(spread(4, 2, 1.0), topk=3)


@pytest.mark.parametrize("is_causal", [False, True])
def test_long_inputs_agree_whatever_auto_takes(is_causal):
    torch.manual_seed(0)
    omega = spread(2048, 1, 8.0).double()
    value = torch.randn(1, 1, 2048, 2, dtype=torch.float64)
    assert why(omega, is_causal=is_causal).backend == "window"
    auto = run(omega, value, is_causal=is_causal)
    named = functional.selective_synchronization(
        omega, omega, value, backend="blockwise", is_causal=is_causal, **COUPLINGS
    )
    torch.testing.assert_close(auto, named, rtol=1e-10, atol=1e-10)


def test_two_heads_without_hope_spare_the_others(monkeypatch):
    counted = []
    planned = selective_backends.planned_pairs

    def watched(query, *arguments):
        counted.append(tuple(query.shape[:2]))
        return planned(query, *arguments)

    monkeypatch.setattr(selective_backends, "planned_pairs", watched)
    value = torch.randn(2, 3, 1100, 2)
    for width, looked_at in ((0.01, {(1, 2)}), (20.0, {(1, 2), (2, 3)})):
        counted.clear()
        run(width * torch.randn(2, 3, 1100, 1), value)
        assert set(counted) == looked_at
    choice = why(0.01 * torch.randn(2, 3, 1100, 1))
    assert choice.backend == "blockwise"
    assert choice.reason.startswith("In the first and last head: The best other")
    assert choice.pairs["blockwise"] == 6 * 1100**2
