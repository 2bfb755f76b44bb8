"""One rule of accuracy, without switches.

With the inputs in the tested dtype and the definition in float64, the error of a fast form is at
most twice that of the dense form in the same dtype (three times for gradients), plus the floor of
that dtype.
"""

import torch

# Half precision is computed in float32 and rounded once: one unit in the last place of the output.
FLOOR = {
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.bfloat16: 2.0**-8,
    torch.float16: 2.0**-11,
}


def error(actual, exact):
    """Returns the largest deviation, relative to the largest exact value where that exceeds 1."""
    if exact.numel() == 0:
        return 0.0
    scale = exact.abs().max().clamp(min=1.0)
    return ((actual.double() - exact.double()).abs().max() / scale).item()


def assert_as_exact(fast, exact, plain, *, factor=2.0):
    """Asserts the rule for one tensor; `plain` is the dense form in the dtype of `fast`."""
    assert fast.dtype == plain.dtype
    assert fast.shape == exact.shape
    assert torch.isfinite(fast).all()
    allowed = factor * error(plain, exact) + FLOOR[fast.dtype]
    got = error(fast, exact)
    assert got <= allowed, f"error {got:.3g} exceeds {allowed:.3g} in {fast.dtype}"


def assert_same(actual, expected, tolerance=1e-12):
    """Asserts that two float64 tensors are one up to rounding."""
    assert actual.shape == expected.shape
    got = error(actual, expected)
    assert got <= tolerance, f"deviation {got:.3g} exceeds {tolerance:.3g}"
