import pytest
import torch

from syncattn.benchmarks.kernels_cases import HARMONICS, OPERATORS, OSCILLATOR_DIM, problem
from syncattn.benchmarks.kernels_problem import Size

SIZE = Size(1, 2, 32, 8, torch.float32, torch.device("cpu"), True, 0.05)
PAIRS = 2 * 32 * 33 / 2


@pytest.mark.parametrize("name", OPERATORS)
def test_operands_are_the_same_each_time_and_want_gradients(name):
    first, second = problem(name, SIZE), problem(name, SIZE)
    for a, b in zip(first.leaves, second.leaves, strict=True):
        assert torch.equal(a, b)
        assert a.is_leaf
        assert a.requires_grad
    for call in first.calls.values():
        out = call()
        gradients = torch.autograd.grad(out.sum(), first.leaves)
        assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("softmax", 16),
        ("selective", 16),
        ("oscillator", 16 + 2 * OSCILLATOR_DIM),
        ("kuramoto", 16),
        ("frustrated", 8 * (1 + HARMONICS)),
    ],
)
def test_multiply_adds_are_counted_over_visible_pairs(name, width):
    work = problem(name, SIZE).work
    assert work.multiply_adds == PAIRS * width
    assert work.equal_width == width // 2


def test_what_is_not_there_is_told():
    assert "flash_attn" in problem("softmax", SIZE).refused["flash"]


@pytest.mark.parametrize("name", ["kuramoto", "frustrated"])
def test_a_row_tells_when_it_runs_in_another_type_than_its_title(name):
    case = problem(name, SIZE._replace(dtype=torch.bfloat16))
    assert {leaf.dtype for leaf in case.leaves} == {torch.float32}
    assert "float32" in case.note
    assert problem(name, SIZE).note == ""
