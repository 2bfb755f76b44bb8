"""Looking at trained models live: a text and settings in, plain data for a page out."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Int, Tensor
from syncattn.analysis.explorer_phases import (
    Film,
    depth_film,
    locking_film,
    settling_film,
    strongest_coordinate,
)
from syncattn.analysis.explorer_settings import Settings
from syncattn.analysis.explorer_switches import Changes, off_heads, switched
from syncattn.analysis.heads import MEASURES, measure_heads
from syncattn.analysis.observation import Observation, _blocks
from syncattn.analysis.report_payload import matrix_payload, token_labels
from syncattn.models import SyncAttnForCausalLM
from syncattn.nn import (
    FrustratedSynchronization,
    OscillatorAttention,
    SelectiveSynchronization,
    Synchrony,
)
from syncattn.nn.block import EuclideanBlock, PhaseBlock
from syncattn.nn.phase_coupling import PhaseCoupling

__all__ = ["Explorer", "Settings"]

BYTES = 256
CANDIDATES = 8
"""Next tokens that are listed."""


class _Pass(NamedTuple):
    """One run through a model, of one sequence."""

    picture: Synchrony
    streams: Sequence[Tensor]
    probability: Float[Tensor, " vocabulary"]
    film: Film | None


class Explorer:
    """Models to look at; one text at a time, from any number of threads.

    Args:
        models: Language models over bytes by name, at least one.
        max_length: Most tokens that are read.

    Raises:
        TypeError: If `max_length` is not an integer.
        ValueError: If there is no model, one does not read bytes, or `max_length` is below 2.
    """

    def __init__(self, models: Mapping[str, SyncAttnForCausalLM], *, max_length: int = 256) -> None:
        check.require_integer(max_length, "max_length", minimum=2)
        if not models:
            raise ValueError("`models` must hold at least one model; got none. Train one first.")
        for name, model in models.items():
            if model.config.vocab_size != BYTES:
                raise ValueError(
                    f"`models` must read bytes, {BYTES} tokens; got {name!r} with a vocabulary of "
                    f"{model.config.vocab_size}. Use models that `syncattn compare` trained."
                )
            model.eval()
        self._models = dict(models)
        # Read once: while another thread looks, its model's configuration may say more.
        self._trained = {n: m.config.max_position_embeddings for n, m in self._models.items()}
        self._max_length = max_length
        # Switching a coupling changes the model itself while a text is read.
        self._lock = threading.Lock()

    def describe(self) -> list[dict[str, Any]]:
        """Returns what there is to look at.

        Returns:
            One mapping per model: `name`, `mechanism`, `layers`, `heads`, `longest` (tokens that
            are read), `trained` (its context), `coordinates` of a head's phases, and `harmonics`
            and `delays` of its coupling kernel; None where it has none.
        """
        return [self._described(name) for name in self._models]

    def look(self, settings: Settings) -> dict[str, Any]:
        """Reads a text and returns what the chosen head does with it, before and after changes.

        Args:
            settings: What to look at.

        Returns:
            Values JSON can hold: `tokens`, `query`, `notices`, `before` and `after` (None without
            changes), each with `matrix`, `measures`, `links` and `film`; `prediction`, `changed`
            in words, and `moved`, the share of probability that moved.

        Raises:
            ValueError: If there is no such model, layer or head, or the text is empty.
            TypeError: If a number is no integer.
        """
        name = next(iter(self._models)) if settings.model is None else settings.model
        check.require_choice(name, "model", list(self._models))
        model = self._models[name]
        for index, what, size in (
            (settings.layer, "layer", model.config.num_hidden_layers),
            (settings.head, "head", model.config.num_attention_heads),
        ):
            check.require_integer(index, what, minimum=0)
            if index >= size:
                raise ValueError(
                    f"`{what}` must be at most {size - 1}; got {index}. The model has {size}."
                )
        data, notices = self._cut(settings.text, name)
        query = len(data) - 1
        if settings.query is not None:
            check.require_integer(settings.query, "query", minimum=0)
            query = min(settings.query, query)
        ids = torch.tensor([list(data)], device=model.device)
        attentions = [layer.attention for layer in _blocks(model)]
        with self._lock, torch.no_grad(), _room(model, len(data)):
            before = _run(model, ids, settings, query, Changes())
            after = None
            if settings.changes.any:
                with switched(attentions, settings.changes):
                    after = _run(model, ids, settings, query, settings.changes)
        return {
            "tokens": token_labels(data),
            "query": query,
            "notices": notices,
            "before": _shown(before, model, settings, data),
            "after": None if after is None else _shown(after, model, settings, data),
            **_prediction(before, after, data, query),
            "changed": _in_words(settings.changes),
        }

    def _described(self, name: str) -> dict[str, Any]:
        model = self._models[name]
        config, first = model.config, _blocks(model)[0].attention
        kernel = first.coupling_kernel if isinstance(first, FrustratedSynchronization) else None
        on_torus = config.on_torus
        return {
            "name": name,
            "mechanism": config.mechanism,
            "layers": config.num_hidden_layers,
            "heads": config.num_attention_heads,
            "longest": self._longest(name),
            "trained": self._trained[name],
            "coordinates": config.hidden_size // config.num_attention_heads if on_torus else None,
            "harmonics": None if kernel is None else kernel.num_harmonics,
            "delays": None if kernel is None else kernel.num_delays,
        }

    def _longest(self, name: str) -> int:
        model = self._models[name]
        if any(_has_table(module) for module in model.modules()):
            return min(self._max_length, self._trained[name])
        return self._max_length

    def _cut(self, text: str, name: str) -> tuple[bytes, list[str]]:
        """Returns the last bytes that fit, and what was done to the text, in sentences."""
        notices: list[str] = []
        clean = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if clean != text:
            notices.append("Half a surrogate pair is no character; each was replaced by U+FFFD.")
        data = clean.encode("utf-8")
        longest, trained = self._longest(name), self._trained[name]
        if not data:
            raise ValueError("`text` must hold at least one character; got none. Type one.")
        if len(data) > longest:
            notices.append(
                f"The text has {len(data):,} tokens, one per byte; the last {longest} are read."
            )
            data = data[-longest:]
        if len(data) > trained:
            notices.append(
                f"The model was trained on at most {trained} tokens; with {len(data)} it is "
                f"beyond what it learned."
            )
        return data, notices


def _run(
    model: SyncAttnForCausalLM,
    ids: Int[Tensor, "one length"],
    settings: Settings,
    query: int,
    changes: Changes,
) -> _Pass:
    backbone, head, number = model.model, settings.head, settings.layer
    out: Any = backbone(ids, output_hidden_states=True)
    streams: Sequence[Tensor] = out.hidden_states
    logits = model.lm_head(backbone.readout(out.last_hidden_state[:, query : query + 1]))
    block, x = _blocks(model)[number], streams[number]
    picture = _one_head(block.synchrony(x, is_causal=True), head)
    off = bool(off_heads(changes.off, number, model.config.num_attention_heads)[head])
    if off and picture.locked is not None and isinstance(block.attention, OscillatorAttention):
        # Read out evenly: what its oscillators would be attracted to does not matter.
        picture = picture._replace(locked=torch.zeros_like(picture.locked))
    return _Pass(
        picture,
        streams,
        logits[0, 0].double().softmax(-1).cpu(),
        _film(block, streams, settings, query, off=off),
    )


def _one_head(picture: Synchrony, head: int) -> Synchrony:
    """Returns the picture of one head of the only sequence of a batch, on the CPU."""
    one = slice(head, head + 1)
    order, locked = picture.order_parameter, picture.locked
    return Synchrony(
        picture.weights[0, one].cpu(),
        None if order is None else order[0, one].cpu(),
        None if locked is None else locked[0, one].cpu(),
    )


def _film(
    block: EuclideanBlock | PhaseBlock,
    streams: Sequence[Tensor],
    settings: Settings,
    query: int,
    *,
    off: bool,
) -> Film | None:
    layer, head = block.attention, settings.head
    if isinstance(layer, PhaseCoupling):
        coordinate = settings.coordinate
        if coordinate is None:
            coordinate = strongest_coordinate(layer, head)
        return depth_film(streams, num_heads=layer.num_heads, head=head, coordinate=coordinate)
    if not isinstance(block, EuclideanBlock):
        return None
    x = block.attention_norm(streams[settings.layer])
    if isinstance(layer, OscillatorAttention) and not off:
        return settling_film(layer, x, head=head, query=query)
    if isinstance(layer, SelectiveSynchronization):
        return locking_film(layer, x, head=head, query=query)
    return None


def _shown(
    done: _Pass, model: SyncAttnForCausalLM, settings: Settings, data: bytes
) -> dict[str, Any]:
    strict = bool(getattr(_blocks(model)[settings.layer].attention, "exclude_self", False))
    length = len(data)
    visible = torch.ones(length, length, dtype=torch.bool).tril(-1 if strict else 0)
    seen = Observation(model.config.mechanism, data, [done.picture], visible)
    measured = measure_heads(done.picture, visible=visible)
    links = None
    if done.picture.locked is not None:
        links = int((done.picture.locked[0] & visible.tril(-1)).sum())
    return {
        "matrix": matrix_payload(seen, [0], [0]),
        "measures": [
            {"name": MEASURES[name], "value": _number(float(value[0]))}
            for name, value in measured.items()
        ],
        "links": links,
        "film": None if done.film is None else _film_data(done.film),
    }


def _film_data(film: Film) -> dict[str, Any]:
    return {
        "axis": film.axis,
        "moments": [_number(t) for t in film.moments],
        "angle": _rounded(film.angle),
        "coherence": _rounded(film.coherence),
        "meaning": film.meaning,
        "locked": None if film.locked is None else film.locked.tolist(),
        "weights": None if film.weights is None else _rounded(film.weights),
        "coordinate": film.coordinate,
    }


def _prediction(before: _Pass, after: _Pass | None, data: bytes, query: int) -> dict[str, Any]:
    p = before.probability
    q = p if after is None else after.probability
    chosen: list[int] = torch.maximum(p, q).topk(CANDIDATES).indices.tolist()
    chosen.sort(key=lambda token: -float(p[token]))
    rows = [_candidate(token, p, q) for token in chosen]
    follows = None if query + 1 >= len(data) else _candidate(data[query + 1], p, q)
    moved = None if after is None else float((p - q).abs().sum() / 2)
    return {"prediction": rows, "follows": follows, "moved": moved}


def _candidate(token: int, p: Tensor, q: Tensor) -> dict[str, Any]:
    label = token_labels(bytes([token]))[0]
    return {"token": label, "before": float(p[token]), "after": float(q[token])}


def _in_words(changes: Changes) -> list[str]:
    words = [f"{switch} off" for switch in changes.off]
    for name in ("strength", "bandwidth"):
        factor = getattr(changes, name)
        words += [] if factor == 1 else [f"locking {name} × {factor:.3g}"]
    return words


@contextmanager
def _room(model: SyncAttnForCausalLM, length: int) -> Generator[None]:
    """Lets a model whose places are no table read beyond what it was trained on."""
    config, longest = model.config, model.config.max_position_embeddings
    config.max_position_embeddings = max(longest, length)
    try:
        yield
    finally:
        config.max_position_embeddings = longest


def _has_table(module: torch.nn.Module) -> bool:
    table = getattr(module, "table", None)
    return isinstance(table, Tensor) or getattr(module, "max_positions", None) is not None


def _number(value: float) -> float | None:
    return None if value != value or value in {float("inf"), -float("inf")} else value


def _rounded(values: Tensor) -> Any:
    return torch.round(torch.nan_to_num(values), decimals=4).tolist()
