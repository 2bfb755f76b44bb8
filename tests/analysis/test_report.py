import json
import re
from html.parser import HTMLParser

import pytest
import torch

from syncattn.analysis.observation import observe
from syncattn.analysis.report import (
    JudgedClaim,
    Model,
    Report,
    Section,
    printable,
    render_report,
)
from syncattn.analysis.text_table import TextTable
from syncattn.benchmarks.compare import CompareConfig
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from tests.benchmarks.finished_run import model

NASTY = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7*7 }} \x00\x1b\u202e\ud800"
)
VOID = {"meta", "link", "img", "input", "br", "path", "circle", "line"}


class Outline(HTMLParser):
    """Collects tags, identifiers and references, and complains about what is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(page):
    found = Outline()
    found.feed(page)
    assert found.open == []
    return found


def report(text=b"near and far", name="selective", **changes):
    seen = observe(model("selective"), text)
    section = Section(
        title=name, tables=[TextTable("a table", ["row", "value"], [[name, "1"]], name)],
        statements=[name], notes=[name], facts=[(name, name)],
        models=[Model(name, name, seen, name)],
        curves={name: [{"tokens": 1, "valid_bits_per_byte": 2.0}]},
    )  # fmt: skip
    claim = JudgedClaim(name, name, name, "holds", name, name, "these runs")
    return Report(name, [section], [claim], [name]), changes


@pytest.fixture(scope="module")
def page():
    return render_report(report()[0])


def test_the_page_is_whole_and_its_names_are_unique(page):
    found = outline(page)
    assert len(found.ids) == len(set(found.ids))
    for landmark in ("header", "nav", "main", "footer", "h1", "caption"):
        assert landmark in found.tags
    anchors = {value[1:] for tag, name, value in found.attributes if (tag, name) == ("a", "href")}
    named = {value for _, name, value in found.attributes if name == "aria-labelledby"}
    assert anchors | named <= set(found.ids)


def test_nothing_is_fetched(page):
    found = outline(page)
    outside = [
        value for _, name, value in found.attributes
        if name in {"src", "href", "action", "data"} and not value.startswith(("#", "data:"))
    ]  # fmt: skip
    assert outside == []
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_text_of_runs_stays_text():
    nasty = render_report(report(name=NASTY)[0])
    found = outline(nasty)
    assert "img" not in found.tags
    assert len([t for t in found.tags if t == "script"]) == 2
    assert not any(name == "onerror" for _, name, _ in found.attributes)
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", nasty)[0]
    assert not set("\x00\x1b\u202e\ud800") & set(nasty)
    assert nasty.encode("utf-8")


def test_text_that_models_read_stays_text():
    page = render_report(report(b"</script><b>\x00\x7f\xff")[0])
    found = outline(page)
    assert "b" not in found.tags
    (payload,) = re.findall(r'type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    tokens = json.loads(payload)["matrix"]["tokens"]
    assert tokens[:3] == ["<", "/", "s"]
    assert tokens[-3:] == ["\\x00", "\\x7f", "\\xff"]


def test_the_only_script_is_the_one_the_page_allows(page):
    import base64
    import hashlib

    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_the_same_report_is_the_same_page(page):
    assert render_report(report()[0]) == page


def test_an_empty_report_is_a_page_too():
    page = render_report(Report("nothing", [Section("empty")]))
    outline(page)
    assert "No published claim can be judged" in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 中 🙂", "plain é 中 🙂"),
        ("line\n\ttab", "line\n\ttab"),
        ("\x00\x1b[31m", "\\x00\\x1b[31m"),
        ("\u202eabc", "\\u202eabc"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_five_models_of_the_demo_s_size_stay_below_eight_megabytes():
    text = (b"def near(a, b):\n    return near(b, a)\n" * 4)[:128]
    demo = CompareConfig()
    models = []
    for mechanism in demo.mechanisms:
        torch.manual_seed(0)
        shape = SyncAttnConfig(
            mechanism=mechanism, hidden_size=demo.hidden_size, num_hidden_layers=demo.num_layers,
            num_attention_heads=demo.num_heads, max_position_embeddings=demo.context_length,
        )  # fmt: skip
        models.append(Model(mechanism, "", observe(SyncAttnForCausalLM(shape), text)))
    page = render_report(Report("demo", [Section("demo", models=models)]))
    assert len(page.encode()) < 8e6
    # Nothing was left out for it: every head of every layer is there.
    assert "To keep the page small" not in page
