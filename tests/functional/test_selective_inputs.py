import pytest
import torch

from syncattn.functional.selective_inputs import Options, checked


def prepared(omega, **options):
    return checked(omega, omega, None, Options(1.3, 1.1, **options))


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_origin_lies_near_the_tokens(offset):
    omega = torch.randn(2, 2, 9, 3) + offset
    for options in (
        {}, {"is_causal": True}, {"key_mask": torch.ones(2, 9).bool()},
        {"attn_mask": torch.ones(9, 9).bool().tril()},
    ):  # fmt: skip
        moved = prepared(omega, **options)
        assert torch.equal(moved.query_frequency, moved.key_frequency)
        assert moved.key_frequency.abs().max() < 10
        torch.testing.assert_close(
            moved.key_frequency.diff(dim=2), omega.diff(dim=2), rtol=0, atol=1e-3
        )


def test_the_future_does_not_move_the_origin():
    omega = torch.randn(1, 1, 9, 3)
    mask = torch.ones(9, 9).bool()
    mask[:, :5] = False
    later = omega.clone()
    later[:, :, 5:] += 100.0
    for options in ({}, {"attn_mask": mask}):
        before, after = (prepared(x, is_causal=True, **options) for x in (omega, later))
        assert torch.equal(before.query_frequency[:, :, :5], after.query_frequency[:, :, :5])


def test_scaled_frequencies_make_the_threshold_one_number():
    omega = torch.randn(1, 2, 4, 3, dtype=torch.float64)
    inputs = prepared(omega, order_parameter=torch.full((1, 2, 4), 0.5, dtype=torch.float64))
    query, key, g = inputs.scaled()
    x = (query[:, :, :, None] - key[:, :, None]).square().sum(-1)
    dense = ((-x).exp() - g[..., None] * x).clamp(min=0).sqrt()
    torch.testing.assert_close(dense, inputs.dense())
    torch.testing.assert_close(g, torch.full_like(g, 1 / (2 * 1.1 * (1.3 * 0.5) ** 2)))


def test_without_coherence_the_threshold_is_finite():
    inputs = prepared(torch.randn(1, 1, 4, 3), order_parameter=torch.zeros(1, 1, 4))
    assert inputs.scaled()[2].isfinite().all()
    assert torch.equal(inputs.dense()[0, 0], torch.eye(4))


def test_tokens_are_recognised_as_themselves():
    key = torch.randn(1, 1, 6, 2)

    def guess(query, **options):
        return checked(query, key, None, Options(1.3, 1.1, **options)).self_pairs

    assert guess(key)
    assert guess(key[:, :, 2:])
    assert not guess(key.clone())
    assert not guess(key[:, :, :4])
    assert guess(key.clone(), self_pairs=True)
    assert not guess(key, self_pairs=False)
