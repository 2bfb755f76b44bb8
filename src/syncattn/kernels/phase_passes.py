"""Phases to the operands of attention and back, by the compiled passes."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch

from syncattn._autocast import without_autocast
from syncattn._typing import Float, Tensor
from syncattn.kernels.bounded_softmax import attend_bounded, is_bounded, pays
from syncattn.kernels.compiled import pointer, run, takes
from syncattn.kernels.first_order import first_order
from syncattn.kernels.scaled_dot_product import attend, widths
from syncattn.kernels.score import Score

__all__ = ["couple_compiled", "fits_compiled"]

Kernel = Float[Tensor, "heads delays harmonics #dim"]

_POINTERS = (
    "cosine sine query_gate key_gate turn_cosine turn_sine real imaginary mean d_query d_key "
    "d_value d_out hidden query key value out d_phase d_query_gate d_key_gate d_real d_imaginary "
    "d_mean"
).split()
_COUNTS = ("batch heads length dim harmonics delays first score_width value_width threads").split()
_STRIDES = ("phase", "query_gate", "key_gate", "mean", "out")


class _Call(ctypes.Structure):
    """The arguments of one pass, field by field those of `Phases` in the C source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _COUNTS),
        *((f"{name}_stride", ctypes.c_int64 * 3) for name in _STRIDES),
    )


class _Plan(NamedTuple):
    """What both passes know of a call.

    Attributes:
        cosine: Cosines of the phases, ``(batch, heads, length, dim)``.
        sine: Their sines, laid out alike.
        first: Leading tokens without a query.
        score_width: Columns of queries and keys, zeros at the end.
        value_width: Columns of values.
        harmonics: Number of harmonics.
        turn: Cosines and sines of the drift, or None.
        hidden: True where a token counts for no one, ``(batch, length)``; None for nowhere.
    """

    cosine: Tensor
    sine: Tensor
    first: int
    score_width: int
    value_width: int
    harmonics: int
    turn: tuple[Tensor, Tensor] | None
    hidden: Tensor | None

    def call(self, **tensors: Tensor) -> _Call:
        """Returns the arguments of a pass; the tensors must outlive it."""
        batch, heads, length, dim = self.cosine.shape
        call = _Call(
            batch=batch, heads=heads, length=length, dim=dim, harmonics=self.harmonics, delays=1,
            first=self.first, score_width=self.score_width, value_width=self.value_width,
            threads=torch.get_num_threads(),
        )  # fmt: skip
        tensors |= {"cosine": self.cosine, "sine": self.sine}
        if self.turn is not None:
            tensors |= {"turn_cosine": self.turn[0], "turn_sine": self.turn[1]}
        if self.hidden is not None:
            tensors["hidden"] = self.hidden
        for name, tensor in tensors.items():
            dtype = torch.bool if name == "hidden" else torch.float32
            setattr(call, name, pointer(tensor, name, dtype))
        if "real" in tensors:
            call.delays = tensors["real"].shape[1]
        for name, tensor in ({"phase": self.cosine} | tensors).items():
            if name in _STRIDES:
                strides = getattr(call, f"{name}_stride")
                strides[:] = tensor.stride()[:3]
        return call


