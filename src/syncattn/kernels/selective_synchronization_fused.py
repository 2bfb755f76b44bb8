"""One compiled loop for the elementwise work of a tile, opt-in, where a C compiler is at hand."""

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

from syncattn._typing import Float, Tensor

__all__ = ["fuse", "fused", "slope", "strengthen"]

# exp is a polynomial of the remainder after powers of two, Cephes' coefficients, so that the loop
# has no call and is vectorised; the arguments are clamped to -83.5..0.
_SOURCE = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float exponential(float x) {
    int32_t n = (int32_t)(x * 1.44269504f - 0.5f);
    float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    int32_t bits = (n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

static inline float clamped(float y) {
    y = y > 0.0f ? 0.0f : y;
    return y < -83.5f ? -83.5f : y;
}

// A product: a choice of the constant 0 would be followed through the root as a branch.
static inline float positive(float q) {
    return fabsf(q * (float)(q > 0x1p-120f));
}

void strengthen(const float *y, const float *g, float *strength, long rows, long columns,
                float d, int threads) {
    float scale = sqrtf(1 + d * d) + d;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long i = 0; i < rows; i++) {
        const float *x = y + i * columns;
        float *s = strength + i * columns;
        float own = g[i];
        if (d == 0) {
#pragma omp simd
            for (long j = 0; j < columns; j++) {
                float z = clamped(x[j]);
                float q = exponential(z) + own * z;
                s[j] = sqrtf(positive(q));
            }
        } else {
#pragma omp simd
            for (long j = 0; j < columns; j++) {
                float z = clamped(x[j]);
                float q = exponential(z) + own * z;
                q = positive(q);
                q = q * scale / (sqrtf(q + d * d) + d);
                s[j] = q > 1.0f ? 1.0f : q;
            }
        }
    }
}

void slope(const float *y, const float *g, const float *strength, float *gradient,
           float *row_sum, float *threshold, long rows, long columns, float d, float floor,
           int threads) {
    float scale = sqrtf(1 + d * d) - d;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long i = 0; i < rows; i++) {
        const float *x = y + i * columns, *s = strength + i * columns;
        float *out = gradient + i * columns;
        float own = g[i], sum = 0, moment = 0;
#pragma omp simd reduction(+ : sum, moment)
        for (long j = 0; j < columns; j++) {
            float z = clamped(x[j]);
            float sharp = s[j] < floor ? floor : s[j];
            float by = d == 0 ? sharp : (s[j] * scale + d) * scale;
            float w = (s[j] > 0.0f) & (s[j] < 1.0f) ? out[j] / by : 0.0f;
            moment += w * z;
            w *= exponential(z) + own;
            sum += w;
            out[j] = w;
        }
        row_sum[i] = sum;
        threshold[i] = 0.5f * moment;
    }
}
"""
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
    """Switches the compiled loop on or off, for the whole process.

    The loop replaces six or more passes over each tile of a float32 call on a CPU, forward and
    backward, in every method; results stay within rounding. It is compiled by the first call of
    this function, about a second, and never by the operator itself. Calls with `top_k` do not use
    it, so that equal keys tie exactly. Switch it before, not during, a forward and its backward.

    Args:
        enabled: Whether to use it.

    Returns:
        Whether it is on. Without a C compiler (`CC`, cc, gcc or clang) it warns and stays off.
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
    """Compiles and loads the loop with the fastest flags that work.

    Raises:
        OSError: If there is no compiler, or nothing that it makes can be loaded.
    """
    names = (os.environ.get("CC") or "cc", "gcc", "clang")
    compiler = next((path for name in names if (path := shutil.which(name))), None)
    if compiler is None:
        raise OSError(f"none of {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="syncattn-") as folder:
        source = Path(folder, "tile.c")
        source.write_text(_SOURCE, encoding="utf-8")
        failure = ""
        for number, tuning in enumerate(_TUNING):
            object_file, library = Path(folder, f"{number}.o"), Path(folder, f"{number}.so")
            compile_it = [compiler, *_FLAGS, *tuning, "-c", str(source), "-o", str(object_file)]
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


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, real, number = ctypes.c_void_p, ctypes.c_float, ctypes.c_long
    library.strengthen.argtypes = [pointer] * 3 + [number] * 2 + [real, ctypes.c_int]
    library.slope.argtypes = [pointer] * 6 + [number] * 2 + [real, real, ctypes.c_int]
    library.strengthen.restype = library.slope.restype = None
    return library


def fused(x: Tensor) -> bool:
    """Returns whether operands like this one are computed by the compiled loop."""
    return _enabled and x.dtype == torch.float32 and x.device.type == "cpu"


def _loaded() -> ctypes.CDLL:
    assert _library is not None
    return _library


def strengthen(
    y: Float[Tensor, "tiles queries keys"],
    g: Float[Tensor, "tiles queries"],
    out: Float[Tensor, "tiles queries keys"],
    smoothing: float,
) -> None:
    """Writes the strengths of a tile.

    Args:
        y: Minus the squared detunings, contiguous.
        g: The inverse thresholds.
        out: Where the strengths go, contiguous; may be `y`.
        smoothing: That of the call.
    """
    g = g.contiguous()
    rows, columns = g.numel(), y.shape[-1]
    _loaded().strengthen(
        y.data_ptr(), g.data_ptr(), out.data_ptr(), rows, columns, smoothing,
        torch.get_num_threads(),
    )  # fmt: skip


def slope(
    y: Float[Tensor, "tiles queries keys"],
    g: Float[Tensor, "tiles queries"],
    strength: Float[Tensor, "tiles queries keys"],
    gradient: Float[Tensor, "tiles queries keys"],
    smoothing: float,
    edge_floor: float,
) -> tuple[Float[Tensor, "tiles queries"], Float[Tensor, "tiles queries"]]:
    """Turns the gradients of the strengths into those of half the squared detunings, in place.

    Args:
        y: Minus the squared detunings, contiguous.
        g: The inverse thresholds.
        strength: The strengths, after the masks.
        gradient: Their gradients, overwritten.
        smoothing: That of the call.
        edge_floor: Smallest strength by which the sharp gradient divides.

    Returns:
        The sum of the new gradients over each row, and the gradient of the inverse thresholds.
    """
    g = g.contiguous()
    row_sum, threshold = torch.empty_like(g), torch.empty_like(g)
    rows, columns = g.numel(), y.shape[-1]
    _loaded().slope(
        y.data_ptr(), g.data_ptr(), strength.data_ptr(), gradient.data_ptr(),
        row_sum.data_ptr(), threshold.data_ptr(), rows, columns, smoothing, edge_floor,
        torch.get_num_threads(),
    )  # fmt: skip
    return row_sum, threshold
