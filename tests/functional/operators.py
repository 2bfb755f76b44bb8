"""The operators as the conformance laws see them."""

import torch

from syncattn import functional, reference
from syncattn.functional.oscillator_attention import COUPLINGS
from tests.conformance import HEADS, Operator

INVERSE_ROOT = 4**-0.5


def _normal(generator, *shape, std=1.0):
    return std * torch.randn(shape, generator=generator, dtype=torch.float64)


# Selective synchronization.


def _define_selective(inputs, mask, reach):
    return reference.selective_synchronization(
        inputs["query_frequency"], inputs["key_frequency"], inputs["value"],
        reference.row_order_parameter(inputs["phase"], mask),
        coupling_strength=inputs["coupling_strength"], coupling_decay=inputs["coupling_decay"],
        mask=mask, edge_floor=1e-3,
    )  # fmt: skip


def _weigh_selective(inputs, **visibility):
    tensors = (inputs[n] for n in ("query_frequency", "key_frequency", "phase"))
    weights, _, _ = functional.selective_synchronization_weights(
        *tensors, coupling_strength=inputs["coupling_strength"],
        coupling_decay=inputs["coupling_decay"], **visibility,
    )  # fmt: skip
    return weights


def _selective(backends, dim=2, position=False):
    """Returns the operator; with a position, the last coordinate grows with it."""
    place = {"position_coordinate": dim} if position else {}

    def draw(batch, queries, keys, generator):
        drawn = {
            "query_frequency": _normal(generator, batch, HEADS, queries, dim, std=0.3),
            "key_frequency": _normal(generator, batch, HEADS, keys, dim, std=0.3),
            "value": _normal(generator, batch, HEADS, keys, 3),
            "phase": _normal(generator, batch, HEADS, keys, 2, std=0.7),
            "coupling_strength": torch.tensor([1.3, 0.9], dtype=torch.float64),
            "coupling_decay": torch.tensor([1.1, 0.6], dtype=torch.float64),
        }
        if position:
            t = 0.1 * torch.arange(keys, dtype=torch.float64)[:, None].expand(batch, HEADS, -1, 1)
            late = t[:, :, -queries:] if queries <= keys else t.expand(-1, -1, queries, -1)
            for name, x in (("query_frequency", late), ("key_frequency", t)):
                drawn[name] = torch.cat([drawn[name], x], -1)
        return drawn

    def call(inputs, backend, **options):
        tensors = (inputs[n] for n in ("query_frequency", "key_frequency", "value", "phase"))
        return functional.selective_synchronization(
            *tensors, coupling_strength=inputs["coupling_strength"],
            coupling_decay=inputs["coupling_decay"], backend=backend, **place, **options,
        )  # fmt: skip

    def supports(backend, scene):
        free = not scene.is_causal and scene.lengths is None and scene.allowed is None
        return backend != "repeats" or free

    return Operator(
        backends=backends,
        draw=draw,
        call=call,
        define=_define_selective,
        weights=_weigh_selective,
        on_queries=("query_frequency",),
        on_keys=("key_frequency", "value", "phase"),
        supports=supports,
        smooth=(("edge_floor", 0.0),),
    )


SELECTIVE = _selective(("blockwise", "reference"))
PRUNED_SELECTIVE = _selective(("pruned",))
WINDOW_SELECTIVE = _selective(("window",), dim=1)
BAND_SELECTIVE = _selective(("band",), dim=1, position=True)
REPEATS_SELECTIVE = _selective(("repeats",))


# Oscillator attention.


def _draw_oscillator(batch, queries, keys, generator):
    anchor = _normal(generator, batch, HEADS, keys, 3)
    return {
        "query": _normal(generator, batch, HEADS, queries, 4),
        "key": _normal(generator, batch, HEADS, keys, 4),
        "value": _normal(generator, batch, HEADS, keys, 3),
        "anchor": 0.9 * anchor / anchor.norm(dim=-1, keepdim=True),
    }


def _oscillator(power, coupling):
    sigma = COUPLINGS[coupling]

    def call(inputs, backend, **visibility):
        return functional.oscillator_attention(
            *inputs.values(), readout_power=power, coupling=coupling, backend=backend, **visibility
        )

    def define(inputs, mask, reach):
        return reference.oscillator_attention(
            *inputs.values(), scale=INVERSE_ROOT, coupling=sigma, readout_power=power, mask=mask
        )

    def weigh(inputs, **visibility):
        tensors = (inputs[n] for n in ("query", "key", "anchor"))
        return functional.oscillator_attention_weights(
            *tensors, readout_power=power, coupling=coupling, **visibility
        )[0]

    return Operator(
        backends=("reference",),
        draw=_draw_oscillator,
        call=call,
        define=define,
        weights=weigh,
        on_queries=("query",),
        on_keys=("key", "value", "anchor"),
    )


OSCILLATOR = _oscillator(1, "softplus")
SHARP_OSCILLATOR = _oscillator(4, "elu")


# Kuramoto attention.


def _draw_kuramoto(batch, queries, keys, generator):
    return {
        "query_phase": _normal(generator, batch, HEADS, queries, 4, std=2.0),
        "key_phase": _normal(generator, batch, HEADS, keys, 4, std=2.0),
        "query_gate": 1 + _normal(generator, batch, HEADS, queries, 4),
        "key_gate": 1 + _normal(generator, batch, HEADS, keys, 4),
        "natural_frequency": _normal(generator, 4),
    }


