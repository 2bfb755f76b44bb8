"""Sums over a sequence that several processes share: shards of keys travel round a ring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import distributed
from torch.distributed import ProcessGroup

from syncattn._typing import Tensor
from syncattn._validation import FLOATS
from syncattn.kernels.first_order import first_order

Tensors = tuple[Tensor, ...]
_DTYPES = (*FLOATS, torch.bool)
# Presence, dtype, and up to four axes.
_SIGNATURE = 6
Piece = Callable[[Tensors, Tensors, int], Tensors | None]


class Ring(NamedTuple):
    """The place of a process among those that share a sequence.

    Attributes:
        group: The processes; None for all.
        rank: Number of this process among them, which is also that of its shard.
        size: How many they are.
    """

    group: ProcessGroup | None
    rank: int
    size: int


def ring_of(group: ProcessGroup | None) -> Ring:
    """Returns the place of this process in a group.

    Args:
        group: The processes; None for all.

    Raises:
        RuntimeError: If processes were not introduced to each other, or this one is no member.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        raise RuntimeError(
            "The processes that share a sequence must know each other; got no process group. Call "
            "torch.distributed.init_process_group first, for instance under torchrun."
        )
    rank = distributed.get_rank(group)
    if rank < 0:
        raise RuntimeError(
            "`group` must hold the process that calls; got one without it. Call it in the "
            "processes of the group alone."
        )
    return Ring(group, rank, distributed.get_world_size(group))


def require_equal_lengths(length: int, name: str, device: torch.device, ring: Ring) -> None:
    """Refuses shards of different lengths; on an accelerator nothing is looked at.

    Args:
        length: Tokens of this shard.
        name: The argument it is the length of.
        device: Where the arguments are.
        ring: The processes.

    Raises:
        ValueError: In every process, if one has another length.
    """
    if device.type != "cpu":
        return
    mine = torch.tensor([length])
    found = [torch.zeros_like(mine) for _ in range(ring.size)]
    distributed.all_gather(found, mine, group=ring.group)
    lengths = [int(x) for x in found]
    if min(lengths) != max(lengths) or length == 0:
        raise ValueError(
            f"`{name}` must hold equally many tokens in every process, at least one; got "
            f"{lengths}. Pad the sequence at its end and hide the padding with `key_mask`."
        )


def require_alike(
    tensors: Mapping[str, Tensor | None], is_causal: bool, device: torch.device, ring: Ring
) -> None:
    """Refuses shards that do not go together; on an accelerator nothing is looked at.

    A process that sends what the others do not expect would leave them waiting, or with a wrong
    sum.

    Args:
        tensors: The arguments of this process by name; None where there is none.
        is_causal: Whether this process hides the future.
        device: Where the arguments are.
        ring: The processes.

    Raises:
        ValueError: In every process, if one has other arguments, dtypes, shapes, or another order.
    """
    if device.type != "cpu":
        return
    told = [*(_signature(x) for x in tensors.values()), [int(is_causal)] * _SIGNATURE]
    mine = torch.tensor(told)
    found = [torch.zeros_like(mine) for _ in range(ring.size)]
    distributed.all_gather(found, mine, group=ring.group)
    for number, name in enumerate((*tensors, "is_causal")):
        ways = [part[number].tolist() for part in found]
        if any(way != ways[0] for way in ways):
            raise ValueError(
                f"`{name}` must be alike in every process, given to all or to none and of one "
                f"dtype and shape; got {len({tuple(way) for way in ways})} kinds in {ring.size} "
                f"processes. Pass the same arguments everywhere, but for their parts."
            )


def _signature(x: Tensor | None) -> list[int]:
    if x is None:
        return [0] * _SIGNATURE
    return [1, _DTYPES.index(x.dtype), *x.shape, *[-1] * (_SIGNATURE - 2 - x.dim())]


