"""C sources compiled on request into one library for float32 on the CPU."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path

import torch

from syncattn._typing import Tensor

__all__ = ["fuse", "fused", "pointer", "run", "takes"]

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("pairwise.c", "phases.c"))
# Without -ffast-math clamps and roots stay branches, one element at a time. It is safe in compiling
# alone; in linking it would make the whole process flush subnormals.
_FLAGS = ("-O3", "-fPIC", "-ffast-math")
_TUNING = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp-simd"),
    ("-fopenmp-simd",),
    (),
)

_building = threading.Lock()
_library: ctypes.CDLL | None = None
_enabled = False


def fuse(enabled: bool = True) -> bool:
    """Switches the compiled passes on or off, for the whole process.

    They replace the operation-by-operation form of float32 calls on a CPU, forward and backward:
    for selective synchronization and oscillator attention all that happens between two products
    happens in registers and the first cache; for the torus operators one pass makes the operands
    of attention and one the increments. Results stay within rounding. They are compiled by the
    first call of this function, a few seconds, and never by an operator itself. Selective
    synchronization with `top_k` or an attention mask, and the torus operators with a sink or with
    other queries than keys, do not use them. Switch them before, not during, a forward and its
    backward.

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


def fused() -> bool:
    """Returns whether the compiled passes are on."""
    return _enabled


def _build() -> ctypes.CDLL:
    """Compiles and loads the passes with the fastest flags that work.

    Raises:
        OSError: If there is no compiler, or nothing that it makes can be loaded.
    """
    names = (os.environ.get("CC") or "cc", "gcc", "clang")
    compiler = next((path for name in names if (path := shutil.which(name))), None)
    if compiler is None:
        raise OSError(f"none of {', '.join(names)}")
    # Where a loaded library cannot be deleted, as on Windows, its file stays behind.
    with tempfile.TemporaryDirectory(prefix="syncattn-", ignore_cleanup_errors=True) as folder:
        failure = ""
        for number, tuning in enumerate(_TUNING):
            library = Path(folder, f"{number}.so")
            objects = {
                source: str(Path(folder, f"{number}-{source.stem}.o")) for source in _SOURCES
            }
            compile_them = [
                [compiler, *_FLAGS, *tuning, "-c", str(source), "-o", target]
                for source, target in objects.items()
            ]
            # Linked without OpenMP: its symbols come from the library that torch has loaded, so
            # that both share one pool of threads.
            link_them = [compiler, "-shared", *objects.values(), "-o", str(library), "-lm"]
            try:
                for command in (*compile_them, link_them):
                    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
                return ctypes.CDLL(str(library))
            except (OSError, subprocess.SubprocessError) as error:
                failure = str(error)
        raise OSError(f"{compiler}: {failure}")


def takes(*tensors: Tensor) -> bool:
    """Returns whether the compiled passes are on and these tensors are theirs to work on.

    Args:
        *tensors: Operands.
    """
    ours = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
    return _enabled and ours and not torch.compiler.is_compiling()


def pointer(tensor: Tensor, name: str, dtype: torch.dtype) -> int:
    """Returns where a tensor lies, for a field of a call.

    Args:
        tensor: The tensor.
        name: The field.
        dtype: What the C source reads there; anything else would be read as garbage, or beyond the
            end.

    Raises:
        TypeError: If the tensor is of another dtype, or not on the CPU.
    """
    if tensor.dtype != dtype or tensor.device.type != "cpu":
        raise TypeError(
            f"`{name}` must be of {dtype} on the CPU for the compiled passes; got {tensor.dtype} "
            f"on {tensor.device.type}. Convert it before, or use `fuse(False)`."
        )
    return tensor.data_ptr()


def run(name: str, call: ctypes.Structure) -> None:
    """Runs a compiled pass.

    Args:
        name: Its name in the C source.
        call: Its arguments, field by field those of the structure in the C source.

    Raises:
        MemoryError: If it found no memory to work in.
    """
    assert _library is not None
    function = getattr(_library, name)
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    if function(ctypes.byref(call)):
        raise MemoryError(
            "the compiled passes must find memory for copies of a group's operands per thread; "
            "got none. Use fewer threads, or `fuse(False)`."
        )
