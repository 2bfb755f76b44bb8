"""Selective synchronization through Triton against its definition, and against FlexAttention."""

import pytest
import torch

pytest.importorskip("triton")

from torch.nn.attention.flex_attention import flex_attention

from syncattn import BackendUnavailableError, explain_backend, functional
from syncattn._masks import Visibility
from syncattn.kernels.selective_synchronization_triton import selective_synchronization
from tests.functional.operators import SELECTIVE, WINDOW_SELECTIVE
from tests.kernels.interpreted import BY_NAME, DEVICE, DTYPES, conforms, scenes

COUPLINGS = {"coupling_strength": 1.3, "coupling_decay": 1.1}


@pytest.mark.parametrize("backend", ["triton", "triton-pruned"])
@pytest.mark.parametrize("scene", scenes())
def test_it_is_the_definition(backend, scene):
    conforms(SELECTIVE, backend, scene)


@pytest.mark.parametrize("backend", ["triton", "triton-pruned"])
@pytest.mark.parametrize(
    "dtype", [DTYPES[1], pytest.param(DTYPES[2], marks=pytest.mark.slow)], ids=["bf16", "fp16"]
)
def test_half_precision_is_as_exact_as_the_dense_form(backend, dtype):
    conforms(WINDOW_SELECTIVE, backend, BY_NAME["causal"], dtype)


def test_coherence_of_the_past_alone_sets_the_threshold():
    generator = torch.Generator().manual_seed(0)
    x, phase = (torch.randn(1, 1, 12, 2, generator=generator).to(DEVICE) for _ in "xp")
    options = {"is_causal": True, "backend": "triton", **COUPLINGS}
    before = functional.selective_synchronization(0.3 * x, 0.3 * x, x, phase, **options)
    phase[:, :, 8:] += 2.0
    after = functional.selective_synchronization(0.3 * x, 0.3 * x, x, phase, **options)
    assert torch.equal(before[:, :, :8], after[:, :, :8])
    assert not torch.equal(before[:, :, 8:], after[:, :, 8:])


def test_smoothing_and_empty_rows_are_those_of_other_backends():
    x = torch.tensor([0.0, 0.3, 9.0, 9.1], device=DEVICE)[None, None, :, None]
    y = torch.tensor([0.1, 0.2, 9.2, 30.0], device=DEVICE)[None, None, :, None]
    value = torch.eye(4, device=DEVICE)[None, None]
    options = {**COUPLINGS, "smoothing": 0.05, "empty_rows": "nearest"}
    for queries in (y, y + 12.0):
        want = functional.selective_synchronization(queries, x, value, backend="reference",
                                                    **options)  # fmt: skip
        for backend in ("triton", "triton-pruned"):
            got = functional.selective_synchronization(queries, x, value, backend=backend,
                                                       **options)  # fmt: skip
            torch.testing.assert_close(got, want)


def test_what_the_kernels_lack_is_named():
    x = torch.zeros(1, 1, 4, 2, device=DEVICE)
    for options, sentence in (
        ({"top_k": 2}, r"no `top_k` \(NOT met\)"),
        ({"attn_mask": torch.ones(4, 4, dtype=torch.bool, device=DEVICE)}, "no `attn_mask` "),
        ({"variant": "paper"}, r"`variant` is 'default' \(NOT met\)"),
    ):
        for backend in ("triton", "triton-pruned"):
            with pytest.raises(BackendUnavailableError, match=sentence):
                functional.selective_synchronization(
                    x, x, x, backend=backend, **COUPLINGS, **options
                )
    wide = torch.zeros(1, 1, 4, 2, device=DEVICE, dtype=torch.float64)
    with pytest.raises(BackendUnavailableError, match=r"float32, bfloat16 or float16"):
        functional.selective_synchronization(wide, wide, wide, backend="triton", **COUPLINGS)
    assert "asked for by name" in explain_backend(x, x, backend="triton", **COUPLINGS).reason


def flexible(x, value, g, decay, *, compiled=False):
    """All causal pairs by FlexAttention, whose score becomes the logarithm of the strength."""
    norm = x.float().square().sum(-1)

    def log_strength(score, b, h, i, j):
        u = 2 * decay[h] * (norm[b, h, i] + norm[b, h, j] - 2 * score).clamp(min=0)
        u = torch.where(i == j, 0.0, u)
        q = torch.exp(-u) - g[b, h, i] * u
        # An exact zero is minus infinity; the token itself keeps every row from being empty.
        log = 0.5 * torch.log(torch.where(q > 0, q, 1.0))
        return torch.where((q > 0) & (j <= i), log, -torch.inf)

    attend = torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
    return attend(x, x, value, score_mod=log_strength, scale=1.0)


def locking(length, heads=2, dim=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    x = 0.3 * (4 / dim) ** 0.5 * torch.randn(1, heads, length, dim, generator=generator)
    value = torch.randn(1, heads, length, dim, generator=generator)
    g = torch.rand(1, heads, length, generator=generator)
    return x.to(DEVICE, dtype), value.to(DEVICE, dtype), g.to(DEVICE), torch.ones(heads).to(DEVICE)


def ours(x, value, g, decay, *, pruned=False):
    causal = Visibility(x.shape[2], x.shape[2], is_causal=True)
    return selective_synchronization(
        x, x, value, g, decay, visibility=causal, pruned=pruned, self_pairs=True, smoothing=0.0,
        edge_floor=1e-3,
    )[0]  # fmt: skip


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_computes_the_same_without_a_line_in_common():
    operands = locking(24, heads=1)
    torch.testing.assert_close(ours(*operands), flexible(*operands), rtol=1e-4, atol=1e-4)
    assert (ours(*operands) - operands[1]).abs().max() > 0.1


@pytest.mark.gpu
# Its compiler counsels TF32, which would be less exact than what is compared.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("length", [1024, 4096])
def test_compiled_flex_attention_agrees_at_length(length, dtype):
    torch.compiler.reset()
    operands = locking(length, heads=4, dim=64, dtype=dtype)
    limit = 1e-3 if dtype == torch.float32 else 3e-2
    want = flexible(*operands, compiled=True)
    for pruned in (False, True):
        torch.testing.assert_close(ours(*operands, pruned=pruned), want, rtol=limit, atol=limit)