def ring_sums(piece: Piece, rows: Tensors, columns: Tensors, ring: Ring) -> Tensors:
    """Returns, for the rows of this process, sums over the columns of all processes.

    The columns of every process travel round the ring once, and in the backward pass once more,
    with their gradients, which arrive where they belong. No process ever holds more than its own
    columns and those of one other.

    Args:
        piece: From rows, columns and the number of the process that the columns come from to the
            tensors to add up; None where those columns count nothing. For a process's own columns
            it must return tensors.
        rows: Tensors that stay.
        columns: Tensors that travel, of one shape and dtype in all processes.
        ring: The processes; all must call, and all must call `backward` if one does.

    Returns:
        The sums, differentiable once in every floating tensor of rows and columns.
    """
    found: Any = _RingSums.apply(piece, ring, len(rows), *rows, *columns)  # pyright: ignore[reportUnknownVariableType]
    return cast("Tensors", found)


class _RingSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, piece: Piece, ring: Ring, num_rows: int, *tensors: Tensor) -> Tensors:
        rows, columns = tensors[:num_rows], tensors[num_rows:]
        sums: Tensors = ()
        for source in _sources(ring):
            if source != ring.rank:
                columns = _passed_on(columns, ring)
            found = piece(rows, columns, source)
            if found is not None:
                sums = tuple(a + b for a, b in zip(sums, found, strict=True)) if sums else found
        ctx.save_for_backward(*tensors)
        ctx.settings = piece, ring, num_rows
        # What a piece returns as it got it must not be mistaken for an input.
        return tuple(x.clone() if any(x is y for y in tensors) else x for x in sums)

    @staticmethod
    @first_order
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> Any:
        piece, ring, num_rows = ctx.settings
        saved: Tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        rows, columns = saved[:num_rows], saved[num_rows:]
        d_rows = [torch.zeros_like(x) for x in rows]
        d_columns = tuple(torch.zeros_like(x) for x in columns)
        for source in _sources(ring):
            if source != ring.rank:
                both = _passed_on((*columns, *d_columns), ring)
                columns, d_columns = both[: len(columns)], both[len(columns) :]
            found = _gradients(piece, (rows, columns), source, needed, gradients)
            for total, part in zip((*d_rows, *d_columns), found, strict=True):
                if part is not None:
                    total.add_(part)
        if ring.size > 1:
            d_columns = _passed_on(d_columns, ring)
        wanted = zip((*d_rows, *d_columns), needed, strict=True)
        return None, None, None, *(x if need else None for x, need in wanted)


def _gradients(
    piece: Piece,
    operands: tuple[Tensors, Tensors],
    source: int,
    needed: tuple[bool, ...],
    gradients: Tensors,
) -> list[Tensor | None]:
    """Returns the gradients of one piece by its rows and columns, computed anew."""
    rows, columns = operands
    with torch.enable_grad():
        leaves = [
            x.detach().requires_grad_(need)
            for x, need in zip((*rows, *columns), needed, strict=True)
        ]
        sums = piece(tuple(leaves[: len(rows)]), tuple(leaves[len(rows) :]), source)
    if sums is None:
        return [None] * len(leaves)
    learning = [x for x in leaves if x.requires_grad]
    reached = [(x, g) for x, g in zip(sums, gradients, strict=True) if x.requires_grad]
    outputs, weights = [x for x, _ in reached], [g for _, g in reached]
    found = iter(torch.autograd.grad(outputs, learning, weights, allow_unused=True))
    return [next(found) if x.requires_grad else None for x in leaves]


def _sources(ring: Ring) -> list[int]:
    """Returns whose columns are here after each step, this process's own first."""
    return [(ring.rank - step) % ring.size for step in range(ring.size)]


def _passed_on(tensors: Tensors, ring: Ring) -> Tensors:
    """Gives tensors to the next process and returns those of the process before."""
    after, before = (_global(ring, ring.rank + step) for step in (1, -1))
    sent = tuple(x.contiguous() for x in tensors)
    received = tuple(torch.empty_like(x) for x in sent)
    operations = [
        distributed.P2POp(call, x, peer, ring.group)
        for call, batch, peer in (
            (distributed.isend, sent, after), (distributed.irecv, received, before),
        )
        for x in batch
    ]  # fmt: skip
    for work in distributed.batch_isend_irecv(operations):
        work.wait()
    return received


def _global(ring: Ring, rank: int) -> int:
    rank %= ring.size
    return rank if ring.group is None else distributed.get_global_rank(ring.group, rank)