class _Encode(torch.autograd.Function):
    """Queries, keys and values of phases, gates and a kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        phase: Tensor,
        query_gate: Tensor,
        key_gate: Tensor,
        real: Tensor,
        imaginary: Tensor,
        plan: _Plan,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the operands, ``(batch, heads, length - first, width)`` each."""
        batch, heads, length, _ = phase.shape
        rows = (batch, heads, length - plan.first)
        query, key = (phase.new_empty(*rows, plan.score_width) for _ in range(2))
        value = phase.new_empty(*rows, plan.value_width)
        call = plan.call(
            query_gate=query_gate, key_gate=key_gate, real=real, imaginary=imaginary,
            query=query, key=key, value=value,
        )  # fmt: skip
        run("phases_encode", call)
        ctx.plan = plan
        ctx.save_for_backward(query_gate, key_gate, real, imaginary)
        return query, key, value

    @staticmethod
    @first_order
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Returns the gradients of phases, gates and kernel."""
        plan: _Plan = ctx.plan
        query_gate, key_gate, real, imaginary = ctx.saved_tensors
        d_query, d_key, d_value = (x.contiguous() for x in gradients)
        d_phase = torch.empty_like(plan.cosine)
        d_query_gate, d_key_gate = (d_phase.new_empty(plan.cosine.shape) for _ in range(2))
        sums = (plan.cosine.shape[0], *real.shape)
        d_real, d_imaginary = d_phase.new_zeros(sums), d_phase.new_zeros(sums)
        call = plan.call(
            query_gate=query_gate, key_gate=key_gate, real=real, imaginary=imaginary,
            d_query=d_query, d_key=d_key, d_value=d_value, d_phase=d_phase,
            d_query_gate=d_query_gate, d_key_gate=d_key_gate, d_real=d_real,
            d_imaginary=d_imaginary,
        )  # fmt: skip
        run("phases_encode_gradient", call)
        return d_phase, d_query_gate, d_key_gate, d_real.sum(0), d_imaginary.sum(0), None


class _Unfold(torch.autograd.Function):
    """Increments of phases and the mean of what they see."""

    @staticmethod
    def forward(ctx: Any, phase: Tensor, mean: Tensor, plan: _Plan) -> Tensor:
        """Returns the increments, laid out like the phases."""
        out = torch.empty_like(phase)
        run("phases_unfold", plan.call(mean=mean, out=out))
        ctx.plan = plan
        ctx.save_for_backward(mean)
        return out

    @staticmethod
    @first_order
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Returns the gradients of phases and mean."""
        plan: _Plan = ctx.plan
        (mean,) = ctx.saved_tensors
        d_out = _aligned(gradients[0])
        d_phase, d_mean = torch.empty_like(plan.cosine), torch.empty_like(mean)
        call = plan.call(mean=mean, d_out=d_out, out=d_out, d_phase=d_phase, d_mean=d_mean)
        run("phases_unfold_gradient", call)
        return d_phase, d_mean, None


def fits_compiled(score: Score, num_delays: int) -> bool:
    """Returns whether a call can go through the compiled passes.

    Args:
        score: What makes the weights.
        num_delays: Delays of the kernel, 0 included.
    """
    phase = score.query_phase
    turn = () if score.drift is None else score.drift
    return (
        phase is score.key_phase
        and score.sink is None
        and num_delays <= 2
        and phase.numel() > 0
        and phase.shape[2] > 1
        and not any(x.requires_grad for x in turn)
        and takes(phase, score.query_gate, score.key_gate, *turn)
    )


def couple_compiled(score: Score, real: Kernel, imaginary: Kernel) -> Tensor:
    r"""Returns the increment of a complex kernel; see `frustrated_synchronization`.

    Args:
        score: What makes the weights, with queries that are the keys and no sink.
        real: :math:`a_{sm} \cos\alpha_{sm}`.
        imaginary: :math:`a_{sm} \sin\alpha_{sm}`, the same shape.

    Returns:
        The phase increment.
    """
    phase, key_mask = _aligned(score.query_phase), score.visibility.key_mask
    dim = phase.shape[-1]
    # The first row then sees nothing.
    first, seen = (0, score.visibility) if score.less is None else (1, score.less)
    num_harmonics = real.shape[2]
    tight = 2 * dim, 2 * num_harmonics * dim
    tensors = (phase, score.query_gate, score.key_gate, real, imaginary)
    recorded = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    summed = pays(*tight, seen, recorded=recorded)
    score_width, value_width = tight if summed else widths(*tight, seen, phase.device)
    with torch.no_grad():
        cosine, sine = phase.cos(), phase.sin()
    turn = (
        None if score.drift is None else (score.drift[0].contiguous(), score.drift[1].contiguous())
    )
    hidden = None if key_mask is None else (~key_mask).contiguous()
    plan = _Plan(cosine, sine, first, score_width, value_width, num_harmonics, turn, hidden)
    real, imaginary = (x.expand(*x.shape[:3], dim).contiguous() for x in (real, imaginary))
    query_gate, key_gate = _aligned(score.query_gate), _aligned(score.key_gate)
    operands: Any = _Encode.apply(phase, query_gate, key_gate, real, imaginary, plan)
    scaled: Any = {"scale": score.scale, "visibility": seen}
    # Autocast would answer in half precision, which the passes do not read.
    with without_autocast(phase):
        summed = summed and is_bounded(*operands, **scaled)
        mean = _aligned((attend_bounded if summed else attend)(*operands, **scaled))
    out: Any = _Unfold.apply(phase, mean, plan)
    return out


def _aligned(tensor: Tensor) -> Tensor:
    """Returns a tensor whose last axis lies in one piece."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()
