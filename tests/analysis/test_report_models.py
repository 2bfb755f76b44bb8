import html
import math
from dataclasses import replace

import pytest
import torch

from syncattn.analysis.observation import observe
from syncattn.analysis.report_models import Model, measure_table, model_panels, model_view
from tests.benchmarks.finished_run import MECHANISMS, model

TEXT = b"locks and drifts"
PANELS = {
    "softmax": [],
    "selective": ["Synchronization by detuning"],
    "oscillator": ["Drive and settling"],
    "kuramoto": ["Coupling functions", "Order parameter by layer, head and harmonic"],
    "frustrated": [
        "Coupling functions",
        "Frustration of the delayed term: the kernel's part and the data's",
        "Order parameter by layer, head and harmonic",
    ],
}


@pytest.fixture(scope="module", params=MECHANISMS)
def shown(request):
    return Model(request.param, "legend", observe(model(request.param), TEXT))


def test_every_mechanism_has_its_pictures(shown):
    found = model_panels(shown)
    assert [panels.title for panels in found] == PANELS[shown.name]
    for panels in found:
        assert len(panels.panels) in {2, 4}
        assert all(panel.picture.startswith("<svg") and panel.notes for panel in panels.panels)


def test_panels_go_by_layer_and_head_and_their_pictures_say_what_their_notes_say(shown):
    for panels in model_panels(shown):
        if "harmonic" in panels.title:
            assert [panel.title for panel in panels.panels] == ["head 1", "head 2"]
            continue
        assert [panel.title for panel in panels.panels] == [
            f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2)
        ]
        for panel in panels.panels:
            assert f"{panel.title}: {'; '.join(panel.notes)}." in html.unescape(panel.picture)


def test_a_head_that_never_settles_has_notes_and_no_picture():
    seen = observe(model("oscillator"), TEXT)
    first = seen.settling[0]
    never = first._replace(settling_time=torch.full_like(first.settling_time, torch.inf))
    (panels,) = model_panels(
        Model("oscillator", "", replace(seen, settling=[never, *seen.settling[1:]]))
    )
    assert [bool(panel.picture) for panel in panels.panels] == [False, False, True, True]
    assert panels.panels[0].notes[-1] == "no oscillator settles"


@pytest.mark.parametrize(
    ("settling", "told"),
    [([1.0, 2.0, 3.0, 4.0, 5.0, math.inf], "half have settled at 3"),
     ([1.0, 2.0, math.inf, math.inf, math.inf, math.inf], "only 2 of 6 settle")],
)  # fmt: skip
def test_half_have_settled_counts_those_that_never_do(settling, told):
    seen = observe(model("oscillator"), TEXT)
    first = seen.settling[0]
    times = torch.full_like(first.settling_time, torch.inf)
    times[:, : len(settling)] = torch.tensor(settling, dtype=times.dtype)
    coupled = torch.zeros_like(first.coupled)
    coupled[:, : len(settling)] = True
    changed = first._replace(settling_time=times, coupled=coupled)
    (panels,) = model_panels(
        Model("oscillator", "", replace(seen, settling=[changed, *seen.settling[1:]]))
    )
    assert panels.panels[0].notes[-1] == told


def test_the_table_has_a_row_per_layer(shown):
    table = measure_table(shown)
    assert [row[0] for row in table.lines] == ["layer 1", "layer 2"]
    assert all(len(row) == len(table.headings) for row in table.lines)
    assert ("locked fraction" in table.headings) == (shown.name != "softmax")
    low, high = (float(x) for x in table.lines[0][-2].split("(")[1].strip(")").split(" to "))
    assert 0 < low <= high <= 1


def test_frustration_and_harmonics_are_named():
    net = model("frustrated")
    kernel = net.model.layers[0].attention.coupling_kernel
    kernel.set(amplitude=0.0)
    kernel.set(head=0, delay=0, harmonic=1, amplitude=1.0, frustration=0.5)
    kernel.set(head=0, delay=0, harmonic=2, amplitude=3.0, frustration=0.0)
    (coupling, *_) = model_panels(Model("frustrated", "", observe(net, TEXT)))
    first, second = coupling.panels[:2]
    assert first.notes == ["the token seen: α +0.50; 25% m = 1, 75% m = 2", "its successor: none"]
    assert second.notes[0] == "the token seen: none"


def test_a_small_budget_leaves_layers_out_and_says_so():
    shown = Model("softmax", "", observe(model("softmax", layers=4, heads=4), TEXT))
    size = len(TEXT) ** 2
    whole = model_view(shown, budget=16 * size)
    assert whole["left_out"] == ""
    assert whole["matrix"]["layers"] == [1, 2, 3, 4]
    some = model_view(shown, budget=8 * size)
    assert some["matrix"]["layers"] == [1, 4]
    assert some["left_out"] == "To keep the page small, 2 of 4 layers are here."
    least = model_view(shown, budget=1)
    assert (least["matrix"]["layers"], least["matrix"]["heads"]) == ([1], [1])
    assert [len(row) for row in least["heads"]] == [1]


def test_heads_are_described_in_words(shown):
    words = model_view(shown, budget=10**6)["heads"][0][0]
    assert ("neighbours" in words) == (shown.name == "softmax")
    if shown.name != "softmax":
        assert math.isfinite(float(words.split()[1].strip(",")))
