"""The mark by which an optimizer knows what it must not shrink."""

from __future__ import annotations

from typing import Any, cast

from torch import nn


def without_decay(module: nn.Module, *names: str) -> None:
    """Marks parameters of a module to be left out of weight decay.

    Phases, rates, anchors, gains and couplings have no meaningful zero to shrink to. The mark is
    the attribute `_no_weight_decay` of the module, which `undecayed` reads: True, or the names of
    the parameters meant. A copy of the module keeps it; that of a parameter would lose it.

    Args:
        module: The module that holds them.
        *names: The parameters, None among them passed over; all that it holds, its modules
            included, when no name is given.
    """
    marked: tuple[str, ...] = getattr(module, "_no_weight_decay", ())
    cast("Any", module)._no_weight_decay = (*marked, *names) if names else True


def undecayed(model: nn.Module) -> set[int]:
    """Returns the `id` of every parameter of a model that carries a mark, or whose module does.

    Args:
        model: A network, copied or not, whose parameters may bear `_no_weight_decay = True`
            themselves.
    """
    found = {id(p) for p in model.parameters() if getattr(p, "_no_weight_decay", False)}
    for module in model.modules():
        mark: Any = getattr(module, "_no_weight_decay", ())
        if mark is True:
            found |= {id(parameter) for parameter in module.parameters()}
        elif isinstance(mark, tuple):
            names = cast("tuple[str, ...]", mark)
            found |= {id(getattr(module, name)) for name in names if name in module._parameters}
    return found
