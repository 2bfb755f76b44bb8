import json
import zipfile

import pytest

from syncattn.data.blimp import PARADIGMS, load_blimp
from syncattn.data.sources import Lookup, MissingDataError


def test_the_six_paradigms_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "BLiMP.zip", "w") as archive:
        for name in (*PARADIGMS, "causative"):
            rows = [{"sentence_good": f"{name} {i}.", "sentence_bad": "no"} for i in range(2)]
            archive.writestr(f"data/{name}.jsonl", "\n".join(map(json.dumps, rows)))
    pairs = load_blimp(Lookup(folder=tmp_path))
    assert len(pairs.pairs) == 12
    assert pairs.paradigms == PARADIGMS
    assert pairs.pairs[2] == (f"{PARADIGMS[1]} 0.", "no")
    assert pairs.paradigm[2] == 1
    assert pairs.identity.extent == "whole"


def test_another_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "BLiMP.zip", "w") as archive:
        archive.writestr("data/causative.jsonl", "")
    with pytest.raises(ValueError, match=r"`BLiMP\.zip` must hold"):
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
