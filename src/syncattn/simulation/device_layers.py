"""Trained layers run on a device: forward as the device would, backward as the clean layer."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.nn import OscillatorAttention
from syncattn.simulation.device_attention import device_weights, predicted_angle
from syncattn.simulation.device_random import Draws
from syncattn.simulation.devices import Device

__all__ = ["DeviceRun", "LayerStatistics", "on_device", "oscillator_layers"]

SMALL_ANGLE = 0.5
"""Radians up to which a first-order prediction is compared with what was simulated."""


class LayerStatistics(NamedTuple):
    """What a device did to the oscillators of one layer.

    Attributes:
        name: The layer's name in the model.
        num_oscillators: Oscillators read, over all calls, sequences, heads and tokens.
        rms_angle: Rms angle between a reading and the ideal settled state, over the oscillators
            for which theory predicts less than 0.5 rad; NaN where there are none. One whose drive
            cancels exactly has no such prediction, and is left out.
        predicted_rms_angle: What theory predicts for the same oscillators, started at random.
        predictable_share: Their share.
        median_angle: Median angle over all oscillators.
        unlocked_share: Share whose detuning is stronger than its drive; None without detuning.
        bistable_share: Share with two places to settle; None without a second harmonic.
    """

    name: str
    num_oscillators: int
    rms_angle: float
    predicted_rms_angle: float
    predictable_share: float
    median_angle: float
    unlocked_share: float | None
    bistable_share: float | None


class DeviceRun:
    """Layers on a device, and what was seen of them.

    Args:
        layers: The layers by name.
        device: The device.
        seed: Which chip, and which noise.
        measure: Whether angles are recorded.
    """

    def __init__(
        self, layers: dict[str, OscillatorAttention], device: Device, seed: int, measure: bool
    ) -> None:
        self.layers, self.device, self.seed, self.measure = layers, device, seed, measure
        self._draws: dict[str, Draws] = {}
        self._seen: dict[str, list[dict[str, Tensor | None]]] = {name: [] for name in layers}

    def statistics(self) -> list[LayerStatistics]:
        """Returns what was recorded of every layer so far.

        Returns:
            One entry per layer that was called.

        Raises:
            RuntimeError: If nothing was recorded, because `measure` was False.
        """
        if not self.measure:
            raise RuntimeError(
                "`measure` must be True to record statistics; got False. Pass measure=True to "
                "on_device."
            )
        return [_statistics(name, seen) for name, seen in self._seen.items() if seen]

    def angles(self) -> list[Float[Tensor, " driven"]]:
        """Returns the angles to the driving field of every call, in radians, where one was found.

        Returns:
            One tensor per call and layer, of the oscillators that are driven.
        """
        calls = [call["angle"] for seen in self._seen.values() for call in seen]
        return [angle for angle in calls if angle is not None]

    @torch.no_grad()
    def attend(
        self, name: str, hidden_states: Float[Tensor, "batch length width"], **visibility: Any
    ) -> Float[Tensor, "batch length width"]:
        """Returns what a layer on the device makes of its input, without gradients.

        Args:
            name: The layer's name.
            hidden_states: Its input.
            **visibility: As in the layer, without `initial_oscillator`.

        Returns:
            The stream.
        """
        layer = self.layers[name]
        star = layer.couplings(hidden_states, **visibility)
        W, r = star.coupling, star.anchor
        gain = getattr(layer, "readout_gain", None)
        weights, state, settled = device_weights(
            W, r, self.device, self._draws_of(name, W.device), mask=star.mask,
            readout_power=layer.readout_power,
            readout_gain=1.0 if gain is None else _per_head(gain),
        )  # fmt: skip
        if self.measure:
            found = _angles(W, r, state, self.device)
            found |= {"unlocked": settled.unlocked, "bistable": settled.bistable}
            driven = W.sum(-1) > 0
            self._seen[name].append({
                k: None if v is None else v[driven].cpu() for k, v in found.items()
            })
        return layer.project((weights @ star.value).to(hidden_states.dtype))

    def _draws_of(self, name: str, device: torch.device) -> Draws:
        if name not in self._draws or self._draws[name].device != device:
            index = list(self.layers).index(name)
            self._draws[name] = Draws(self.seed, index, self.device.draw == "chip", device)
        return self._draws[name]


def _per_head(gain: Any) -> Any:
    return gain[:, None, None] if isinstance(gain, torch.Tensor) and gain.dim() == 1 else gain


def _angles(
    coupling: Tensor, anchor: Tensor, state: Tensor, device: Device
) -> dict[str, Tensor | None]:
    h = coupling @ anchor
    e = h / torch.linalg.vector_norm(h, dim=-1, keepdim=True).clamp(min=1e-30)
    along = (state * e).sum(-1)
    across = torch.linalg.vector_norm(state - along.unsqueeze(-1) * e, dim=-1)
    angle = torch.atan2(across, along)
    return {"angle": angle, "predicted": predicted_angle(coupling, anchor, device)}


def _statistics(name: str, seen: list[dict[str, Tensor | None]]) -> LayerStatistics:
    def joined(key: str) -> Tensor | None:
        parts = [part for call in seen if (part := call[key]) is not None]
        return torch.cat(parts).double() if parts else None

    def share(key: str) -> float | None:
        found = joined(key)
        return None if found is None else float(found.mean())

    angle, predicted = joined("angle"), joined("predicted")
    assert angle is not None
    assert predicted is not None
    small = predicted < SMALL_ANGLE
    return LayerStatistics(
        name=name,
        num_oscillators=angle.numel(),
        rms_angle=_rms(angle[small]),
        predicted_rms_angle=_rms(predicted[small]),
        predictable_share=float(small.double().mean()),
        median_angle=float(angle.median()),
        unlocked_share=share("unlocked"),
        bistable_share=share("bistable"),
    )


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt()) if x.numel() else math.nan


def oscillator_layers(model: nn.Module) -> dict[str, OscillatorAttention]:
    """Returns the oscillator attention layers of a model by name.

    Args:
        model: A model, or a layer itself.

    Returns:
        The layers in order.

    Raises:
        ValueError: If there are none.
    """
    check.require_instance(model, "model", nn.Module, "Pass a model or a layer.")
    layers = {
        name or "layer": module
        for name, module in model.named_modules()
        if isinstance(module, OscillatorAttention)
    }
    if not layers:
        kinds = {
            type(m).__name__ for m in model.modules() if "attention" in type(m).__name__.lower()
        }
        found = ", ".join(sorted(kinds)) or f"a {type(model).__name__} without attention"
        raise ValueError(
            f"`model` must be or hold an OscillatorAttention layer; got {found}. A device settles "
            f"free oscillators among anchors: train a model with mechanism='oscillator'."
        )
    return layers


@contextmanager
def on_device(
    model: nn.Module, device: Device, *, seed: int = 0, measure: bool = False
) -> Generator[DeviceRun]:
    """Runs every oscillator attention layer of a trained model on a device while the block lasts.

    The forward pass is the device's. The backward pass is the clean layer's, at the clean layer's
    values (straight through), so a model can be fine-tuned to its hardware; without gradients the
    clean layer is not computed. Whole sequences alone are run, no decoding steps. On a chip, what
    is built belongs to the seed, the layer, and the row and column of a sequence.

    Another wrapper around a layer's ``forward`` is left where it is and sees the clean layer only.

    Args:
        model: A model or a layer; layers of other mechanisms stay as they are.
        device: The device.
        seed: Which chip, and which noise; the same seed gives the same numbers.
        measure: Whether to record angles, which costs time and memory.

    Yields:
        The run, whose `statistics` tell what happened to the oscillators.

    Raises:
        ValueError: If there is no oscillator attention.
        RuntimeError: If a layer is on a device already.

    Example:
        >>> layer = OscillatorAttention(8, 2, max_positions=4)
        >>> x = torch.randn(1, 4, 8)
        >>> with on_device(layer, Device(read_noise=0.1)):
        ...     noisy = layer(x, is_causal=True)
        >>> torch.equal(noisy, layer(x, is_causal=True))
        False
    """
    check.require_integer(seed, "seed", minimum=0)
    layers = oscillator_layers(model)
    taken = [name for name, layer in layers.items() if _on_device(layer)]
    if taken:
        raise RuntimeError(
            f"`model` must not be on a device already; got {', '.join(taken)}. Leave the inner "
            f"block first."
        )
    run = DeviceRun(layers, device, seed, measure)
    # Other libraries, too, wrap a method by setting it on the instance.
    before = {
        name: {key: vars(layer)[key] for key in ("forward", "step") if key in vars(layer)}
        for name, layer in layers.items()
    }
    try:
        for name, layer in layers.items():
            vars(layer)["forward"] = functools.partial(_forward, run, name, layer.forward)
            vars(layer)["step"] = _refuse_step
        yield run
    finally:
        for name, layer in layers.items():
            for key in ("forward", "step"):
                vars(layer).pop(key, None)
            vars(layer).update(before[name])


def _on_device(layer: OscillatorAttention) -> bool:
    forward = inspect.unwrap(layer.forward)
    return isinstance(forward, functools.partial) and forward.func is _forward


def _forward(
    run: DeviceRun, name: str, clean_forward: Any, hidden_states: Tensor, **visibility: Any
) -> Tensor:
    # Where oscillators begin is the device's own affair.
    visibility.pop("initial_oscillator", None)
    noisy = run.attend(name, hidden_states, **visibility)
    if not torch.is_grad_enabled():
        return noisy
    clean = clean_forward(hidden_states, **visibility)
    return clean + (noisy - clean).detach()


def _refuse_step(*_: Any, **__: Any) -> Tensor:
    raise RuntimeError(
        "A layer on a device must be given whole sequences; got one step of a decoding. Pass "
        "use_cache=False to generate."
    )
