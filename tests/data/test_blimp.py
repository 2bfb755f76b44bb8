import json
import zipfile

import pytest

from syncattn.data import blimp
from syncattn.data.blimp import PARADIGMS, load_blimp
from syncattn.data.sources import Lookup, MissingDataError


def test_the_six_paradigms_are_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "BLiMP.zip", "w") as archive:
        for name in (*PARADIGMS, "causative"):
            rows = [{"sentence_good": f"{name} {i}.", "sentence_bad": "no"} for i in range(2)]
            archive.writestr(f"data/{name}.jsonl", "\n".join(map(json.dumps, rows)))
    pairs = load_blimp(Lookup(folder=tmp_path))
    assert len(pairs.pairs) == 12
    assert pairs.paradigms == PARADIGMS
    assert pairs.pairs[2] == (f"{PARADIGMS[1]} 0.", "no")
    assert pairs.paradigm[2] == 1
    assert pairs.identity.extent == "part"
    monkeypatch.setattr(blimp, "PAIRS_PER_PARADIGM", 2)
    assert load_blimp(Lookup(folder=tmp_path)).identity.extent == "whole"


def test_another_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "BLiMP.zip", "w") as archive:
        archive.writestr("data/causative.jsonl", "")
    with pytest.raises(ValueError, match=r"`BLiMP\.zip` must hold"):
        load_blimp(Lookup(folder=tmp_path))


@pytest.mark.parametrize("line", ["[1]", "1", '"text"', '{"sentence_good": 1, "sentence_bad": 2}'])
def test_rows_without_two_sentences_are_refused(line, tmp_path):
    with zipfile.ZipFile(tmp_path / "BLiMP.zip", "w") as archive:
        for name in PARADIGMS:
            archive.writestr(f"data/{name}.jsonl", line)
    with pytest.raises(ValueError, match=r"`BLiMP\.zip` must hold its paradigms as JSON lines"):
        load_blimp(Lookup(folder=tmp_path))


def test_a_damaged_stream_in_the_zip_is_refused(tmp_path):
    path = tmp_path / "BLiMP.zip"
    name = f"data/{PARADIGMS[0]}.jsonl"
    rows = [{"sentence_good": f"a{7919 * i * i}", "sentence_bad": f"b{i}"} for i in range(400)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, "\n".join(map(json.dumps, rows)))
    content = bytearray(path.read_bytes())
    start = 30 + len(name) + 5
    content[start : start + 55] = bytes(range(200, 255))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`BLiMP\.zip` must hold .* Fetch it again"):
        load_blimp(Lookup(folder=tmp_path))


def test_the_sample_has_agreeing_verbs_first():
    pairs = load_blimp(Lookup(samples_only=True))
    assert pairs.identity.extent == "sample"
    for (good, bad), distractor in zip(pairs.pairs, pairs.paradigm, strict=True):
        plural = good.split()[1].endswith("s")
        assert good.endswith("s.") != plural
        assert bad.endswith("s.") == plural
        assert (len(good.split()) > 3) == bool(distractor)


def test_no_sample_where_none_may_stand_in():
    with pytest.raises(MissingDataError, match="BLiMP"):
        load_blimp(Lookup(samples_only=True, may_sample=False))
