"""Numbered equations: `**(SS-7)**` opens one, and every SS-7 elsewhere links to it."""

import re

from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)
NUMBER = re.compile(r"\b(?:FS|KA|KU|OA|SS)-\d+\b")
_OPENING = re.compile(rf"\((?P<number>{NUMBER.pattern})\)")
_IN_CODE = re.compile(r"#\s*theory:\s*(.+)$")
_PLAIN = (nodes.reference, nodes.literal, nodes.title, nodes.FixedTextElement, nodes.raw,
          nodes.math, nodes.math_block)  # fmt: skip


def _collect(app, doctree):
    """Gives each numbered equation its anchor and its label."""
    environment = app.env
    known = environment.__dict__.setdefault("numbered_equations", {})
    page = environment.docname
    for strong in doctree.findall(nodes.strong):
        opening = _OPENING.fullmatch(strong.astext())
        if opening is None or not isinstance(strong.parent, nodes.paragraph):
            continue
        number = opening["number"]
        anchor = number.lower()
        if number in known:
            logger.warning(
                "equation %s must be opened once; it is on %s too", number, known[number][0],
                location=strong,
            )  # fmt: skip
        strong["ids"].append(anchor)
        doctree.document.note_explicit_target(strong)
        known[number] = (page, anchor)
        standard = environment.domains["std"]
        standard.anonlabels[anchor] = page, anchor
        standard.labels[anchor] = page, anchor, number


def _forget(app, environment, page):
    """Drops the equations of a page that changed or is gone."""
    known = environment.__dict__.get("numbered_equations", {})
    for number in [number for number, (where, _) in known.items() if where == page]:
        del known[number]


def _link(app, doctree, page):
    """Turns every number in the text of a page into a link to its equation."""
    known = getattr(app.env, "numbered_equations", {})
    for text in list(doctree.findall(nodes.Text)):
        if NUMBER.search(text) is None or any(
            isinstance(parent, _PLAIN) for parent in _parents(text)
        ):
            continue
        pieces, end = [], 0
        for found in NUMBER.finditer(text):
            target = known.get(found[0])
            if target is None or _opens(text, found[0]):
                continue
            pieces += [nodes.Text(text[end : found.start()]), _reference(app, page, found[0])]
            end = found.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(text[end:])])


def _parents(node):
    while node.parent is not None:
        node = node.parent
        yield node


def _opens(text, number):
    return isinstance(text.parent, nodes.strong) and number.lower() in text.parent["ids"]


def _reference(app, page, number):
    target, anchor = app.env.numbered_equations[number]
    address = f"{app.builder.get_relative_uri(page, target)}#{anchor}"
    return nodes.reference("", number, internal=True, refuri=address, classes=["equation"])


def _read_citation(app, what, name, obj, options, lines):
    """A citation reads as a comment in the source and as a sentence on the page."""
    lines[:] = [_IN_CODE.sub(r"(\1)", line) for line in lines]


def setup(app):
    app.connect("env-purge-doc", _forget)
    app.connect("doctree-read", _collect)
    app.connect("doctree-resolved", _link)
    app.connect("autodoc-process-docstring", _read_citation)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
