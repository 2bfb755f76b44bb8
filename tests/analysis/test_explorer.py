import base64
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from syncattn.analysis.explorer import Explorer, Settings
from syncattn.analysis.explorer_switches import Changes, Switch
from syncattn.models import MECHANISMS
from tests.analysis.explored import TEXT, build, build_all, ids

ODD = {
    "emoji": "👩‍👩‍👧 phases 🌀",
    "control": "\x00\x01\x1b[31m\x7f\r\n\t\u202e",
    "surrogate": "a\ud800b\udfff",
    "long": "oscillators lock " * 6_000,
    "one": "x",
    "combining": "e" + "\u0301" * 500,
    "not a character": "\ufffe\uffff\U0010ffff",
}


@pytest.fixture(scope="module")
def models():
    return build_all()


@pytest.fixture(scope="module")
def explorer(models):
    return Explorer(models, max_length=40)


def numbers(packed, kind="weights"):
    raw = np.frombuffer(base64.b64decode(packed[kind]), "<u2")
    n = len(packed["tokens"])
    return torch.tensor(raw.reshape(n, n).astype(float) / 65534)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_look_shows_what_the_model_does(explorer, models, mechanism):
    text = TEXT[:24]
    seen = explorer.look(Settings(text, mechanism, layer=1, head=1, query=10))
    assert json.loads(json.dumps(seen, allow_nan=False)) == seen
    picture = models[mechanism].synchrony(ids())[1]
    torch.testing.assert_close(
        numbers(seen["before"]["matrix"]), picture.weights[0, 1].double(), rtol=0, atol=1e-5
    )
    assert seen["tokens"][6] == "·"
    assert seen["query"] == 10
    assert seen["notices"] == []
    assert seen["after"] is None
    assert seen["moved"] is None
    p = models[mechanism](ids()).logits[0, 10].double().softmax(-1)
    told = [row["before"] for row in seen["prediction"]]
    np.testing.assert_allclose(told, p.topk(8).values.detach().numpy(), rtol=1e-5)
    assert seen["follows"]["token"] == text[11]
    assert (seen["before"]["film"] is None) == (mechanism == "softmax")
    assert (seen["before"]["links"] is None) == (mechanism == "softmax")


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_coupling_off_shows_before_and_after(explorer, mechanism):
    plain = explorer.look(Settings(TEXT, mechanism))
    seen = explorer.look(Settings(TEXT, mechanism, changes=Changes((Switch(0, 0),))))
    assert seen["before"] == plain["before"]
    assert 0 < seen["moved"] <= 1
    assert seen["changed"] == ["layer 1, head 1 off"]
    assert any(row["before"] != row["after"] for row in seen["prediction"])
    half = sum(abs(row["before"] - row["after"]) for row in seen["prediction"]) / 2
    assert half <= seen["moved"] + 1e-9
    assert explorer.look(Settings(TEXT, mechanism)) == plain


def test_an_oscillator_head_that_is_off_has_no_links_and_no_film(explorer):
    seen = explorer.look(Settings(TEXT, "oscillator", changes=Changes((Switch(0),))))
    assert seen["after"]["links"] == 0
    assert seen["after"]["film"] is None
    assert seen["before"]["film"] is not None


def test_a_bandwidth_makes_links_appear_and_disappear(explorer):
    links = [
        explorer.look(Settings(TEXT, "selective", changes=Changes(bandwidth=b)))["after"]["links"]
        for b in (0.3, 3.0)
    ]
    plain = explorer.look(Settings(TEXT, "selective"))["before"]["links"]
    assert links[0] < plain < links[1]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kind", ODD)
def test_odd_texts_are_read(explorer, mechanism, kind):
    seen = explorer.look(Settings(ODD[kind], mechanism))
    assert 1 <= len(seen["tokens"]) <= 40
    json.dumps(seen, allow_nan=False, ensure_ascii=False).encode("utf-8")
    said = " ".join(seen["notices"])
    assert ("the last 40 are read" in said) == (len(ODD[kind].encode("utf-8", "replace")) > 40)
    assert ("surrogate" in said) == (kind == "surrogate")


def test_beyond_its_context_a_model_says_so_where_it_can_go_on(explorer, models):
    seen = explorer.look(Settings("k" * 30, "selective"))
    assert len(seen["tokens"]) == 30
    assert "trained on at most 24 tokens" in seen["notices"][0]
    assert models["selective"].config.max_position_embeddings == 24


def test_a_table_of_places_is_not_left():
    table = Explorer({"table": build("oscillator", attention_options={"anchors": "ball"})})
    assert table.describe()[0]["longest"] == 24
    assert len(table.look(Settings("k" * 30))["tokens"]) == 24


def test_a_token_beyond_the_text_is_the_last_one(explorer):
    assert explorer.look(Settings("four", "softmax", query=99))["query"] == 3


def test_what_there_is(explorer):
    described = {entry["name"]: entry for entry in explorer.describe()}
    assert list(described) == list(MECHANISMS)
    frustrated = described["frustrated"]
    assert (frustrated["harmonics"], frustrated["delays"], frustrated["coordinates"]) == (2, 2, 8)
    assert described["softmax"]["harmonics"] is None
    assert described["selective"]["longest"] == 40
    assert described["selective"]["trained"] == 24


def test_many_threads_get_what_they_asked_for(explorer):
    asked = [
        Settings(TEXT, name, changes=Changes((Switch(0, head),)))
        for name in ("selective", "frustrated")
        for head in (0, 1)
    ]
    alone = [explorer.look(settings) for settings in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(explorer.look, asked * 3))
    assert together == alone * 3


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(""), "`text` must hold at least one character"),
        (Settings("a", "hopfield"), "`model` must be one of"),
        (Settings("a", layer=2), "`layer` must be at most 1; got 2"),
        (Settings("a", head=-1), "`head` must be at least 0"),
        (Settings("a", "kuramoto", coordinate=8), "`coordinate` must be at most 7"),
        (Settings("a", changes=Changes((Switch(7),))), "`layer` must be at most 1; got 7"),
    ],
)
def test_looks_that_cannot_be_meant(explorer, settings, named):
    with pytest.raises((ValueError, TypeError), match=named):
        explorer.look(settings)


def test_models_that_read_no_bytes_are_refused():
    with pytest.raises(ValueError, match="must read bytes"):
        Explorer({"words": build("softmax", vocab_size=300)})
    with pytest.raises(ValueError, match="at least one model"):
        Explorer({})