SCORE = ("query_phase", "key_phase", "query_gate", "key_gate")


def drifted_weights(inputs, mask):
    """Returns the weights of the definition, with the drift added by hand."""
    theta_t, theta_u = inputs["query_phase"], inputs["key_phase"]
    if "natural_frequency" in inputs:
        omega, keys = inputs["natural_frequency"], theta_u.shape[2]
        place = torch.arange(keys, dtype=theta_u.dtype, device=theta_u.device)[:, None]
        theta_t = theta_t + (place * omega)[keys - theta_t.shape[2] :]
        theta_u = theta_u + place * omega
    return reference.kuramoto_attention_weights(
        theta_t, theta_u, inputs["query_gate"], inputs["key_gate"], scale=INVERSE_ROOT, mask=mask
    )


def _kuramoto(exclude_self, drift):
    def draw(*sizes):
        drawn = _draw_kuramoto(*sizes)
        return drawn if drift else {name: drawn[name] for name in SCORE}

    def call(inputs, backend, **visibility):
        return functional.kuramoto_attention(
            *(inputs[n] for n in SCORE), natural_frequency=inputs.get("natural_frequency"),
            exclude_self=exclude_self, backend=backend, **visibility,
        )  # fmt: skip

    def define(inputs, mask, reach):
        weights = drifted_weights(inputs, mask)
        return reference.kuramoto_attention(weights, inputs["query_phase"], inputs["key_phase"])

    def weigh(inputs, **visibility):
        return functional.kuramoto_attention_weights(
            *(inputs[n] for n in SCORE), natural_frequency=inputs.get("natural_frequency"),
            exclude_self=exclude_self, **visibility,
        )  # fmt: skip

    return Operator(
        backends=("sdpa", "reference"),
        draw=draw,
        call=call,
        define=define,
        weights=weigh,
        on_queries=("query_phase", "query_gate"),
        on_keys=("key_phase", "key_gate"),
        exclude_self=exclude_self,
        supports=lambda backend, scene: not drift or scene.queries <= scene.keys,
    )


KURAMOTO = _kuramoto(exclude_self=True, drift=True)
INCLUSIVE_KURAMOTO = _kuramoto(exclude_self=False, drift=False)


# Frustrated synchronization.


def _frustrated(delays, harmonics, exclude_self, width=4):
    def draw(batch, queries, keys, generator):
        drawn = _draw_kuramoto(batch, queries, keys, generator)
        shape = (HEADS, delays, harmonics, width)
        drawn["harmonic_amplitude"] = _normal(generator, *shape)
        drawn["frustration"] = _normal(generator, *shape)
        return drawn

    def call(inputs, backend, **visibility):
        return functional.frustrated_synchronization(
            *(inputs[n] for n in SCORE), harmonic_amplitude=inputs["harmonic_amplitude"],
            frustration=inputs["frustration"], natural_frequency=inputs["natural_frequency"],
            exclude_self=exclude_self, backend=backend, **visibility,
        )  # fmt: skip

    def define(inputs, mask, reach):
        return reference.frustrated_synchronization(
            drifted_weights(inputs, mask), inputs["query_phase"], inputs["key_phase"],
            inputs["harmonic_amplitude"], inputs["frustration"], reach=reach,
        )  # fmt: skip

    def supports(backend, scene):
        # A drift needs a place for every query among the keys.
        if scene.queries > scene.keys:
            return False
        # The dense form promises every scene, like the definition.
        if backend != "sdpa" or delays == 1:
            return True
        strict = scene.is_causal and exclude_self
        unordered = not scene.is_causal and scene.lengths is None
        return delays == 2 and scene.allowed is None and (strict or unordered)

    return Operator(
        backends=("sdpa", "dense", "reference") if delays < 3 and exclude_self else ("dense",),
        draw=draw,
        call=call,
        define=define,
        on_queries=("query_phase", "query_gate"),
        on_keys=("key_phase", "key_gate"),
        exclude_self=exclude_self,
        supports=supports,
    )


FRUSTRATED = _frustrated(delays=2, harmonics=2, exclude_self=True)
INCLUSIVE_FRUSTRATED = _frustrated(delays=2, harmonics=1, exclude_self=False, width=1)
UNDELAYED_FRUSTRATED = _frustrated(delays=1, harmonics=3, exclude_self=True)

# Long delays and unusual read-outs ride on the laws of value alone.
LATE_FRUSTRATED = _frustrated(delays=3, harmonics=1, exclude_self=True)

__all__ = [
    "BAND_SELECTIVE",
    "FRUSTRATED",
    "INCLUSIVE_FRUSTRATED",
    "INCLUSIVE_KURAMOTO",
    "KURAMOTO",
    "LATE_FRUSTRATED",
    "OSCILLATOR",
    "PRUNED_SELECTIVE",
    "REPEATS_SELECTIVE",
    "SELECTIVE",
    "SHARP_OSCILLATOR",
    "UNDELAYED_FRUSTRATED",
    "WINDOW_SELECTIVE",
    "drifted_weights",
]
