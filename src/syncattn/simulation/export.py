"""A trained layer on one input as a table of oscillators, anchors and couplings."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.nn import OscillatorAttention
from syncattn.reference import oscillator_attention_weights

__all__ = ["Network", "export_network", "read_network", "write_network_csv", "write_network_json"]

ASSUMPTIONS = (
    "weak coupling: amplitudes stay constant and only phases move",
    "first harmonic only: every coupling acts as the sine of a phase difference",
    "no second-harmonic injection locking: switch it off on an array built for Ising problems",
    "star topology: free oscillators couple to anchors alone, never to each other",
    "anchors are pinned: they do not move while the free oscillators settle",
    "identical natural frequencies: detuning must stay far below the drive of an oscillator",
    "amplitude of an anchor: its norm, a gain of all its couplings and of its read-out",
)
_DEVICES = {
    2: "two components: a phase oscillator",
    3: "three components: a macrospin with Gilbert damping settles at the same point",
    4: "four components: a unit quaternion, an SU(2) Lohe oscillator",
}
_FORMAT = "syncattn oscillator network 1"


@dataclass(frozen=True)
class Network:
    r"""The star networks of one layer for one sequence, one per head.

    Attributes:
        coupling: :math:`W`, ``[head][free oscillator][anchor]``; 0 where there is no link.
        anchor: :math:`r`, ``[head][anchor][component]``.
        visible: Whether a free oscillator reads an anchor, like `coupling`.
        readout_power: :math:`p` of :math:`(1 + g\, x \cdot r)^p`.
        readout_gain: :math:`g` by head.
        bits: Bits of the programmable levels; None gives no levels.
    """

    coupling: list[list[list[float]]]
    anchor: list[list[list[float]]]
    visible: list[list[list[bool]]]
    readout_power: int
    readout_gain: list[float]
    bits: int | None = None

    @property
    def oscillator_dim(self) -> int:
        """Components of an oscillator."""
        return len(self.anchor[0][0])

    def description(self) -> dict[str, Any]:
        """Returns ranges, dynamic range, the kind of device, and what is assumed."""
        W = torch.tensor(self.coupling, dtype=torch.float64)
        linked = W[W > 0]
        low, high = (float(linked.min()), float(linked.max())) if linked.numel() else (0.0, 0.0)
        rate = torch.linalg.vector_norm(W @ torch.tensor(self.anchor, dtype=torch.float64), dim=-1)
        dim = self.oscillator_dim
        unknown = f"{dim} components: no standard device is known for this number"
        heads, free, anchors = W.shape
        return {
            "format": _FORMAT,
            "measured": False,
            "layout": f"{heads} heads, each a bipartite star of {free} free oscillators and "
            f"{anchors} anchors",
            "num_couplings": linked.numel(),
            "oscillator_dim": dim,
            "device": _DEVICES.get(dim, unknown),
            "coupling_smallest": low,
            "coupling_largest": high,
            "dynamic_range_decibel": 20 * math.log10(high / low) if low else None,
            "settling_rate_smallest": float(rate.min()),
            "settling_rate_largest": float(rate.max()),
            "bits": self.bits,
            "normalisation": "each free oscillator's couplings over their largest; it changes the "
            "settling rate, not where an oscillator settles",
            "units": "phases in radians; couplings are rates in a unit that the device sets",
            "equation": "dx/dt = (I - x x^T) sum_j W_ij r_j; for two components "
            "dtheta_i/dt = sum_j W_ij |r_j| sin(phi_j - theta_i)",
            "readout": "a_ij = max(0, 1 + g x_i . r_j)^p over its sum along j",
            "assumptions": list(ASSUMPTIONS),
        }

    def states(self) -> Float[Tensor, "heads queries oscillator_dim"]:
        """Returns where the free oscillators settle, in float64."""
        drive = torch.tensor(self.coupling, dtype=torch.float64) @ torch.tensor(
            self.anchor, dtype=torch.float64
        )
        return drive / torch.linalg.vector_norm(drive, dim=-1, keepdim=True).clamp(min=1e-8)

    def weights(
        self, states: Float[Tensor, "heads queries oscillator_dim"] | None = None
    ) -> Float[Tensor, "heads queries keys"]:
        """Returns the attention that is read out.

        Args:
            states: Measured or integrated states; the settled ones when None.

        Returns:
            Rows that sum to 1.
        """
        x = self.states() if states is None else states.double()
        anchor = torch.tensor(self.anchor, dtype=torch.float64)
        gain = torch.tensor(self.readout_gain, dtype=torch.float64)
        return oscillator_attention_weights(
            x[None], anchor[None], readout_power=self.readout_power, readout_gain=gain,
            mask=torch.tensor(self.visible)[None],
        )[0]  # fmt: skip

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields one row per link: who, how strongly, at which level, against which phase."""
        for head, links in enumerate(self.coupling):
            for free, row in enumerate(links):
                top = max(row)
                for place, strength in enumerate(row):
                    if strength > 0:
                        yield {
                            "head": head,
                            "free_oscillator": free,
                            "anchor": place,
                            "conductance": strength,
                            "normalised": strength / top,
                            "level": _level(strength / top, self.bits),
                            **_place(self.anchor[head][place]),
                        }


