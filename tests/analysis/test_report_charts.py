import math
from xml.etree import ElementTree

import pytest

from syncattn.analysis.report_charts import TURN, Frame, Line, chart, swatch

SVG = "svg"


def parts(picture, tag, kind=""):
    root = ElementTree.fromstring(str(picture))
    return [e for e in root.iter(tag) if not kind or e.get("class") == kind]


def test_a_line_is_drawn_where_it_is():
    frame = Frame(x_limits=(0.0, 10.0), y_limits=(0.0, 1.0), size=(200, 100))
    drawn = chart([Line([0, 10], [0, 1])], frame, description="a line")
    (path,) = parts(drawn, "path", "line")
    (x0, y0), (x1, y1) = [tuple(map(float, p.split())) for p in path.get("d")[1:].split("L")]
    assert x1 == 190.0
    assert x0 < 60
    assert (y0, y1) == (80.0, 8.0)


def test_a_gap_stays_a_gap_and_a_band_closes():
    y = [1.0, math.nan, 2.0, 3.0]
    line = Line([0, 1, 2, 3], y, low=[v - 1 for v in y], high=[v + 1 for v in y], dots=True)
    drawn = chart([line], Frame(), description="a gap")
    assert len(parts(drawn, "path", "line")) == 2
    assert len(parts(drawn, "path", "band")) == 2
    assert len(parts(drawn, "circle")) == 3
    assert all(p.get("d").endswith("Z") for p in parts(drawn, "path", "band"))


def test_words_are_escaped_and_ticks_are_named():
    frame = Frame("<x>", "a & b", (-math.pi, math.pi), None, TURN)
    drawn = chart([Line([-3, 3], [1, 2])], frame, description='"><script>')
    words = [e.text for e in parts(drawn, "text")]
    assert {"<x>", "a & b", "−π", "0", "π"} <= set(words)
    assert ElementTree.fromstring(str(drawn)).get("aria-label") == '"><script>'


def test_a_constant_line_and_a_single_point_are_drawn():
    assert parts(chart([Line([1, 2], [3, 3])], Frame(), description=""), "path", "line")
    assert parts(chart([Line([1], [3])], Frame(), description=""), "circle")


def test_nothing_finite_is_refused():
    with pytest.raises(ValueError, match="finite value"):
        chart([Line([0], [math.inf])], Frame(), description="")


def test_lines_differ_by_more_than_colour():
    dashes = {
        parts(swatch(number), "path")[0].get("stroke-dasharray") for number in range(4)
    }  # fmt: skip
    assert len(dashes) == 4
    solid = chart([Line([0, 1], [0, 1], 1, solid=True)], Frame(), description="")
    assert parts(solid, "path", "line")[0].get("stroke-dasharray") is None
