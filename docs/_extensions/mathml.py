"""Equations as MathML, which browsers draw by themselves: no script, no font, no network."""

import re

from docutils.utils.math.latex2mathml import tex2mathml

_HABITS = (
    # Sizes of fences, which MathML stretches by itself, and dots, are unknown to the converter.
    (re.compile(r"\\[bB]igg?[lr]?(?![a-zA-Z])"), ""),
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
)
_FUNCTION = re.compile(
    r"(?P<before></m(?:i|n|sub|sup|subsup|frac|row)>)?(?P<name>\s*<mi>\w+</mi>\s*)"
    r"<mo>&ApplyFunction;</mo>(?P<after>\s*)(?P<fence><mo[^>]*>\()?"
)
# The converter sets the index of an accented letter below it, as a limit.
_ACCENT = re.compile(
    r"<munderover>\s*(<mi>[^<]*</mi>)(.*?)(<mo[^>]*>[˙¯ˆ˜^~‾]</mo>)\s*</munderover>", re.DOTALL
)
# Bars are fences here, never relations with room on both sides. Those of a norm keep one height: a
# browser would stretch the first alone where a power stands at the second.
_BAR = re.compile(r"<mo([^>]*)>([|∣])</mo>")
_NORM = re.compile(r"<mo([^>]*)>([‖∥])</mo>")
_JOINER = "&#8288;"
_THIN = '<mspace width="0.167em"/>'


def _spaced(found):
    """The sign of application has no width; a function stands apart as in print."""
    before = found["before"] + _THIN if found["before"] else ""
    after = found["after"] + (found["fence"] or "")
    return f"{before}{found['name']}{'' if found['fence'] else _THIN}{after}"


def to_mathml(equation, *, block=False):
    """Returns an equation as MathML."""
    for habit, plain in _HABITS:
        equation = habit.sub(plain, equation)
    if block and r"\\" in equation:
        equation = rf"\begin{{aligned}}{equation}\end{{aligned}}"
    found = _FUNCTION.sub(_spaced, tex2mathml(equation, as_block=block))
    found = _ACCENT.sub(r"<msub><mover>\1\3</mover>\2</msub>", found)
    found = _NORM.sub(r'<mo lspace="0" rspace="0" stretchy="false"\1>\2</mo>', found)
    return _BAR.sub(r'<mo lspace="0" rspace="0"\1>\2</mo>', found)


def _inline(translator, node):
    """A line may break at an equation, but not between it and the point or bracket beside it."""
    before, after = _beside(node, -1)[-1:], _beside(node, 1)[:1]
    join = ["" if not letter or letter.isspace() else _JOINER for letter in (before, after)]
    translator.body.append(join[0] + to_mathml(node.astext()) + join[1])
    _skip()


def _beside(node, step):
    place = node.parent.index(node) + step
    return node.parent[place].astext() if 0 <= place < len(node.parent) else ""


def _block(translator, node):
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    body = to_mathml(node.astext(), block=True)
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight"))
    translator.body.append(f"{number}{body}</div>")
    _skip()


def _skip():
    from docutils import nodes

    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
