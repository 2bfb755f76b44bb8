import copy
import math

import pytest
import torch

from syncattn.nn.anchors import (
    KINDS,
    PERIODS,
    TABLES,
    UNLIMITED,
    Anchors,
    RotaryAnchors,
    build_anchors,
    require_places,
)

WIDTH, HEADS = 8, 3
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def build(kind, dim=4, max_positions=9):
    return build_anchors(kind, WIDTH, HEADS, dim, max_positions=max_positions)


def tokens(length=9, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, WIDTH, generator=generator)


@EVERY_KIND
@pytest.mark.parametrize("dim", [2, 3, 8])
def test_every_kind_keeps_the_protocol(kind, dim):
    module, x = build(kind, dim), tokens()
    assert isinstance(module, Anchors)
    for place in (torch.arange(9), torch.arange(9).flip(0).expand(2, 9)):
        rows = module(x, place)
        assert rows.shape[0] in {1, 2}
        assert rows.shape[1:] == (HEADS, 9, dim)
        assert rows.dtype == torch.float32
        assert rows.norm(dim=-1).min() > 0
        if module.bounded:
            assert rows.norm(dim=-1).max() <= 1 + 1e-6
    assert module.bounded == (kind != "free")
    assert (module.max_positions is None) == (kind in UNLIMITED)
    assert module.double()(x.double(), torch.arange(9)).dtype == torch.float64
    assert module.bfloat16()(x.bfloat16(), torch.arange(9)).dtype == torch.float32


@EVERY_KIND
def test_anchors_of_extreme_parameters_stay_bounded_with_finite_gradients(kind):
    for size in (1e-15, 1e6):
        module = build(kind)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(size)
        rows = module(tokens(), torch.arange(9))
        assert rows.isfinite().all()
        if module.bounded:
            assert rows.norm(dim=-1).max() <= 1 + 1e-6
        rows.sum().backward()
        assert all(p.grad.isfinite().all() for p in module.parameters())


