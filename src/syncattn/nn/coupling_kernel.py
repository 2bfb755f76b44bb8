"""The coupling kernel of a layer: every coefficient has a name, can be set, frozen and printed."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict, Unpack

import torch
from torch import nn

from syncattn import _validation as check
from syncattn._typing import Complex, Float, Tensor
from syncattn.functional import wrap_phase
from syncattn.nn.decay import without_decay

Coefficients = Float[Tensor, "heads delays harmonics width"]


class Coefficient(NamedTuple):
    r"""One coefficient of a coupling kernel, one number per coordinate or one for all.

    Attributes:
        amplitude: :math:`|a|`, at least 0.
        frustration: :math:`\alpha` in radians, attractive together with a positive sign while its
            absolute value is below :math:`\pi / 2`.
        sign: 1 attracts, -1 repels, 0 does nothing.
    """

    amplitude: Float[Tensor, " width"]
    frustration: Float[Tensor, " width"]
    sign: Float[Tensor, " width"]

    @property
    def value(self) -> Complex[Tensor, " width"]:
        r"""The complex coefficient :math:`\kappa = \pm|a| e^{i\alpha}`."""
        return torch.polar(self.amplitude, self.frustration) * self.sign


class Chosen(TypedDict, total=False):
    """What `CouplingKernel.freeze` and `unfreeze` take.

    Attributes:
        amplitude: Whether amplitudes and signs are meant.
        frustration: Whether frustration angles are meant; both are when neither is named.
        delay: Which delay; all when None or left out.
        harmonic: Which harmonic, from 1; all when None or left out.
        head: Which head; all when None or left out.
        coordinate: Which coordinate; all when None or left out.
    """

    amplitude: bool
    frustration: bool
    delay: int | None
    harmonic: int | None
    head: int | None
    coordinate: int | None


def coupled_coordinates(like: Tensor, share: float) -> Float[Tensor, " width"]:
    """Returns 1 for the coordinates of a head that start coupled, evenly spread, and 0 for others.

    A coordinate without coupling keeps the token's own phase while the others take up what the
    token attends to: with all of them coupled a token forgets itself.

    Args:
        like: A tensor whose last axis are the coordinates; a single one stands for all.
        share: Share of the coordinates, from 0 to 1.
    """
    width = like.shape[-1]
    if width == 1:
        return torch.ones_like(like[..., :1].flatten()[:1])
    place = torch.arange(width + 1, dtype=torch.float64, device=like.device)
    # A rounded product lies a little above its integer now and then: 0.07 of 100.
    return torch.ceil((place * share).round(decimals=9)).diff().to(like.dtype)


class CouplingKernel(nn.Module):
    r"""The complex kernel :math:`\kappa_{sm} = a_{sm} e^{i\alpha_{sm}}` of each head.

    Delays :math:`s = 0 \dots S - 1` and harmonics :math:`m = 1 \dots M` are counted as in the
    equation; all tensors are ``(heads, delays, harmonics, width)``. A frozen entry keeps its value
    whatever an optimizer does. Theory: FS-1, FS-2.

    Args:
        num_heads: Number of heads.
        num_delays: :math:`S`; 1 couples to the tokens seen, 2 to their successors too.
        num_harmonics: :math:`M`.
        width: Coordinates of a head, or 1 for one kernel per head.
        amplitude: Initial amplitude of the first harmonics; the others start at 0.
        coupled: Share of the coordinates, evenly spread, that start with it; the rest start at 0
            and keep the token's own phase. A kernel of width 1 starts coupled.
        learn_frustration: False fixes all frustration angles at 0.
        delay_only: Fix the amplitudes of delay 0 at 0.
        repulsion: Whether amplitudes may be negative; False keeps them at least 0, and starts
            those that would start at 0 a little above, where they have a gradient.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a count is too small.
    """

    amplitude_frozen: Tensor
    frustration_frozen: Tensor
    fixed_amplitude: Tensor
    fixed_frustration: Tensor

    def __init__(
        self,
        num_heads: int,
        num_delays: int,
        num_harmonics: int,
        width: int = 1,
        *,
        amplitude: float = 1.0,
        coupled: float = 1.0,
        learn_frustration: bool = True,
        delay_only: bool = False,
        repulsion: bool = True,
    ) -> None:
        super().__init__()
        without_decay(self)
        check.require_integer(num_heads, "num_heads", minimum=1)
        check.require_integer(num_delays, "num_delays", minimum=2 if delay_only else 1)
        check.require_integer(num_harmonics, "num_harmonics", minimum=1)
        check.require_integer(width, "width", minimum=1)
        check.require_number(amplitude, "amplitude", minimum=0.0)
        check.require_number(coupled, "coupled", minimum=0.0, maximum=1.0)
        shape = (num_heads, num_delays, num_harmonics, width)
        self.initial_amplitude = amplitude
        self.coupled = coupled
        self.learn_frustration = learn_frustration
        self.delay_only = delay_only
        self.repulsion = repulsion
        self._stopped: set[str] = set()
        self.raw_amplitude = nn.Parameter(torch.empty(shape))
        self.raw_frustration = nn.Parameter(torch.empty(shape)) if learn_frustration else None
        for name in ("amplitude", "frustration"):
            self.register_buffer(f"{name}_frozen", torch.zeros(shape, dtype=torch.bool))
            self.register_buffer(f"fixed_{name}", torch.zeros(shape))
        self.register_load_state_dict_post_hook(_stop_what_is_frozen)
        self.reset_parameters()

    @property
    def num_heads(self) -> int:
        """Number of heads."""
        return self.raw_amplitude.shape[0]

    @property
    def num_delays(self) -> int:
        """Number of delays, 0 included."""
        return self.raw_amplitude.shape[1]

    @property
    def num_harmonics(self) -> int:
        """Number of harmonics."""
        return self.raw_amplitude.shape[2]

    def reset_parameters(self) -> None:
        """Starts at Kuramoto coupling to tokens and their successors, hardly frustrated."""
        with torch.no_grad():
            # The absolute value has no gradient at exactly 0.
            least = 0.0 if self.repulsion else 0.02
            self.raw_amplitude.fill_(least)
            first = self.initial_amplitude * coupled_coordinates(self.raw_amplitude, self.coupled)
            self.raw_amplitude[:, :, 0] = torch.where(first == 0, least, first)
            if self.raw_frustration is not None:
                self.raw_frustration.normal_(std=0.02)
            for buffer in self.buffers(recurse=False):
                buffer.zero_()
            if self.raw_frustration is None:
                self.frustration_frozen.fill_(True)
            if self.delay_only:
                self.amplitude_frozen[:, 0] = True
        _stop_what_is_frozen(self)

    @property
    def signed_amplitude(self) -> Coefficients:
        """The amplitudes with their signs; negative repels."""
        learned = self.raw_amplitude if self.repulsion else self.raw_amplitude.abs()
        return torch.where(self.amplitude_frozen, self.fixed_amplitude, learned)

    @property
    def amplitude(self) -> Coefficients:
        """The absolute amplitudes."""
        return self.signed_amplitude.abs()

    @property
    def sign(self) -> Coefficients:
        """1 where a coefficient attracts, -1 where it repels, 0 where it does nothing."""
        return self.signed_amplitude.sign()

    @property
    def frustration(self) -> Coefficients:
        """The frustration angles in radians, as learned: any real value."""
        if self.raw_frustration is None:
            return self.fixed_frustration
        return torch.where(self.frustration_frozen, self.fixed_frustration, self.raw_frustration)

    @property
    def value(self) -> Complex[Tensor, "heads delays harmonics width"]:
        r"""The complex coefficients :math:`\kappa_{sm}`, at least in single precision."""
        amplitude, angle = self.signed_amplitude, self.frustration
        if amplitude.dtype in {torch.float16, torch.bfloat16}:
            amplitude, angle = amplitude.float(), angle.float()
        return torch.complex(amplitude * angle.cos(), amplitude * angle.sin())

    def coefficient(
        self, *, delay: int, harmonic: int, head: int, coordinate: int | None = None
    ) -> Coefficient:
        """Returns one coefficient by its name.

        Args:
            delay: 0 for the token seen, 1 for its successor.
            harmonic: From 1.
            head: From 0.
            coordinate: From 0; all coordinates when None.

        Returns:
            Amplitude, frustration and sign, one entry per coordinate.
        """
        where = self._where(delay, harmonic, head, coordinate)
        tensors = (self.amplitude, self.frustration, self.sign)
        return Coefficient(*(x[where].reshape(-1) for x in tensors))

    @torch.no_grad()
    def set(
        self,
        *,
        delay: int | None = None,
        harmonic: int | None = None,
        head: int | None = None,
        coordinate: int | None = None,
        amplitude: float | Tensor | None = None,
        frustration: float | Tensor | None = None,
        sign: int | None = None,
    ) -> None:
        """Sets coefficients, frozen ones too; what is not named stays.

        Args:
            delay: Which delay; all when None.
            harmonic: Which harmonic, from 1; all when None.
            head: Which head; all when None.
            coordinate: Which coordinate; all when None.
            amplitude: At least 0; a tensor must broadcast to the selection.
            frustration: Radians.
            sign: 1 or -1. When an amplitude comes without one, the old sign stays (1 for none).

        Raises:
            ValueError: If a value is out of range, a name does not exist, the angles are fixed at
                0, or a kernel without repulsion would repel.
        """
        where = self._where(delay, harmonic, head, coordinate)
        if sign is not None:
            check.require_choice(sign, "sign", (1, -1) if self.repulsion else (1,))
        if amplitude is not None or sign is not None:
            old = self.signed_amplitude[where]
            size = old.abs() if amplitude is None else torch.as_tensor(amplitude).to(old)
            check.require_finite(size, "amplitude")
            if bool((size < 0).any()):
                raise ValueError(
                    f"`amplitude` must be at least 0; got {float(size.min()):g}. Pass the sign as "
                    f"`sign=-1`."
                )
            signs = torch.where(old < 0, -1.0, 1.0) if sign is None else float(sign)
            self.raw_amplitude[where] = self.fixed_amplitude[where] = size * signs
        if frustration is not None:
            if self.raw_frustration is None:
                raise ValueError(
                    "`frustration` must be learned to be set; got a kernel whose angles are fixed "
                    "at 0. Build the layer with `frustration=True`, then freeze what must stay."
                )
            angle = torch.as_tensor(frustration).to(self.raw_frustration)
            check.require_finite(angle, "frustration")
            self.raw_frustration[where] = self.fixed_frustration[where] = angle

    def freeze(self, **chosen: Unpack[Chosen]) -> None:
        """Keeps coefficients at their values; amplitude and frustration both when none is named.

        Args:
            **chosen: See `Chosen`: the amplitudes with their signs, the frustration angles, and
                where.
        """
        self._hold(True, **chosen)

    def unfreeze(self, **chosen: Unpack[Chosen]) -> None:
        """Lets coefficients learn from the values they have; both kinds when none is named.

        Angles that `learn_frustration=False` fixed at 0 stay.

        Args:
            **chosen: See `Chosen`.
        """
        self._hold(False, **chosen)

    def table(self) -> str:
        """Returns the kernel as a table, one line per head, delay and harmonic.

        Over coordinates it shows the root mean square amplitude, the share of attractive ones, and
        modulus and angle of the mean complex coefficient relative to the amplitudes: the angle
        counts a negative sign as half a turn.
        """
        amplitude, value = self.signed_amplitude.detach().float(), self.value.detach()
        strength = amplitude.square().mean(-1).sqrt()
        attractive = (amplitude > 0).float().mean(-1)
        mean = value.mean(-1)
        agreement = mean.abs() / amplitude.abs().mean(-1).clamp(min=1e-30)
        angle = wrap_phase(mean.angle())
        lines = ["head delay harmonic amplitude attractive angle/rad agreement frozen"]
        for h in range(self.num_heads):
            for s in range(self.num_delays):
                for m in range(self.num_harmonics):
                    at = (h, s, m)
                    held = {
                        "a": self.amplitude_frozen[at], "α": self.frustration_frozen[at]
                    }  # fmt: skip
                    frozen = "".join(name for name, mask in held.items() if bool(mask.all()))
                    lines.append(
                        f"{h:4d} {s:5d} {m + 1:8d} {strength[at]:9.3f} {attractive[at]:10.0%} "
                        f"{angle[at]:+9.3f} {agreement[at]:9.2f} {frozen or '-':>6}"
                    )
        return "\n".join(lines)

    def extra_repr(self) -> str:
        """Returns the sizes and how much is frozen."""
        heads, delays, harmonics, width = self.raw_amplitude.shape
        frozen = int(self.amplitude_frozen.sum()), int(self.frustration_frozen.sum())
        return (
            f"heads={heads}, delays={delays}, harmonics={harmonics}, width={width}, "
            f"frozen_amplitudes={frozen[0]}, frozen_frustrations={frozen[1]}"
        )

    def _where(
        self, delay: int | None, harmonic: int | None, head: int | None, coordinate: int | None
    ) -> tuple[slice, ...]:
        chosen: list[slice] = []
        names = {"head": head, "delay": delay, "harmonic": harmonic, "coordinate": coordinate}
        for (name, index), size in zip(names.items(), self.raw_amplitude.shape, strict=True):
            first = 1 if name == "harmonic" else 0
            if index is None:
                chosen.append(slice(None))
                continue
            check.require_integer(index, name, minimum=first)
            if index >= size + first:
                raise ValueError(
                    f"`{name}` must be at most {size + first - 1}; got {index}. The kernel has "
                    f"{size}."
                )
            chosen.append(slice(index - first, index - first + 1))
        return tuple(chosen)

    @torch.no_grad()
    def _hold(
        self,
        hold: bool,
        *,
        amplitude: bool = False,
        frustration: bool = False,
        delay: int | None = None,
        harmonic: int | None = None,
        head: int | None = None,
        coordinate: int | None = None,
    ) -> None:
        where = self._where(delay, harmonic, head, coordinate)
        both = not amplitude and not frustration
        if amplitude or both:
            self.fixed_amplitude[where] = now = self.signed_amplitude[where]
            self.raw_amplitude[where] = now
            self.amplitude_frozen[where] = hold
        if (frustration or both) and self.raw_frustration is not None:
            self.fixed_frustration[where] = now = self.frustration[where]
            self.raw_frustration[where] = now
            self.frustration_frozen[where] = hold
        _stop_what_is_frozen(self)


def _stop_what_is_frozen(kernel: CouplingKernel, _: Any = None) -> None:
    """Takes parameters frozen throughout from the optimizer, and gives back what it took.

    An optimizer then passes them over, weight decay and unused parameters included. What the user
    took with `requires_grad_` is not given back.
    """
    stopped = kernel._stopped  # pyright: ignore[reportPrivateUsage]
    for name in ("amplitude", "frustration"):
        raw = getattr(kernel, f"raw_{name}")
        frozen: Tensor = getattr(kernel, f"{name}_frozen")
        if raw is None or frozen.is_meta:
            continue
        if bool(frozen.all()):
            if raw.requires_grad:
                raw.requires_grad_(False)
                stopped.add(name)
        elif name in stopped:
            raw.requires_grad_(True)
            stopped.remove(name)
