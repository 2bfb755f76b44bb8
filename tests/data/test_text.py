"""Corpora are split the same way everywhere, and batches depend on the step alone."""

import gzip
import hashlib
import json
import os
import platform
import sysconfig

import pytest
import torch

from syncattn.data import evaluation_batches, load_corpus, training_batch


def text_of(split):
    return bytes(split.tolist())


def lines(number, start=0):
    return "".join(f"line {i:06d} of the text\n" for i in range(start, start + number)).encode()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small standard library, so that what is kept and dropped can be seen."""
    root = tmp_path / "stdlib"
    root.mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(root))
    return root


def test_the_standard_library_is_the_default():
    corpus = load_corpus(context_length=256)
    identity = corpus.identity
    assert identity.name == f"python-stdlib-{platform.python_version()}"
    assert identity.whole and identity.num_files > 100
    assert identity.split.startswith("by file")
    assert corpus.train.dtype == torch.uint8 and corpus.train.ndim == 1
    sizes = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    assert identity.num_bytes == {name: len(split) for name, split in sizes.items()}
    joined = b"".join(map(text_of, sizes.values()))
    assert identity.sha256 == hashlib.sha256(joined).hexdigest()
    assert joined.count(b"# file: Lib/") >= identity.num_files
    assert text_of(corpus.train).startswith(b"# file: Lib/")


def test_the_standard_library_leaves_out_tests_packages_and_build_products(library):
    kept = [f"package{i}/module.py" for i in range(60)]
    dropped = [
        "test/a.py",
        "json/tests/a.py",
        "site-packages/a.py",
        "dist-packages/a.py",
        "idlelib/a.py",
        "encodings/a.py",
        "config-3.11-x/a.py",
        "_sysconfigdata_x.py",
        "data.txt",
        "x/__pycache__/a.py",
    ]
    for name in kept + dropped:
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_bytes(lines(20))
    (library / "empty.py").touch()
    (library / "latin.py").write_bytes(b"# coding: latin-1\n# \xe9\n")
    corpus = load_corpus(context_length=16)
    assert corpus.identity.num_files == 60
    assert corpus.identity.num_skipped == 2
    found: dict[str, str] = {}
    for split in ("train", "valid", "test"):
        for line in text_of(getattr(corpus, split)).decode().splitlines():
            if line.startswith("# file: "):
                found[line.removeprefix("# file: Lib/")] = split
    assert sorted(found) == sorted(kept)
    for name, split in found.items():
        bucket = int(hashlib.sha1(f"Lib/{name}".encode()).hexdigest(), 16) % 100
        assert split == ("test" if bucket < 5 else "valid" if bucket < 10 else "train")


@pytest.mark.parametrize("place", ["missing", "python.zip", "empty"])
def test_an_interpreter_without_source_is_an_error(tmp_path, monkeypatch, place):
    (tmp_path / "python.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / place))
    with pytest.raises(RuntimeError, match=r"source of its standard library.*Give `path`"):
        load_corpus(context_length=16)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_is_split_in_order_at_line_ends(tmp_path, suffix):
    content = lines(400)
    path = tmp_path / f"text.txt{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    corpus = load_corpus(path, context_length=16)
    splits = [text_of(s) for s in (corpus.train, corpus.valid, corpus.test)]
    assert b"".join(splits) == content
    assert all(split.endswith(b"\n") for split in splits)
    shares = [len(split) / len(content) for split in splits]
    assert shares == pytest.approx([0.9, 0.05, 0.05], abs=0.003)
    assert corpus.identity.sha256 == hashlib.sha256(content).hexdigest()
    assert corpus.identity.name == f"text.txt{suffix}"
    assert corpus.identity.source == str(path)
    assert corpus.identity.split.startswith("in order")
    assert corpus.identity.num_files == 1 and corpus.identity.whole


def test_one_long_line_is_split_between_characters(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("θ€😀" * 3001, encoding="utf-8")
    corpus = load_corpus(str(path), context_length=16)
    parts = [text_of(s).decode() for s in (corpus.train, corpus.valid, corpus.test)]
    assert "".join(parts) == path.read_text(encoding="utf-8")


def test_max_bytes_takes_the_head_of_a_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(lines(1000))
    corpus = load_corpus(path, context_length=16, max_bytes=5000)
    joined = b"".join(map(text_of, (corpus.train, corpus.valid, corpus.test)))
    assert joined == lines(1000)[:5000]
    assert not corpus.identity.whole
    same = load_corpus(path, context_length=16, max_bytes=len(lines(1000)))
    assert same.identity.whole
    assert same.identity == load_corpus(path, context_length=16).identity


def test_a_folder_of_many_files_is_split_by_file(tmp_path):
    for i in range(200):
        (tmp_path / f"part-{i}.txt").write_bytes(lines(20, start=20 * i))
    corpus = load_corpus(tmp_path, context_length=16)
    assert corpus.identity.split.startswith("by file")
    assert corpus.identity.num_files == 200
    splits = [text_of(s) for s in (corpus.train, corpus.valid, corpus.test)]
    numbers = [set(split.splitlines()) for split in splits]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 4000
    cut = load_corpus(tmp_path, context_length=16, max_bytes=20_000)
    assert not cut.identity.whole and cut.identity.num_bytes["train"] > 15_000
    heads = [text_of(s) for s in (cut.train, cut.valid, cut.test)]
    assert all(split.startswith(head) for split, head in zip(splits, heads, strict=True))
    assert 19_000 < sum(map(len, heads)) <= 20_000


def test_a_folder_of_few_files_is_split_in_order(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_bytes(lines(200, start=200))
    (tmp_path / "sub" / "c.txt.gz").write_bytes(gzip.compress(lines(200, start=400)))
    (tmp_path / "a.txt").write_bytes(lines(200)[:-1])
    (tmp_path / ".hidden").write_bytes(lines(9))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "empty").touch()
    corpus = load_corpus(tmp_path, context_length=16)
    joined = b"".join(map(text_of, (corpus.train, corpus.valid, corpus.test)))
    assert joined == lines(600)
    assert corpus.identity.split.startswith("in order")
    assert (corpus.identity.num_files, corpus.identity.num_skipped) == (3, 2)
    assert corpus.identity.name == tmp_path.name


def test_chance_never_makes_a_split_by_file_lopsided(tmp_path):
    def bucket(name):
        return int(hashlib.sha1(name.encode()).hexdigest(), 16) % 100

    names = [f"part-{i}.txt" for i in range(200)]
    large = next(name for name in names if bucket(name) < 5)
    for name in names:
        (tmp_path / name).write_bytes(lines(4000 if name == large else 20))
    corpus = load_corpus(tmp_path, context_length=16)
    assert corpus.identity.split.startswith("in order")


def test_a_name_that_is_not_utf8_is_read(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.txt", "wb") as stream:
        stream.write(lines(200))
    assert load_corpus(tmp_path, context_length=16).identity.num_files == 1


def test_the_identity_can_be_written_as_json(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(lines(100))
    identity = load_corpus(path, context_length=16).identity
    assert json.loads(json.dumps(identity.as_dict())) == identity.as_dict()
    assert identity.as_dict()["num_bytes"]["train"] == identity.num_bytes["train"]


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "text.txt").write_bytes(lines(100))
    assert load_corpus("~/text.txt", context_length=16).identity.source == "~/text.txt"


def test_too_short_a_text_says_what_came_and_what_is_needed(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("x" * 1000)
    message = r"\+ 1 = 65 bytes; got 1000 bytes .*900 for train, 50 for valid, 50 for test"
    with pytest.raises(ValueError, match=message):
        load_corpus(path, context_length=64)
    assert load_corpus(path, context_length=49).test.shape == (50,)
    with pytest.raises(ValueError, match="raise `max_bytes`"):
        load_corpus(path, context_length=49, max_bytes=500)
    with pytest.raises(ValueError, match="`context_length`"):
        load_corpus(context_length=10**8)


def test_paths_without_text_are_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "a.bin").write_bytes(b"abc\0")
    (tmp_path / "folder").mkdir()
    cases = {
        "": "got ''",
        tmp_path / "missing.txt": "No such file",
        tmp_path / "empty.txt": "an empty file",
        tmp_path / "folder": "a folder without",
        tmp_path / "binary": r"a\.bin', whose byte 3 is a NUL byte",
        tmp_path / "binary" / "a.bin": "byte 3 is a NUL byte",
        tmp_path / "empty.txt" / "below": "Not a directory",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message):
            load_corpus(path, context_length=16)


def test_an_unreadable_file_in_a_folder_is_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(lines(100))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ValueError, match=r"a\.txt': Permission denied"):
        load_corpus(tmp_path, context_length=16)


@pytest.mark.parametrize("name", ["context_length", "max_bytes"])
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_must_be_positive(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1; got {value}"):
        load_corpus(tmp_path, **{"context_length": 16, name: value})


def batch(step, seed=0, size=4, length=8, bytes_=100):
    split = torch.arange(bytes_, dtype=torch.uint8)
    return training_batch(split, batch_size=size, context_length=length, seed=seed, step=step)


def test_a_training_batch_is_a_function_of_seed_and_step():
    first = batch(3)
    batch(4), torch.rand(3)
    assert torch.equal(first, batch(3))
    assert not torch.equal(first, batch(4))
    assert not torch.equal(first, batch(3, seed=1))
    assert first.dtype == torch.int64 and first.shape == (4, 9)
    assert torch.equal(first - first[:, :1], torch.arange(9).expand(4, 9))
    # The order is part of every published number, so it may never move.
    assert batch(0)[:, 0].tolist() == [43, 61, 88, 49]


def test_training_windows_reach_both_ends():
    starts = torch.cat([batch(step, size=64, bytes_=20)[:, 0] for step in range(10)])
    assert sorted(starts.unique().tolist()) == list(range(12))
    only = batch(0, size=3, length=19, bytes_=20)
    assert torch.equal(only, torch.arange(20).expand(3, 20))


@pytest.mark.parametrize("size", [2, 5, 16, 17, 18, 33, 100])
@pytest.mark.parametrize("max_tokens", [None, 1, 15, 16, 40, 1000])
def test_evaluation_predicts_each_byte_once(size, max_tokens):
    split = torch.arange(size, dtype=torch.uint8)
    length = min(16, size - 1)
    batches = list(
        evaluation_batches(split, batch_size=2, context_length=length, max_tokens=max_tokens)
    )
    targets = [target for b in batches for target in b[:, 1:].flatten().tolist()]
    assert targets == list(range(1, min(size, (max_tokens or size) + 1)))
    for windows in batches:
        assert windows.dtype == torch.int64
        assert windows.shape[0] <= 2 and windows.shape[1] <= length + 1
        assert torch.equal(windows[:, 1:] - windows[:, :-1], torch.ones_like(windows[:, 1:]))


@pytest.mark.parametrize("name", ["batch_size", "context_length"])
def test_batches_refuse_bad_sizes(name):
    split = torch.zeros(10, dtype=torch.uint8)
    sizes = {"batch_size": 2, "context_length": 4}
    for bad in (0, -1):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
            training_batch(split, **sizes | {name: bad}, seed=0, step=0)
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
            next(evaluation_batches(split, **sizes | {name: bad}))


def test_batches_refuse_a_short_split():
    split = torch.zeros(10, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"\+ 1 = 11 bytes; got 10"):
        training_batch(split, batch_size=1, context_length=10, seed=0, step=0)
    with pytest.raises(ValueError, match=r"\+ 1 = 11 bytes; got 10"):
        next(evaluation_batches(split, batch_size=1, context_length=10))
    with pytest.raises(ValueError, match="`max_tokens` must be at least 1; got 0"):
        next(evaluation_batches(split, batch_size=1, context_length=9, max_tokens=0))
