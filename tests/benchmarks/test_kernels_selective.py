import pytest
import torch

from syncattn.benchmarks.kernels_problem import Size
from syncattn.benchmarks.kernels_selective import repeated, sparse, windowed

SIZE = Size(1, 1, 2048, 16, torch.float32, torch.device("cpu"), False, 0.05)


def test_clusters_leave_few_blocks_alive():
    case = sparse(SIZE)
    share = float(case.note.partition("%")[0])
    assert 5 <= share <= 15
    assert case.work.multiply_adds == pytest.approx(32 * share / 100 * 2048**2, rel=0.02)
    assert case.work.equal_width == 16


def test_a_window_holds_about_the_share_that_was_asked_for():
    case = windowed(SIZE)
    assert set(case.calls) == {"window", "band"}
    share = float(case.note.partition("%")[0])
    assert 5 <= share <= 15
    assert case.work.multiply_adds == pytest.approx(17 * share / 100 * 2048**2, rel=0.02)
    assert case.work.equal_width == 16


def test_repeats_are_computed_once_and_without_a_causal_mask():
    case = repeated(SIZE._replace(length=256, is_causal=True))
    assert set(case.calls) == {"repeats"}
    assert not case.size.is_causal
    assert case.work.multiply_adds < 32 * 256**2 / 100
