"""Calls that are right, and the ways in which they are then spoilt."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

EXTREMES = (
    0.0, -0.0, 5e-324, 1e-45,
    1e-38, 1e-20, 1e4, 1e19, 1e38, -1e38, torch.inf, -torch.inf, torch.nan,
)  # fmt: skip
JUNK = (
    None, True, -1, 0, 3, 2**70, 2.5, -1.0, 1e38, torch.inf, torch.nan, "text", "", [1.0], (), {},
    object(), b"bytes", 1j, torch.Size([2]), torch.float32,
)  # fmt: skip
DTYPES = (
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32,
    torch.uint8, torch.bool, torch.complex64,
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A public function as the fuzzer sees it.

    Attributes:
        name: What a failure is called.
        function: Called with keywords alone.
        draw: From a `Dice` to right arguments.
        check: From arguments and result to an assertion that the result is right.
        may_be_nan: Whether finite arguments may, as documented, give NaN.
        kept: Arguments that are never spoilt.
    """

    name: str
    function: Callable[..., Any]
    draw: Callable[["Dice"], dict[str, Any]]
    check: Callable[[dict[str, Any], Any], None] | None = None
    may_be_nan: Callable[[dict[str, Any]], bool] = lambda arguments: False
    kept: tuple[str, ...] = ()


class Dice(random.Random):
    """Random numbers of one case, and small tensors made of them."""

    def maybe(self, chance=0.3):
        return self.random() < chance

    def size(self, largest=5):
        """Returns a size, seldom 0."""
        return 0 if self.maybe(0.04) else self.randint(1, largest)

    @property
    def generator(self):
        return torch.Generator().manual_seed(self.getrandbits(32))

    @property
    def dtype(self):
        return self.choice((torch.float32, torch.float32, torch.float64, torch.float64,
                            torch.bfloat16, torch.float16))  # fmt: skip

    def normal(self, *shape, std=1.0, dtype=torch.float32):
        return (std * torch.randn(shape, generator=self.generator)).to(dtype)

    def positive(self, *shape, dtype=torch.float32):
        return (0.1 + 2 * torch.rand(shape, generator=self.generator)).to(dtype)

    def unit(self, *shape, dtype=torch.float32):
        x = torch.randn(shape, generator=self.generator)
        return (x / x.norm(dim=-1, keepdim=True)).to(dtype)

    def mask(self, *shape):
        return torch.rand(shape, generator=self.generator) < 0.7

    def integers(self, high, *shape):
        return torch.randint(high, shape, generator=self.generator)

    def some(self, **options):
        """Returns some of the options; each value is a function without arguments."""
        return {name: make() for name, make in options.items() if self.maybe()}


def extreme(dice, x):
    """Puts an extreme value into one place of a tensor, or everywhere."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        return x if isinstance(x, torch.Tensor | bool | str) or x is None else dice.choice(EXTREMES)
    value = torch.tensor(dice.choice(EXTREMES), dtype=torch.float64).to(x.dtype)
    everywhere = torch.ones_like(x, dtype=torch.bool)
    if x.numel() and dice.maybe(0.7):
        place = dice.randrange(x.numel())
        everywhere = (torch.arange(x.numel()) == place).reshape(x.shape)
    return torch.where(everywhere.to(x.device), value.to(x.device), x)


def another_dtype(dice, x):
    if not isinstance(x, torch.Tensor):
        return x
    return (x.real if x.is_complex() else x).to(dice.choice(DTYPES))


def another_layout(dice, x):
    """Keeps every value and moves it elsewhere in memory."""
    if not isinstance(x, torch.Tensor) or x.dim() == 0:
        return x
    kind = dice.randrange(4)
    if kind == 0:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == 1:
        return torch.stack([x, x], -1)[..., 0]
    if kind == 2:
        wider = torch.cat([x[..., :1], x], -1)
        return wider[..., min(1, x.shape[-1]) :]
    return x[..., :1].expand_as(x) if x.shape[-1] else x


def another_shape(dice, x):
    if not isinstance(x, torch.Tensor):
        return x
    kind = dice.randrange(6)
    if kind == 0 or x.dim() == 0:
        return x.unsqueeze(0)
    axis = dice.randrange(x.dim())
    if kind == 1:
        return x.select(axis, 0) if x.shape[axis] else x.unsqueeze(axis)
    if kind == 2:
        return x.narrow(axis, 0, max(0, x.shape[axis] - 1))
    if kind == 3:
        return torch.cat([x, x.narrow(axis, 0, min(1, x.shape[axis]))], axis)
    if kind == 4:
        return x.narrow(axis, 0, 0)
    return x.transpose(axis, dice.randrange(x.dim()))


def another_type(dice, x):
    return dice.choice(JUNK)


def another_device(dice, x):
    return x.to("meta") if isinstance(x, torch.Tensor) else x


def left_out(dice, x):
    return LEFT_OUT


LEFT_OUT = object()
SPOIL = {
    function.__name__: function
    for function in (
        extreme, another_dtype, another_layout, another_shape, another_type, another_device,
        left_out,
    )
}  # fmt: skip


def spoilt(dice, arguments, ways, kept):
    """Returns arguments of which some were changed, in these ways."""
    changed = dict(arguments)
    for way in ways:
        names = [name for name in changed if name not in kept]
        if not names:
            break
        name = dice.choice(names)
        value = SPOIL[way](dice, changed[name])
        if value is LEFT_OUT:
            del changed[name]
        else:
            changed[name] = value
    return changed


WAYS = st.lists(st.sampled_from(list(SPOIL)), max_size=2)


@st.composite
def cases(draw, targets):
    """Draws a target and its arguments, spoilt in none, one or two ways."""
    target = draw(st.sampled_from(targets))
    dice = Dice(draw(st.integers(0, 2**31)))
    ways = draw(WAYS)
    return target, spoilt(dice, target.draw(dice), ways, target.kept)
