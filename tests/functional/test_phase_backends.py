import torch

from syncattn._backends import Requirement
from syncattn._masks import Visibility
from syncattn.functional.phase_backends import feature_dtype, phase_backends
from syncattn.kernels.score import Score


def score(width=4):
    theta = torch.zeros(1, 1, 3, width)
    return Score(theta, theta, theta, theta, None, 1.0, None, Visibility(3, 3))


def test_triton_needs_what_the_operator_and_the_kernels_need():
    named = phase_backends({"sdpa": ()}, score(), (Requirement("a delay", False),))
    assert list(named) == ["sdpa", "triton"]
    met = {r.sentence: r.met for r in named["triton"]}
    assert not met["a delay"]
    assert met["a head of at most 128 coordinates"]
    wide = phase_backends({"sdpa": ()}, score(200))
    assert not {r.sentence: r.met for r in wide["triton"]}["a head of at most 128 coordinates"]


def test_features_are_as_narrow_as_the_phases_or_autocast():
    phase = torch.zeros(2)
    assert feature_dtype(phase) == torch.float32
    assert feature_dtype(phase.bfloat16()) == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert feature_dtype(phase) == torch.bfloat16
        assert feature_dtype(phase.half()) == torch.float16
