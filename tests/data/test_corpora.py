import contextlib
import gzip
import hashlib
import io
import zipfile

import pytest
import torch

from syncattn.data import corpora
from syncattn.data.corpora import (
    END_OF_STORY,
    load_code,
    load_enwik8,
    load_tinystories,
    load_wikitext2,
)
from syncattn.data.download import DownloadError, RemoteFile
from syncattn.data.sources import Lookup, MissingDataError
from tests.data.serving import serving

LOADERS = (load_enwik8, load_code, load_wikitext2, load_tinystories)
STORY = "One day, Tim saw a big dog. The dog's tail was red.\n"


def lookup(folder, **changes):
    return Lookup(folder=folder, cache=folder / "cache", **changes)


@pytest.mark.parametrize("load", LOADERS)
def test_without_data_the_sample_is_named_as_one(load, tmp_path):
    tokens = load(lookup(tmp_path))
    assert tokens.identity.extent == "sample"
    assert min(len(tokens.train), len(tokens.valid), len(tokens.test)) > 1_000
    assert int(tokens.train.max()) < tokens.vocabulary_size
    assert tokens.identity.sha256 == load(lookup(tmp_path, samples_only=True)).identity.sha256


@pytest.mark.parametrize("load", LOADERS)
def test_without_data_and_without_samples_it_is_missing(load, tmp_path):
    with pytest.raises(MissingDataError, match="must be found"):
        load(lookup(tmp_path, may_sample=False))


def test_a_head_of_enwik8_is_a_part_split_in_proportion(tmp_path):
    (tmp_path / "enwik8").mkdir()
    content = bytes(i % 251 for i in range(2_000))
    (tmp_path / "enwik8" / "enwik8_first_2000.gz").write_bytes(gzip.compress(content))
    tokens = load_enwik8(lookup(tmp_path))
    assert tokens.identity.extent == "part"
    assert tokens.identity.sizes == {"train": 1_800, "valid": 100, "test": 100}
    joined = torch.cat([tokens.train, tokens.valid, tokens.test])
    assert bytes(joined.tolist()) == content


def test_code_is_read_split_by_split(tmp_path):
    (tmp_path / "code").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "code" / f"{split}.txt").write_text(f"# {split}\n" * 10)
    tokens = load_code(lookup(tmp_path))
    assert bytes(tokens.valid.tolist()).startswith(b"# valid")
    assert str(tmp_path) not in tokens.identity.source


def _wikitext(folder, splits):
    (folder / "wikitext-2").mkdir()
    for split in splits:
        text = "".join(f" = {split} = \n \n The <unk> saw {split} {i} . \n" for i in range(30))
        (folder / "wikitext-2" / f"{split}.txt").write_text(text)


def test_wikitext_counts_an_end_for_every_line(tmp_path, monkeypatch):
    _wikitext(tmp_path, ["train", "valid", "test"])
    tokens = load_wikitext2(lookup(tmp_path), vocabulary_size=30)
    assert tokens.identity.extent == "part"
    monkeypatch.setattr(corpora, "WIKITEXT2_SIZES", tuple(tokens.identity.sizes.values()))
    assert load_wikitext2(lookup(tmp_path), vocabulary_size=30).identity.extent == "whole"
    assert tokens.words is not None
    first = [tokens.words[i] for i in tokens.train[:10].tolist()]
    assert first == ["=", "train", "=", "<eos>", "<eos>", "the", "<unk>", "saw", "train", "0"]


def test_wikitext_without_its_training_file_is_a_part(tmp_path):
    _wikitext(tmp_path, ["valid", "test"])
    tokens = load_wikitext2(lookup(tmp_path), vocabulary_size=30)
    assert tokens.identity.extent == "part"
    assert len(tokens.train) > 5 * len(tokens.valid)
    assert "train" not in (tokens.words or ())


def test_stories_are_split_whole_and_lose_signs(tmp_path):
    (tmp_path / "tinystories").mkdir()
    text = f"{STORY}{END_OF_STORY}\n" * 20
    path = tmp_path / "tinystories" / "TinyStories-train.head.txt.gz"
    path.write_bytes(gzip.compress(text.encode()))
    tokens = load_tinystories(lookup(tmp_path), vocabulary_size=50)
    words = "one day tim saw a big dog the dog's tail was red <eos>".split()
    assert tokens.words is not None
    assert [tokens.words[i] for i in tokens.test.tolist()] == words * 2
    assert (len(tokens.train), len(tokens.valid)) == (16 * len(words), 2 * len(words))
    assert tokens.identity.extent == "part"


def test_the_official_validation_stories_are_halved(tmp_path):
    (tmp_path / "TinyStories-train.txt").write_text(f"{STORY}{END_OF_STORY}\n" * 4)
    held = "".join(f"Story {i}.\n{END_OF_STORY}\n" for i in range(4))
    (tmp_path / "TinyStories-valid.txt").write_text(held)
    tokens = load_tinystories(lookup(tmp_path), vocabulary_size=50)
    assert len(tokens.valid) == len(tokens.test) == 6


def _zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


