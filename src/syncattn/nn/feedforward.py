"""What follows attention in a block: SwiGLU, its form on phases, and the mean field."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import silu

from syncattn import _validation as check
from syncattn._typing import Float, Tensor
from syncattn.nn.phase_features import PhaseFeatures, cosine_sine
from syncattn.nn.stream import require_stream


class SwiGLU(nn.Module):
    r"""Gated feed-forward :math:`W_3 (\operatorname{silu}(W_1 x) \odot W_2 x)`.

    Args:
        hidden_size: Width of the stream.
        intermediate_size: Width inside.
        input_size: Width of the input; `hidden_size` when None.

    References:
        | GLU Variants Improve Transformer (Shazeer, 2020)
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, *, input_size: int | None = None
    ) -> None:
        super().__init__()
        check.require_integer(hidden_size, "hidden_size", minimum=1)
        check.require_integer(intermediate_size, "intermediate_size", minimum=1)
        if input_size is not None:
            check.require_integer(input_size, "input_size", minimum=1)
        input_size = hidden_size if input_size is None else input_size
        self.gate_proj = nn.Linear(input_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(input_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "batch length _"]) -> Float[Tensor, "batch length _"]:
        """Returns the increment of every token.

        Args:
            x: ``(batch, length, input_size)``.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        require_stream(x, self.gate_proj.in_features, self.gate_proj.weight, name="x")
        out = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        check.require_computed(out, "x", of=x)
        return out


class PhaseSwiGLU(SwiGLU):
    r"""SwiGLU from features of phases, :math:`\sin(\theta + \beta)`, to phase increments.

    Theory: FS-11.

    Args:
        hidden_size: Number of phases.
        intermediate_size: Width inside.
        features: ``"sine"`` or ``"cosine-sine"``; see `PhaseFeatures`.

    Raises:
        ValueError: If `features` is unknown.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, *, features: str = "sine") -> None:
        check.require_integer(hidden_size, "hidden_size", minimum=1)
        read = PhaseFeatures(hidden_size, features)
        super().__init__(hidden_size, intermediate_size, input_size=read.size)
        self.hidden_size = hidden_size
        self.features = read

    def forward(
        self, x: Float[Tensor, "batch length width"]
    ) -> Float[Tensor, "batch length width"]:
        """Returns the phase increment of every token, radians.

        Args:
            x: Phases ``(batch, length, hidden_size)``, any real value.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        require_stream(x, self.hidden_size, self.gate_proj.weight, name="x")
        return super().forward(self.features(x))


class MeanFieldCoupling(nn.Module):
    r"""Coupling of a token's oscillators to learned collective modes, in place of a feed-forward.

    .. math:: Z_k = \sum_d w_{kd} e^{i\theta_d}, \qquad
              \Delta\theta_d = \operatorname{Im}\Big(e^{-i\theta_d} \sum_k o_{dk} g_k Z_k\Big)

    with complex :math:`w, o` and gates :math:`g_k = \operatorname{silu}(a_k \cdot
    \sin(\theta + \beta))`. The population is the token's own oscillators. Theory: FS-10.

    Args:
        hidden_size: Number of phases.
        intermediate_size: Number of collective modes.
        gated: False makes every gate 1, so that the field is linear in the features: an ablation,
            clearly worse and unstable at high rates.
        features: What the gates read, ``"sine"`` or ``"cosine-sine"``; see `PhaseFeatures`.

    Raises:
        ValueError: If `features` is unknown.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        *,
        gated: bool = True,
        features: str = "sine",
    ) -> None:
        super().__init__()
        check.require_integer(hidden_size, "hidden_size", minimum=1)
        check.require_integer(intermediate_size, "intermediate_size", minimum=1)
        # A complex linear map is two real ones that share their weights; see `forward`.
        self.mode_proj = nn.Linear(2 * hidden_size, intermediate_size, bias=False)
        self.gate_proj = self.features = None
        if gated:
            self.features = PhaseFeatures(hidden_size, features)
            self.gate_proj = nn.Linear(self.features.size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, 2 * hidden_size, bias=False)

    def forward(
        self, x: Float[Tensor, "batch length width"]
    ) -> Float[Tensor, "batch length width"]:
        """Returns the phase increment of every token, radians.

        Args:
            x: Phases ``(batch, length, hidden_size)``, any real value.

        Returns:
            ``(batch, length, hidden_size)``.
        """
        require_stream(x, self.mode_proj.in_features // 2, self.mode_proj.weight, name="x")
        feature = cosine_sine(x)
        cos, sin = feature.chunk(2, -1)
        # e^{iθ} and i e^{iθ} have the features [cos, sin] and [-sin, cos]: with the row [u, -v]
        # for w = u + iv the first gives Re Z and the second -Im Z.
        z_real = self.mode_proj(feature)
        z_imaginary = -self.mode_proj(torch.cat([-sin, cos], -1))
        if self.gate_proj is not None and self.features is not None:
            gate = silu(self.gate_proj(self.features(x)))
            z_real, z_imaginary = gate * z_real, gate * z_imaginary
        # Through the module and not its weight: adapters and quantisation replace the module.
        of_real, of_imaginary = self.down_proj(torch.cat([z_real, z_imaginary])).chunk(2)
        field_real = of_real.chunk(2, -1)[0] - of_imaginary.chunk(2, -1)[1]
        field_imaginary = of_real.chunk(2, -1)[1] + of_imaginary.chunk(2, -1)[0]
        return cos * field_imaginary - sin * field_real