@EVERY_KIND
def test_every_parameter_learns_and_is_drawn_again(kind):
    module = build(kind)
    module(tokens(), torch.arange(9)).square().mul(torch.rand(4)).sum().backward()
    assert all(p.grad.any() for p in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
    module.reset_parameters()
    assert all(p.isfinite().all() for p in module.parameters())


# theory: OA-14
def test_tables_begin_on_the_sphere_and_follow_their_norm():
    for kind, fresh, scaled in (("unit", 1.0, 1.0), ("ball", 0.5**0.5, 0.9**0.5), ("free", 1, 3)):
        module = build(kind)
        size = module(tokens(), torch.arange(9)).norm(dim=-1)
        torch.testing.assert_close(size, torch.full_like(size, fresh))
        with torch.no_grad():
            module.raw_anchor.mul_(3.0)
        size = module(tokens(), torch.arange(9)).norm(dim=-1)
        torch.testing.assert_close(size, torch.full_like(size, scaled))


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_by_place(kind):
    module, x = build(kind), tokens()
    order = module(x, torch.arange(9))
    place = torch.tensor([[3, 0, 8], [1, 1, 2]])
    rows = module(x[:, :3], place)
    for batch in range(2):
        torch.testing.assert_close(rows[batch], order[0][:, place[batch]])


@pytest.mark.parametrize("kind", TABLES)
def test_a_vanished_vector_is_refused_where_its_direction_is_read(kind):
    module = build(kind)
    with torch.no_grad():
        module.raw_anchor[1, 4:6] = 0
    assert module(tokens(3), torch.arange(3)).norm(dim=-1).min() > 0
    if kind != "unit":
        assert module(tokens(6), torch.arange(6)).isfinite().all()
        return
    with pytest.raises(ValueError, match="`anchor` must have vectors of length above 0; got 2"):
        module(tokens(6), torch.arange(6))


@pytest.mark.parametrize("size", [1e-3, 1e-8, 1e-30])
def test_unit_anchors_have_length_one_however_short_the_table(size):
    module = build("unit")
    direction = module(tokens(), torch.arange(9)).detach()
    with torch.no_grad():
        module.raw_anchor.mul_(size)
    torch.testing.assert_close(module(tokens(), torch.arange(9)), direction)


def test_rotation_is_as_accurate_far_out_as_near():
    module = build("rotary")
    exact = copy.deepcopy(module).double()
    for place in (torch.tensor([0, 3, 4095]), torch.tensor([10**5, 999_999, 10**6])):
        wanted = exact(tokens(3).double(), place)
        assert (module(tokens(3), place) - wanted).abs().max() < 1e-3
    # Exact in the first stretch, where records were made.
    near = torch.arange(9)
    turn = near[:, None] * module.rate[:, None]
    r = module.raw_anchor / (1 + module.raw_anchor.square().sum(-1, keepdim=True)).sqrt()
    first = r[:, None, 0::2] * turn.cos() - r[:, None, 1::2] * turn.sin()
    torch.testing.assert_close(module(tokens(), near)[0, ..., 0::2], first)


def test_content_anchors_follow_the_token_and_not_the_place():
    module, x = build("content"), tokens()
    rows = module(x, torch.arange(9))
    flipped = module(x.flip(1), torch.arange(9) + 5)
    torch.testing.assert_close(flipped.flip(2), rows)
    raw = (x @ module.anchor_proj.weight.mT).unflatten(-1, (HEADS, 4)).transpose(1, 2)
    expected = raw / (1 + raw.square().sum(-1, keepdim=True)).sqrt()
    torch.testing.assert_close(rows, expected)
    assert module(torch.zeros(1, 2, WIDTH), torch.arange(2)).eq(0).all()


# theory: OA-15
def test_rotary_anchors_turn_each_plane_at_its_rate():
    module = build("rotary", dim=5).double()
    r0 = module.raw_anchor / (1 + module.raw_anchor.square().sum(-1, keepdim=True)).sqrt()
    place = torch.tensor([0, 1, 7])
    rows = module(tokens(3).double(), place)
    z = torch.view_as_complex(r0[:, :4].reshape(HEADS, 2, 2).contiguous())
    turned = z[:, None] * torch.exp(1j * module.rate[:, None] * place[:, None])
    torch.testing.assert_close(rows[0, ..., :4], torch.view_as_real(turned).flatten(-2))
    torch.testing.assert_close(rows[0, ..., 4], r0[:, None, 4].expand(HEADS, 3))


@pytest.mark.parametrize("kind", ["rotary", "rotary-content"])
def test_a_shift_of_place_turns_all_anchors_alike(kind):
    module, x = build(kind).double(), tokens().double()
    place = torch.arange(9)
    near, far = module(x, place), module(x, place + 1000)
    torch.testing.assert_close(near @ near.mT, far @ far.mT, rtol=1e-9, atol=1e-9)
    assert (near - far).abs().max() > 0.1
    torch.testing.assert_close(near.norm(dim=-1), far.norm(dim=-1))


def test_content_turned_by_nothing_is_content():
    module, x = build("rotary-content"), tokens()
    where = torch.zeros(9, dtype=torch.long)
    torch.testing.assert_close(module(x, where), module.content(x, where))


def test_rates_span_the_periods_in_every_head():
    rate = RotaryAnchors(4, 16).rate
    period = 2 * math.pi / rate
    torch.testing.assert_close(period.min().item(), PERIODS[0], rtol=1e-5, atol=0.0)
    torch.testing.assert_close(period.max().item(), PERIODS[1], rtol=1e-5, atol=0.0)
    assert (period.amin(-1) < 2 * PERIODS[0]).all()
    assert (period.amax(-1) > PERIODS[1] / 2).all()


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="`anchors` must be one of 'ball', 'unit', 'free', 'con"):
        build("cube")
    for kind in TABLES:
        with pytest.raises(ValueError, match=r"`max_positions` must be given.*'rotary-content'"):
            build(kind, max_positions=None)
        with pytest.raises(ValueError, match="`max_positions` must be at least 1"):
            build(kind, max_positions=0)
        with pytest.raises(ValueError, match=r"got 9 anchors \('\w+'\) and 10 .*'content', 'rot"):
            require_places(build(kind), kind, 10)
    for kind in UNLIMITED:
        require_places(build(kind, max_positions=None), kind, 10_000)
