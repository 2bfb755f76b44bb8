import csv
import hashlib
import io
import tarfile
import wave

import pytest
import torch

from syncattn.data import speech
from syncattn.data.sources import Lookup, MissingDataError
from syncattn.data.speech import WORDS, load_keywords, read_clip


def clip(seed, *, rate=16_000, seconds=1.0):
    samples = torch.randn(int(rate * seconds), generator=torch.Generator().manual_seed(seed))
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples * 1_000).clamp(-32_768, 32_767).to(torch.int16).numpy().tobytes())
    return stream.getvalue()


def names(word):
    return {
        f"{word}/s{i}_nohash_0.wav": split for i, split in enumerate(("train", "valid", "test"))
    }


def _add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def lists():
    """Returns the official lists of files, by name."""
    return {
        file: "\n".join(n for w in (*WORDS, "bed") for n, s in names(w).items() if s == split)
        for split, file in (("valid", "validation_list.txt"), ("test", "testing_list.txt"))
    }


@pytest.fixture
def part(tmp_path):
    folder = tmp_path / "speech_commands"
    folder.mkdir()
    rows = []
    for number, word in enumerate(WORDS):
        with tarfile.open(folder / f"{word}.tar.xz", "w:xz") as archive:
            for i, (name, split) in enumerate(names(word).items()):
                content = clip(10 * number + i)
                _add(archive, name, content)
                rows.append((name, word, f"s{i}", split, hashlib.sha256(content).hexdigest()))
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "label", "speaker", "split", "sha256"), *rows])
    return tmp_path


def test_a_part_is_split_as_its_manifest_says(part):
    data = load_keywords(Lookup(folder=part))
    assert data.identity.extent == "part"
    assert data.identity.sizes == {"train": 10, "valid": 10, "test": 10}
    assert data.test.label.tolist() == list(range(10))
    torch.testing.assert_close(data.train.inputs.mean((0, 1)), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(data.train.inputs.std((0, 1)), torch.ones(40), atol=1e-3, rtol=0)
    assert data.train.inputs.shape[1:] == (49, 40)


TEN_EACH = {"train": 10, "valid": 10, "test": 10}


def test_the_official_archive_is_split_by_its_lists(tmp_path, monkeypatch):
    path = tmp_path / "speech_commands_v0.02.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for number, word in enumerate((*WORDS, "bed")):
            for i, name in enumerate(names(word)):
                _add(archive, f"./{name}", clip(10 * number + i))
        for file, listed in lists().items():
            _add(archive, f"./{file}", listed.encode())
    assert load_keywords(Lookup(folder=tmp_path)).identity.extent == "part"
    monkeypatch.setattr(speech, "CLIPS", TEN_EACH)
    data = load_keywords(Lookup(folder=tmp_path))
    assert data.identity.extent == "whole"
    assert data.identity.sizes == TEN_EACH


def test_the_folder_of_the_official_archive_is_split_by_its_lists(tmp_path, monkeypatch):
    folder = tmp_path / "speech_commands_v0.02"
    for number, word in enumerate((*WORDS, "bed")):
        (folder / word).mkdir(parents=True)
        for i, name in enumerate(names(word)):
            (folder / name).write_bytes(clip(10 * number + i))
    for file, listed in lists().items():
        (folder / file).write_text(listed)
    assert load_keywords(Lookup(folder=tmp_path)).identity.extent == "part"
    monkeypatch.setattr(speech, "CLIPS", TEN_EACH)
    data = load_keywords(Lookup(folder=tmp_path))
    assert data.identity.extent == "whole"
    assert data.identity.source == folder.name
    assert data.identity.sizes == TEN_EACH
    (folder / "testing_list.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"text in UTF-8; testing_list\.txt is not"):
        load_keywords(Lookup(folder=tmp_path))


@pytest.mark.parametrize("keep", [0, 300, -2_000])
def test_a_damaged_archive_is_refused_by_name(part, keep):
    path = part / "speech_commands" / "no.tar.xz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"readable and whole; .*no\.tar\.xz is not"):
        load_keywords(Lookup(folder=part))
    official = part / "speech_commands_v0.02.tar.gz"
    official.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"readable and whole; .*v0\.02\.tar\.gz is not"):
        load_keywords(Lookup(folder=official))


def test_a_changed_clip_is_refused(part):
    path = part / "speech_commands" / "no.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        _add(archive, next(iter(names("no"))), clip(999))
    with pytest.raises(ValueError, match=r"sha256 of the manifest; no/s0"):
        load_keywords(Lookup(folder=part))


@pytest.mark.parametrize(
    ("rewrite", "told"),
    [
        (lambda text: text.replace("sha256", "checksum"), "row 2 of .* lacks sha256"),
        (lambda text: text.replace("valid", "validation"), "row 3 of .* has 'validation'"),
        (lambda text: text.splitlines()[0] + "\nyes/s0_nohash_0.wav\n", "lacks split, sha256"),
        (lambda text: "", "must hold a clip; got train, valid, test"),
    ],
)
def test_a_manifest_that_lacks_something_is_refused(part, rewrite, told):
    path = part / "speech_commands" / "manifest.csv"
    path.write_text(rewrite(path.read_text()))
    with pytest.raises(ValueError, match=told):
        load_keywords(Lookup(folder=part))


def test_a_manifest_that_is_no_text_is_refused(part):
    (part / "speech_commands" / "manifest.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"`manifest\.csv` must be a table in UTF-8"):
        load_keywords(Lookup(folder=part))


def test_a_missing_word_is_refused(part):
    (part / "speech_commands" / "go.tar.xz").unlink()
    with pytest.raises(ValueError, match=r"go\.tar\.xz is missing"):
        load_keywords(Lookup(folder=part))


def test_the_sample_is_made_of_tones_and_can_be_told_apart():
    data = load_keywords(Lookup(samples_only=True))
    assert data.identity.extent == "sample"
    assert data.train.size == 240
    centres = torch.stack([data.train.inputs[data.train.label == k].mean(0) for k in range(10)])
    distance = (data.test.inputs[:, None] - centres).flatten(2).norm(dim=-1)
    assert (distance.argmin(1) == data.test.label).double().mean() > 0.3


def test_no_sample_where_none_may_stand_in():
    with pytest.raises(MissingDataError, match="Speech Commands"):
        load_keywords(Lookup(samples_only=True, may_sample=False))


def test_clips_are_padded_and_checked():
    assert read_clip(clip(0, seconds=0.5)).shape == (16_000,)
    assert (read_clip(clip(0, seconds=0.5))[8_000:] == 0).all()
    with pytest.raises(ValueError, match="1 channel, 2 bytes"):
        read_clip(clip(0, rate=8_000))
    with pytest.raises(ValueError, match="must be a wav file"):
        read_clip(b"nothing")
    for cut, seconds in ((None, 0.0), (-1, 0.1)):
        with pytest.raises(ValueError, match="samples of 2 bytes"):
            read_clip(clip(0, seconds=seconds)[:cut])


def test_checksum_is_that_of_the_official_archive():
    assert speech.SPEECH_COMMANDS.sha256.startswith("af14739e")
    assert speech.SPEECH_COMMANDS.size == 2_428_923_189
