import pytest
import torch
from torch import distributed

from syncattn.functional.ring import require_alike, require_equal_lengths, ring_of, ring_sums


def test_without_processes_it_says_what_to_call():
    with pytest.raises(RuntimeError, match=r"got no process group\. Call .*init_process_group"):
        ring_of(None)


@pytest.fixture
def alone(tmp_path):
    """A ring of one process."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0,
                                   world_size=1)  # fmt: skip
    yield ring_of(None)
    distributed.destroy_process_group()


def product(rows, columns, source):
    assert source == 0
    return (rows[0] @ columns[0].mT, columns[1].sum(0, dtype=torch.double))


def test_alone_the_sums_are_those_of_the_piece(alone):
    torch.manual_seed(0)
    row, column = (torch.randn(3, 4, dtype=torch.double, requires_grad=True) for _ in range(2))
    count = torch.arange(5)[:, None]
    sums, total = ring_sums(product, (row,), (column, count), alone)
    assert torch.equal(sums, row @ column.mT)
    assert total.tolist() == [10.0]
    weight = torch.randn(3, 3, dtype=torch.double)
    found = torch.autograd.grad((sums * weight).sum(), [row, column])
    for x, expected in zip(found, (weight @ column, weight.mT @ row), strict=True):
        torch.testing.assert_close(x, expected)
    fixed, _ = ring_sums(product, (row.detach(),), (column, count), alone)
    (only,) = torch.autograd.grad((fixed * weight).sum(), [column])
    torch.testing.assert_close(only, weight.mT @ row)
    assert not ring_sums(product, (row.detach(),), (column.detach(), count), alone)[0].requires_grad


def test_a_second_derivative_is_refused(alone):
    row, column = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    sums, _ = ring_sums(product, (row,), (column, torch.ones(5, 1)), alone)
    # The second term keeps a path to the rows, round the sums.
    loss = sums.square().sum() + (row**3).sum()
    with pytest.raises(RuntimeError, match="must be differentiated once"):
        torch.autograd.grad(loss, row, create_graph=True)


def test_an_input_that_is_returned_is_a_copy(alone):
    x = torch.ones(2, requires_grad=True)
    (out,) = ring_sums(lambda _, columns, __: columns, (), (x,), alone)
    assert out is not x
    (3 * out).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_a_process_outside_of_the_group_is_refused(alone, monkeypatch):
    monkeypatch.setattr(distributed, "get_rank", lambda group: -1)
    with pytest.raises(RuntimeError, match="`group` must hold the process that calls"):
        ring_of(None)


def test_an_empty_part_is_refused(alone):
    require_equal_lengths(4, "query", torch.device("cpu"), alone)
    with pytest.raises(ValueError, match=r"`query` must hold equally many tokens.*got \[0\]"):
        require_equal_lengths(0, "query", torch.device("cpu"), alone)


def test_what_one_process_is_given_is_like_itself(alone):
    given = {"query": torch.zeros(1, 2, 3, 4), "key_mask": None, "seen": torch.ones(1, 3).bool()}
    require_alike(given, True, torch.device("cpu"), alone)