_LINES = "".join(f" = Page {i} = \n \n The <unk> saw page {i} . \n" for i in range(30))
_PAGES = {f"wikitext-2/wiki.{split}.tokens": f"{split} \n{_LINES}" for split in corpora.SPLITS}
_MARKUP = bytes(i % 251 for i in range(2_000))
_STORIES = f"{STORY}{END_OF_STORY}\n".encode() * 4
OFFICIAL = {
    "enwik8": (load_enwik8, {"ENWIK8": ("enwik8.zip", _zipped({"enwik8": _MARKUP}))}),
    "wikitext-2": (load_wikitext2, {"WIKITEXT2": ("wikitext-2-v1.zip", _zipped(_PAGES))}),
    "tinystories": (
        load_tinystories,
        {
            "TINYSTORIES_TRAIN": ("TinyStories-train.txt", _STORIES * 3),
            "TINYSTORIES_VALID": ("TinyStories-valid.txt", _STORIES),
        },
    ),
}
EVERY_SOURCE = pytest.mark.parametrize("name", OFFICIAL)


@contextlib.contextmanager
def official(name, monkeypatch):
    """Serves small files in place of the official ones; yields the handler and the loader."""
    load, files = OFFICIAL[name]
    monkeypatch.setattr(corpora, "ENWIK8_SHA256", hashlib.sha256(_MARKUP).hexdigest())
    monkeypatch.setattr(corpora, "WIKITEXT2_SIZES", (392, 392, 392))
    with serving(dict(files.values())) as (handler, address):
        for constant, (file, content) in files.items():
            digest = hashlib.sha256(content).hexdigest()
            remote = RemoteFile(address + file, digest, len(content))
            monkeypatch.setattr(corpora, constant, remote)
        yield handler, load


@EVERY_SOURCE
def test_the_official_source_is_whole_and_fetched_once(name, tmp_path, monkeypatch):
    asking = Lookup(cache=tmp_path, may_download=True, may_sample=False)
    with official(name, monkeypatch) as (handler, load):
        tokens = load(asking)
        assert tokens.identity.extent == "whole"
        assert tokens.identity.source.startswith("http://127.0.0.1")
        assert min(len(tokens.train), len(tokens.valid), len(tokens.test)) > 20
        fetched = len(handler.ranges)
        again = load(asking)
        assert len(handler.ranges) == fetched == len(OFFICIAL[name][1])
    # Without the network, and without the permission to ask it.
    kept = load(Lookup(cache=tmp_path, may_sample=False))
    assert kept.identity == again.identity == tokens.identity


@EVERY_SOURCE
def test_an_official_source_that_breaks_off_or_differs_is_told(name, tmp_path, monkeypatch):
    asking = Lookup(cache=tmp_path, may_download=True)
    with official(name, monkeypatch) as (handler, load):
        handler.breaks_after = 100
        with pytest.raises(DownloadError, match="broke off"):
            load(asking)
        handler.breaks_after = None
        tokens = load(asking)
        assert "bytes=100-" in handler.ranges
        assert tokens.identity.extent == "whole"
        first = next(iter(OFFICIAL[name][1]))
        changed = getattr(corpora, first)._replace(sha256="0" * 64)
        monkeypatch.setattr(corpora, first, changed)
        with pytest.raises(DownloadError, match="must have the sha256 0000"):
            load(asking)


def test_the_official_zip_of_wikitext_may_be_given(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "WIKITEXT2_SIZES", (392, 392, 392))
    path = tmp_path / "wikitext-2-v1.zip"
    path.write_bytes(_zipped(_PAGES))
    for folder in (tmp_path, path):
        tokens = load_wikitext2(Lookup(folder=folder, cache=tmp_path / "none"))
        assert tokens.identity.extent == "whole"
        assert tokens.identity.source == path.name


def test_another_file_of_the_right_size_is_a_part(tmp_path, monkeypatch):
    (tmp_path / "enwik8").write_bytes(bytes(2_000))
    monkeypatch.setattr(corpora, "ENWIK8_SHA256", hashlib.sha256(_MARKUP).hexdigest())
    assert load_enwik8(lookup(tmp_path)).identity.extent == "part"
    (tmp_path / "TinyStories-train.txt").write_bytes(_STORIES * 3)
    (tmp_path / "TinyStories-valid.txt").write_bytes(_STORIES)
    monkeypatch.setattr(
        corpora, "TINYSTORIES_TRAIN", corpora.TINYSTORIES_TRAIN._replace(size=len(_STORIES) * 3)
    )
    assert load_tinystories(lookup(tmp_path)).identity.extent == "part"


def test_published_checksums_are_whole():
    for remote in (corpora.ENWIK8, corpora.WIKITEXT2, corpora.TINYSTORIES_TRAIN,
                   corpora.TINYSTORIES_VALID):  # fmt: skip
        assert len(bytes.fromhex(remote.sha256)) == 32
        assert remote.url.startswith("http")
    assert len(bytes.fromhex(corpora.ENWIK8_SHA256)) == 32


def test_a_cut_falls_between_characters():
    text = "añb".encode()
    assert [corpora._character_start(text, place) for place in range(4)] == [0, 1, 1, 3]
