"""The laws that fit an operator through Triton, on a device or interpreted on the CPU."""

import pytest
import torch

from tests.conformance import SCENES, gradients
from tests.tolerance import assert_as_exact, sensitivity

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BY_NAME = {scene.name: scene for scene in SCENES}
QUICK = ("packed-causal",)


def scenes(supports=lambda name: True):
    """Returns every scene without attention mask; all but a few are slow."""
    chosen = [scene for scene in SCENES if scene.allowed is None and supports(scene.name)]
    return [
        pytest.param(s, id=s.name, marks=() if s.name in QUICK else pytest.mark.slow)
        for s in chosen
    ]


def conforms(operator, backend, scene, dtype=torch.float32, *, like=None, **options):
    """Asserts the rule of tolerance for the output and the gradient of every input.

    `like` is the definition of the same call, if options change it.
    """
    define = like or operator.exact
    inputs, rows = operator.inputs(scene, DEVICE, dtype), scene.rows(DEVICE)
    out = operator.call(inputs, backend, **scene.visibility(DEVICE), **options)
    assert out.dtype == dtype
    wide, single = (
        {name: x.detach().to(kind).requires_grad_() for name, x in inputs.items()}
        for kind in (torch.float64, dtype)
    )
    exact, plain = define(wide, scene), define(single, scene)
    shown = [torch.where(rows, x, torch.zeros_like(x)) for x in (out, exact, plain)]
    assert_as_exact(*shown)
    found, expected = gradients(out, inputs, rows), gradients(exact, wide, rows)
    rounded = gradients(plain, single, rows)

    def evaluate(moved):
        near = dict(zip(inputs, moved, strict=True))
        return list(gradients(define(near, scene), near, rows).values())

    least = sensitivity(evaluate, list(wide.values()), list(expected.values()))
    for name, smallest in zip(inputs, least, strict=True):
        assert expected[name].any(), f"the probe does not reach {name}"
        assert_as_exact(found[name], expected[name], rounded[name], factor=3.0, least=smallest)
