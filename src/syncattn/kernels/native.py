"""Compiled sums over pairs for the CPU, opt-in, where a C compiler is at hand."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

from syncattn._masks import Visibility
from syncattn._typing import Float, Int, Tensor

__all__ = ["Blocks", "Kind", "PairGradients", "fits", "fuse", "pair_gradients", "pair_sums"]

_SOURCE = Path(__file__).with_name("pairwise.c")
# Without -ffast-math clamps and roots stay branches, one element at a time. It is safe in compiling
# alone; in linking it would make the whole process flush subnormals.
_FLAGS = ("-O3", "-fPIC", "-ffast-math")
_TUNING = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp-simd"),
    ("-fopenmp-simd",),
    (),
)
_WIDEST = 512
_BLOCK = 64
_PANEL = 128

_building = threading.Lock()
_library: ctypes.CDLL | None = None
_enabled = False


def fuse(enabled: bool = True) -> bool:
    """Switches the compiled sums on or off, for the whole process.

    They replace the operation-by-operation form of float32 calls on a CPU, forward and backward:
    all that happens between two products happens in registers and the first cache. Results stay
    within rounding. They are compiled by the first call of this function, a second or two, and
    never by an operator itself. Selective synchronization with `top_k` or an attention mask does
    not use them. Switch them before, not during, a forward and its backward.

    Args:
        enabled: Whether to use them.

    Returns:
        Whether they are on. Without a C compiler (`CC`, cc, gcc or clang) it warns and stays off.
    """
    global _library, _enabled
    with _building:
        if enabled and _library is None:
            try:
                _library = _build()
            except (OSError, subprocess.SubprocessError) as error:
                warnings.warn(
                    f"`fuse` must find a C compiler that makes shared libraries; got {error}. "
                    "Install gcc or clang, or set CC; until then tiles run operation by operation.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        _enabled = enabled and _library is not None
        return _enabled


def _build() -> ctypes.CDLL:
    """Compiles and loads the sums with the fastest flags that work.

    Raises:
        OSError: If there is no compiler, or nothing that it makes can be loaded.
    """
    names = (os.environ.get("CC") or "cc", "gcc", "clang")
    compiler = next((path for name in names if (path := shutil.which(name))), None)
    if compiler is None:
        raise OSError(f"none of {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="syncattn-") as folder:
        failure = ""
        for number, tuning in enumerate(_TUNING):
            object_file, library = Path(folder, f"{number}.o"), Path(folder, f"{number}.so")
            compile_it = [compiler, *_FLAGS, *tuning, "-c", str(_SOURCE), "-o", str(object_file)]
            # Linked without OpenMP: its symbols come from the library that torch has loaded, so
            # that both share one pool of threads.
            link_it = [compiler, "-shared", str(object_file), "-o", str(library), "-lm"]
            try:
                for command in (compile_it, link_it):
                    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
                return _declared(ctypes.CDLL(str(library)))
            except (OSError, subprocess.SubprocessError) as error:
                failure = str(error)
        raise OSError(f"{compiler}: {failure}")


_POINTERS = (
    "row threshold column value count weight first end own place start list "
    "sums total d_row d_threshold d_column d_value"
).split()
_COUNTS = (
    "groups rows columns dim width panel block threads per_group kind power join_self exclude_self"
).split()
_REALS = ("scale", "smoothing", "edge_floor")


class _Call(ctypes.Structure):
    """The arguments of one call, field by field those of `Call` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _COUNTS),
        *((name, ctypes.c_float) for name in _REALS),
    )


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    for function in (library.pairwise_forward, library.pairwise_backward):
        function.argtypes = [ctypes.POINTER(_Call)]
        function.restype = ctypes.c_int
    return library


def fits(row: Tensor, value: Tensor, visibility: Visibility) -> bool:
    """Returns whether the compiled sums are on and can take these operands.

    Args:
        row: The rows of a call.
        value: Its values.
        visibility: Who may see whom; an attention mask is no interval of places.
    """
    return (
        _enabled
        and row.dtype == value.dtype == torch.float32
        and row.device.type == "cpu"
        and visibility.attn_mask is None
        and max(row.shape[-1], value.shape[-1]) <= _WIDEST
        and min(row.numel(), value.numel()) > 0
    )


