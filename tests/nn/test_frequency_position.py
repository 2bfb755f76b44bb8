import pytest
import torch

from syncattn.nn.frequency_position import FrequencyPosition


def built(kind, **options):
    position = FrequencyPosition(kind, 2, 3, **options)
    position.reset_parameters(0.5, torch.tensor([0.1, 0.4]))
    return position


def test_a_coordinate_is_the_place_times_a_rate():
    position, omega = built("coordinate", window=(2.0, 10.0)), torch.randn(2, 2, 5, 3)
    torch.testing.assert_close(position.rate[:, 0].detach(), torch.tensor([0.25, 0.05]))
    out = position(omega)
    assert torch.equal(out[..., :3], omega)
    torch.testing.assert_close(out[1, 1, :, 3], 0.05 * torch.arange(5.0))


def test_a_single_head_reaches_the_geometric_mean_of_the_window():
    position = FrequencyPosition("coordinate", 1, 3, window=(2.0, 8.0))
    position.reset_parameters(0.5, torch.ones(1))
    torch.testing.assert_close(position.rate.detach(), torch.tensor([[0.125]]))


def test_a_drift_has_the_length_of_the_rate_and_keeps_the_dimension():
    position, omega = built("drift", window=(2.0, 10.0)), torch.randn(2, 2, 5, 3)
    torch.testing.assert_close(position.rate.norm(dim=-1), torch.tensor([0.25, 0.05]))
    step = (position(omega) - omega).diff(dim=2)
    torch.testing.assert_close(step, position.rate[:, None].expand_as(step), rtol=1e-4, atol=1e-6)


def test_a_table_counts_real_tokens_of_each_sequence():
    position, zero = built("learned", max_positions=6), torch.zeros(1, 2, 5, 3)
    table = position.table.detach()
    torch.testing.assert_close(table.std((1, 2)), torch.tensor([0.1, 0.4]), rtol=0.5, atol=0)
    assert torch.equal(position(zero)[0], table[:, :5])
    padded = torch.tensor([[False, False, True, True, True]])
    assert torch.equal(position(zero, padded)[0, :, 2:], table[:, :3])
    packed = position(zero, None, torch.tensor([0, 2, 5]))[0]
    assert torch.equal(packed, table[:, [0, 1, 0, 1, 2]])


def test_half_precision_becomes_single():
    for kind in ("coordinate", "drift", "learned"):
        out = built(kind, max_positions=5).bfloat16()(torch.zeros(1, 2, 5, 3).bfloat16())
        assert out.dtype == torch.float32


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`position` must be one of 'coordinate', 'drift'"):
        FrequencyPosition("absolute", 2, 3)
    with pytest.raises(ValueError, match="`max_positions` must be given"):
        FrequencyPosition("learned", 2, 3)
    with pytest.raises(TypeError, match="`max_positions` must be an integer"):
        FrequencyPosition("learned", 2, 3, max_positions=True)
