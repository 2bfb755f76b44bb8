"""One HTML file that holds a whole report: no network, no further files, one short script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from syncattn.analysis.report_charts import swatch
from syncattn.analysis.report_curves import Charted, learning_chart, order_chart
from syncattn.analysis.report_models import (
    Model,
    measure_table,
    model_panels,
    model_view,
)
from syncattn.analysis.report_payload import token_labels
from syncattn.analysis.text_table import TextTable

__all__ = ["JudgedClaim", "Model", "Report", "Section", "printable", "render_report"]

CELLS = 1_500_000
"""Most attention weights that a report packs, about 4 MB; shared among its models."""
# Control characters but line ends and tabs, surrogates, and marks that cannot be seen or that
# reverse the direction of writing.
_UNPRINTABLE = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff]"
)


class JudgedClaim(NamedTuple):
    """A published claim and what became of it.

    Attributes:
        name: Its name in `syncattn claims`.
        claim: What is claimed.
        source: Where.
        verdict: Ours.
        figure: Our figure, or why there is none.
        command: What reproduces it.
        basis: ``"these runs"``, ``"the documentation"`` or ``"not checked"``.
    """

    name: str
    claim: str
    source: str
    verdict: str
    figure: str
    command: str
    basis: str


@dataclass(frozen=True)
class Section:
    """What the report tells of one run.

    Attributes:
        title: Its name.
        facts: Where it was made: label and text.
        tables: Its tables.
        statements: What its records say, a sentence each.
        curves: Points of learning curves by arm: `tokens`, the value, and `seed`.
        curve_value: The key of the value.
        models: Models and what they did.
        notes: What is missing or was passed over, a sentence each.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[TextTable] = ()
    statements: Sequence[str] = ()
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict[str, Any])
    curve_value: str = "valid_bits_per_byte"
    models: Sequence[Model] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """Everything a report says.

    Attributes:
        title: Its title.
        sections: One per run.
        claims: Published claims.
        commands: What rebuilds it, in order.
    """

    title: str
    sections: Sequence[Section]
    claims: Sequence[JudgedClaim] = ()
    commands: Sequence[str] = ()


def render_report(report: Report) -> str:
    """Returns the report as one HTML document.

    Text of the runs is escaped wherever it goes, what no page may hold is spelled out, and the
    page forbids itself every other script and every request.

    Args:
        report: What it says.

    Returns:
        The document.
    """
    number = sum(len(section.models) for section in report.sections)
    script = _resource("report.js")
    environment = Environment(
        loader=FunctionLoader(_resource), autoescape=True, finalize=_finalize,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    views = [
        _section_view(section, place, CELLS // max(number, 1))
        for place, section in enumerate(report.sections)
    ]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.jinja").render(
        report=report,
        sections=views,
        claims=_by_basis(report.claims),
        style=Markup(_resource("report.css")),
        script=Markup(script),
        digest=digest,
        swatch=swatch,
    )


def printable(text: str) -> str:
    r"""Returns a text without what a page may not hold or could be deceived by.

    Args:
        text: Any text, lone surrogates and control characters included.

    Returns:
        The text with control characters (line ends and tabs apart), surrogates and marks that
        reverse the direction of writing spelled as in Python, ``\x00``.
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def _finalize(value: Any) -> Any:
    if isinstance(value, Markup):
        # Charts hold names of runs too, escaped but not yet printable.
        return Markup(printable(value))
    return printable(value) if isinstance(value, str) else value


def _section_view(section: Section, place: int, budget: int) -> dict[str, Any]:
    charts = [
        learning_chart(section.curves, section.curve_value),
        order_chart({model.name: model.observation for model in section.models}),
    ]
    return {
        "id": f"run{place}",
        "section": section,
        "charts": [found for found in charts if isinstance(found, Charted)],
        "models": [
            _model_view(model, f"run{place}-model{n}", budget)
            for n, model in enumerate(section.models)
        ],
    }


def _model_view(model: Model, identifier: str, budget: int) -> dict[str, Any]:
    view = model_view(model, budget=budget)
    payload = {"matrix": view["matrix"], "film": view["film"]}
    return view | {
        "id": identifier,
        "model": model,
        "measures": measure_table(model),
        "panels": model_panels(model),
        "text": " ".join(token_labels(model.observation.text)),
        "payload": htmlsafe_json_dumps(payload, dumps=_dumps),
    }


def _dumps(value: Any, **_: Any) -> str:
    # Everything beyond ASCII is escaped, so that no encoding can spoil it.
    return json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))


def _by_basis(claims: Sequence[JudgedClaim]) -> dict[str, list[JudgedClaim]]:
    found: dict[str, list[JudgedClaim]] = {}
    for basis in ("these runs", "the documentation", "not checked"):
        found[basis] = [claim for claim in claims if claim.basis == basis]
    return found


def _resource(name: str) -> str:
    folder = resources.files("syncattn.analysis") / "templates"
    return (folder / name).read_text(encoding="utf-8")