class Kind(NamedTuple):
    r"""How a pair becomes a strength.

    Attributes:
        name: ``"distance"`` (:math:`\sqrt{e^{-x} - g x}` of the squared distance), or of the
            scaled product ``"softplus"``, ``"relu"`` (plus 1e-3), ``"elu"`` (plus 1) and
            ``"readout"`` (:math:`\max(0, 1 + x)^p`).
        scale: Factor of the product.
        power: :math:`p`: 1, 2 or 4.
        smoothing: Where the square root rounds off.
        edge_floor: Smallest strength by which the sharp gradient divides.
        join_self: The squared distance of a row to its own column is exactly 0.
    """

    name: str
    scale: float = 1.0
    power: int = 1
    smoothing: float = 0.0
    edge_floor: float = 1e-3
    join_self: bool = False


_KINDS = ("distance", "softplus", "relu", "elu", "readout")


class Blocks(NamedTuple):
    """Tokens in another order than that of the sequence, and which blocks of them to visit.

    Attributes:
        row_place: ``(groups, rows)`` place in the sequence of each row among the columns.
        column_place: ``(groups, columns)`` that of each column; -1 for one that no row sees.
        start: ``(groups * panels + 1,)`` where the list of each panel of rows begins.
        list: The blocks of columns to visit, counted within their group.
        panel: Rows in a panel.
        block: Columns in a block.
    """

    row_place: Int[Tensor, "groups rows"]
    column_place: Int[Tensor, "groups columns"]
    start: Int[Tensor, " panels_plus_1"]
    list: Int[Tensor, " entries"]
    panel: int
    block: int


class PairGradients(NamedTuple):
    """Gradients of the sums; None where not asked for."""

    row: Tensor | None
    threshold: Tensor | None
    column: Tensor | None
    value: Tensor | None


def pair_sums(
    row: Float[Tensor, "groups rows dim"],
    column: Float[Tensor, "groups columns dim"],
    value: Float[Tensor, "groups columns value_dim"],
    kind: Kind,
    visibility: Visibility,
    *,
    threshold: Float[Tensor, "groups rows"] | None = None,
    count: Float[Tensor, "groups columns"] | None = None,
    blocks: Blocks | None = None,
) -> tuple[Float[Tensor, "groups rows value_dim"], Float[Tensor, "groups rows"]]:
    r"""Returns :math:`\sum_j S_{ij} V_j` and :math:`\sum_j m_j S_{ij}`.

    Args:
        row: Rows, float32.
        column: Columns.
        value: Values; those of padding are 0 already.
        kind: How a pair becomes a strength.
        visibility: Who may see whom, without attention mask; padding belongs in `count`.
        threshold: Inverse threshold of each row, for distances.
        count: Multiplicity of each column; 1 when None.
        blocks: Another order of the tokens.
    """
    call, keep = _call(row, column, value, kind, visibility, threshold, count, blocks)
    sums, total = row.new_empty(*row.shape[:2], value.shape[-1]), row.new_empty(row.shape[:2])
    call.sums, call.total = sums.data_ptr(), total.data_ptr()
    _run("pairwise_forward", call)
    del keep
    return sums, total


