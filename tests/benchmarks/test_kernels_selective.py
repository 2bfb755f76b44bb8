import re

import pytest
import torch

from syncattn.benchmarks.kernels_problem import Size
from syncattn.benchmarks.kernels_selective import repeated, sparse, windowed
from syncattn.functional import selective_synchronization_weights

SIZE = Size(1, 1, 2048, 16, torch.float32, torch.device("cpu"), False, 0.05)


def shares(case):
    locked, planned = (float(x) for x in re.findall(r"([\d.]+)%", case.note))
    return locked, planned


def defined(case):
    """Visible pairs that lock, by the operator's own matrix."""
    frequency = case.leaves[0]
    weights, *_ = selective_synchronization_weights(
        frequency, frequency, coupling_strength=1.3, coupling_decay=0.5,
        is_causal=case.size.is_causal,
    )  # fmt: skip
    return int((weights > 0).sum())


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("make", [sparse, windowed])
def test_work_and_note_count_the_visible_pairs_that_lock(make, is_causal):
    torch.manual_seed(0)
    case = make(SIZE._replace(length=1536, is_causal=is_causal))
    width = 32 if make is sparse else 17
    visible = 1536 * 1537 / 2 if is_causal else 1536**2
    assert case.work.multiply_adds == width * defined(case)
    assert shares(case)[0] == pytest.approx(100 * defined(case) / visible, abs=0.06)


@pytest.mark.parametrize("make", [sparse, windowed])
def test_what_a_plan_computes_is_named_beside_what_locks(make):
    case = make(SIZE)
    locked, planned = shares(case)
    assert 4 <= locked <= 12 and locked <= planned <= 100
    assert case.work.equal_width == 16


def test_a_window_has_its_backends():
    assert set(windowed(SIZE).calls) == {"window", "band"}


def test_repeats_are_computed_once_and_without_a_causal_mask():
    case = repeated(SIZE._replace(length=256, is_causal=True))
    assert set(case.calls) == {"repeats"}
    assert not case.size.is_causal
    assert case.work.multiply_adds < 32 * 256**2 / 100