def _level(normalised: float, bits: int | None) -> int | None:
    return None if bits is None else round(normalised * (2**bits - 1))


def _place(vector: list[float]) -> dict[str, float]:
    length = math.hypot(*vector)
    if len(vector) == 2:
        return {"anchor_phase": math.atan2(vector[1], vector[0]), "anchor_amplitude": length}
    named = {f"anchor_{k}": value for k, value in enumerate(vector)}
    return named | {"anchor_amplitude": length}


@torch.no_grad()
def export_network(
    layer: nn.Module,
    hidden_states: Float[Tensor, "batch length width"],
    *,
    bits: int | None = None,
    **visibility: Any,
) -> Network:
    """Returns the network that a trained layer programs for one sequence.

    Args:
        layer: The layer.
        hidden_states: What reaches it, one sequence.
        bits: Bits of the programmable levels, evenly spaced up to each oscillator's largest
            coupling; None for none.
        **visibility: As in the layer.

    Returns:
        The network.

    Raises:
        TypeError: If it is another kind of layer.
        ValueError: If there is more than one sequence, or bits are out of range, or numbers
            overflow.
    """
    if not isinstance(layer, OscillatorAttention):
        raise TypeError(
            f"`layer` must be an OscillatorAttention; got {type(layer).__name__}. Only its weights "
            f"come from free oscillators among anchors."
        )
    check.require_tensor(hidden_states, "hidden_states", "batch length width")
    if hidden_states.shape[0] != 1:
        raise ValueError(
            f"`hidden_states` must hold one sequence; got {hidden_states.shape[0]}. Couplings are "
            f"programmed per input: export them one by one."
        )
    if bits is not None:
        check.require_integer(bits, "bits", minimum=1)
        check.require_number(bits, "bits", maximum=24.0)
    star = layer.couplings(hidden_states, **visibility)
    W = star.coupling[0].double()
    mask = torch.ones((), dtype=torch.bool) if star.mask is None else star.mask[0]
    gain = getattr(layer, "readout_gain", None)
    gain = torch.as_tensor(1.0 if gain is None else gain).detach().double().cpu()
    return Network(
        coupling=W.tolist(),
        anchor=star.anchor[0].double().tolist(),
        visible=mask.to(W.device).expand(W.shape).tolist(),
        readout_power=layer.readout_power,
        readout_gain=gain.expand(W.shape[0]).tolist(),
        bits=bits,
    )


def write_network_csv(network: Network, path: Path) -> None:
    """Writes one line per link: head, free oscillator, anchor, conductance, level, phase.

    Args:
        network: The network.
        path: The file.
    """
    rows = list(network.rows())
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def write_network_json(network: Network, path: Path) -> None:
    """Writes the whole network with its description; `read_network` reads it back exactly.

    Args:
        network: The network.
        path: The file.
    """
    content: dict[str, Any] = {"description": network.description(), "network": asdict(network)}
    if network.oscillator_dim == 2:
        x = network.states()
        content["settled_phase"] = torch.atan2(x[..., 1], x[..., 0]).tolist()
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_network(path: Path) -> Network:
    """Reads what `write_network_json` wrote.

    Args:
        path: The file.

    Returns:
        The network.

    Raises:
        ValueError: If the file holds something else.
    """
    check.require_instance(path, "path", Path, "Wrap the name in pathlib.Path.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = content["description"]["format"] == _FORMAT
        return Network(**content["network"]) if known else _refuse(path)
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise _not_a_network(path) from error


def _refuse(path: Path) -> Network:
    raise _not_a_network(path)


def _not_a_network(path: Path) -> ValueError:
    return ValueError(
        f"`path` must be a file that write_network_json wrote; got {path}. Export the layer again."
    )