def pair_gradients(
    row: Float[Tensor, "groups rows dim"],
    column: Float[Tensor, "groups columns dim"],
    value: Float[Tensor, "groups columns value_dim"],
    weight: Float[Tensor, "groups rows value_dim_plus_1"],
    kind: Kind,
    visibility: Visibility,
    *,
    threshold: Float[Tensor, "groups rows"] | None = None,
    count: Float[Tensor, "groups columns"] | None = None,
    blocks: Blocks | None = None,
    points: bool = True,
    values: bool = True,
    thresholds: bool = False,
) -> PairGradients:
    """Returns the gradients of `pair_sums`.

    Args:
        row: See `pair_sums`.
        column: See `pair_sums`.
        value: See `pair_sums`.
        weight: Gradient of the sums; its last column that of the total.
        kind: See `pair_sums`.
        visibility: See `pair_sums`.
        threshold: See `pair_sums`.
        count: See `pair_sums`.
        blocks: See `pair_sums`.
        points: Whether those of rows and columns are wanted.
        values: Whether that of the values is.
        thresholds: Whether that of the threshold is.
    """
    call, keep = _call(row, column, value, kind, visibility, threshold, count, blocks)
    weight = weight.contiguous()
    call.weight = weight.data_ptr()
    result = PairGradients(
        torch.zeros_like(keep[0]) if points else None,
        row.new_zeros(row.shape[:2]) if thresholds else None,
        torch.zeros_like(keep[1]) if points else None,
        torch.zeros_like(keep[2]) if values else None,
    )
    for name, gradient in zip(("d_row", "d_threshold", "d_column", "d_value"), result, strict=True):
        setattr(call, name, None if gradient is None else gradient.data_ptr())
    _run("pairwise_backward", call)
    del keep
    return result


def _call(
    row: Tensor,
    column: Tensor,
    value: Tensor,
    kind: Kind,
    visibility: Visibility,
    threshold: Tensor | None,
    count: Tensor | None,
    blocks: Blocks | None,
) -> tuple[_Call, list[Tensor]]:
    """Returns the arguments, and the tensors that must outlive the call."""
    keep = [row.contiguous(), column.contiguous(), value.contiguous()]
    call = _Call(
        groups=row.shape[0],
        rows=row.shape[1],
        columns=column.shape[1],
        dim=row.shape[2],
        width=value.shape[2],
        panel=_PANEL if blocks is None else blocks.panel,
        block=_BLOCK if blocks is None else blocks.block,
        threads=torch.get_num_threads(),
        per_group=blocks is not None,
        kind=_KINDS.index(kind.name),
        power=kind.power,
        join_self=kind.join_self,
        exclude_self=visibility.exclude_self,
        scale=kind.scale,
        smoothing=kind.smoothing,
        edge_floor=kind.edge_floor,
    )
    own = None if blocks is None else blocks.row_place
    named: dict[str, Tensor | None] = dict(zip(("row", "column", "value"), keep, strict=True))
    named |= {"threshold": threshold, "count": count}
    named |= _intervals(visibility, row.device, own)
    if blocks is not None:
        named |= {"place": blocks.column_place, "start": blocks.start, "list": blocks.list}
    for name, tensor in named.items():
        if tensor is None:
            continue
        whole = not tensor.is_floating_point()
        tensor = (tensor.to(torch.int32) if whole else tensor).contiguous()
        keep.append(tensor)
        setattr(call, name, tensor.data_ptr())
    return call, keep


def _intervals(
    visibility: Visibility, device: torch.device, own: Tensor | None
) -> dict[str, Tensor]:
    """Returns the first place that each row sees, the end of those, and its own place."""
    if own is None:
        own = torch.arange(visibility.num_queries, device=device) + visibility.offset
    first, end = torch.zeros_like(own), torch.full_like(own, visibility.num_keys)
    if visibility.segment is not None:
        mine = visibility.segment[own.clamp(min=0)].contiguous()
        first = torch.searchsorted(visibility.segment.contiguous(), mine)
        end = torch.searchsorted(visibility.segment.contiguous(), mine, right=True)
    if visibility.is_causal:
        end = torch.minimum(end, (own + 1).clamp(min=0))
    return {"first": first, "end": end, "own": own}


def _run(name: str, call: _Call) -> None:
    assert _library is not None
    if getattr(_library, name)(ctypes.byref(call)):
        raise MemoryError(
            f"the compiled sums must find memory for copies of the columns of a group per thread; "
            f"got none for {call.columns} columns. Use fewer threads, or `fuse(False)`."
        )
