import pytest
import torch

from syncattn import functional
from syncattn.benchmarks.kernels_problem import Size, flexible, normal, problem_of, work_of

SIZE = Size(1, 2, 32, 8, torch.float32, torch.device("cpu"), True, 0.05)


def case(calls, **options):
    x = normal(SIZE, 8)
    return problem_of(
        SIZE, [x], {n: lambda c=c: c(x) for n, c in calls.items()}, work_of(SIZE, 16, [x], 8),
        **options,
    )  # fmt: skip


def lacking(x):
    return functional.selective_synchronization(
        x, x, x, coupling_strength=1.0, coupling_decay=1.0, is_causal=True, backend="repeats"
    )


def broken(x):
    raise RuntimeError("no kernel\nof that kind")


def one_way(x):
    return x.detach() + torch.zeros((), requires_grad=True)


def test_what_fails_says_why_and_costs_the_others_nothing():
    calls = {"works": lambda x: 2 * x, "lacking": lacking, "broken": broken, "triton": broken,
             "one-way": one_way}  # fmt: skip
    found = case(calls, refused={"flash": "Not installed."})
    assert list(found.calls) == ["works"]
    assert found.refused.pop("one-way").startswith("RuntimeError: ")
    assert found.refused == {
        "flash": "Not installed.",
        "lacking": "It lacks: not `is_causal`.",
        "broken": "RuntimeError: no kernel of that kind",
        "triton": "It lacks: tensors on a CUDA device.",
    }


def test_matrices_of_all_pairs_are_not_tried_where_they_cannot_fit():
    size = SIZE._replace(length=2**14)
    x = torch.zeros(1)
    found = problem_of(size, [], {"dense": lambda: x, "other": lambda: broken(x)},
                       work_of(SIZE, 1, [], 1), dense=("dense",))  # fmt: skip
    assert found.refused["dense"] == "Each of its matrices of all pairs would take 2.15 GB."
    assert found.refused["other"] == "RuntimeError: no kernel of that kind"


def test_a_definition_is_timed_where_it_takes_no_seconds():
    tried = []
    for length in (32, 2048):
        problem_of(SIZE._replace(length=length), [], {"reference": lambda: broken(tried.append(1))},
                   work_of(SIZE, 1, [], 1))  # fmt: skip
    assert tried == [1]


@pytest.mark.parametrize(("is_causal", "pairs"), [(True, 32 * 33 / 2), (False, 32**2)])
def test_work_is_that_of_the_visible_pairs_and_of_moving_everything_once(is_causal, pairs):
    size = SIZE._replace(is_causal=is_causal, dtype=torch.bfloat16)
    x = torch.zeros(1, 2, 32, 8, dtype=torch.bfloat16)
    work = work_of(size, 24, [x, x], 4)
    assert work.multiply_adds == 2 * pairs * 24
    assert work.bytes == 2 * (2 * x.numel() + 2 * 32 * 4)
    assert work.equal_width == 12
    assert work_of(size, 24, [x], 4, pairs=7, equal_width=5)[::2] == (2 * 7 * 24, 5)


def test_flex_attention_is_for_cuda():
    refused: dict[str, str] = {}
    assert flexible(SIZE, refused) is None
    assert refused == {"flex": "FlexAttention is compiled on CUDA alone here."}


@pytest.mark.gpu
# Its compiler counsels a precision that is not wanted here.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["softmax", "selective"])
def test_flex_attention_runs_forward_and_backward(name):
    from syncattn.benchmarks.kernels_cases import problem

    device = torch.device("cuda", 0)
    found = problem(name, SIZE._replace(length=512, dim=64, dtype=torch.bfloat16, device=device))
    assert "flex" in found.calls, found.refused["flex"]
