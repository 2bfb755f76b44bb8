"""One rule of accuracy, without switches.

With the inputs in the tested dtype and the definition in float64, the error of a fast form is at
most twice that of the dense form in the same dtype (three times for gradients), plus the floor of
that dtype. Where the exact form itself moves further than that with the last place of float32 in
its inputs, as gradients do near the edge of locking, no form in float32 can be held to less: there
`sensitivity` takes the place of the dense form's error.
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


def sensitivity(evaluate, inputs, exact):
    """Returns the error of every tensor of the exact form for inputs half a last place away.

    Args:
        evaluate: Takes inputs in float64 and returns a list of tensors.
        inputs: The tensors that are moved, half a unit in the last place of float32 at most.
        exact: What `evaluate` gives for them unmoved.
    """
    generator = torch.Generator().manual_seed(0)
    half = torch.finfo(torch.float32).eps / 2
    largest = [0.0] * len(exact)
    for _ in range(4):
        moved = []
        for x in inputs:
            drawn = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
            nearby = x.detach().double() * (1 + half * (2 * drawn - 1))
            moved.append(nearby.requires_grad_(x.requires_grad))
        found = [error(a, b) for a, b in zip(evaluate(moved), exact, strict=True)]
        largest = [max(pair) for pair in zip(largest, found, strict=True)]
    return largest


def assert_as_exact(fast, exact, plain, *, factor=2.0, least=0.0):
    """Asserts the rule for one tensor; `plain` is the dense form in the dtype of `fast`.

    `least` is its `sensitivity`, below which no error of the dense form counts.
    """
    assert fast.dtype == plain.dtype
    assert fast.shape == exact.shape
    assert torch.isfinite(fast).all()
    allowed = factor * max(error(plain, exact), least) + FLOOR[fast.dtype]
    got = error(fast, exact)
    assert got <= allowed, f"error {got:.3g} exceeds {allowed:.3g} in {fast.dtype}"


def assert_same(actual, expected, tolerance=1e-12):
    """Asserts that two float64 tensors are one up to rounding."""
    assert actual.shape == expected.shape
    got = error(actual, expected)
    assert got <= tolerance, f"deviation {got:.3g} exceeds {tolerance:.3g}"
