"""Kills, full disks, torn files, odd clocks, locales and names: a run goes on or says why not."""

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncattn.data import load_corpus
from syncattn.training import last_checkpoint, train
from syncattn.training import loop as loop_module
from syncattn.training.checkpoint import save_checkpoint

from . import tiny
from .test_checkpoint import RUN, save, state_at, stepped

ROOT = Path(__file__).parents[2]


def run(folder, corpus, name="run", **options):
    return train(
        tiny.gpt2(), corpus, tiny.CONFIG, directory=folder / name, progress=False, **options
    )


def in_a_process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "tests.training.faults", *map(str, arguments)],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
        timeout=3000,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork a process to kill")
def test_twenty_kills_at_random_moments_change_no_loss(tmp_path):
    done = in_a_process("kill", tmp_path, 20, int.from_bytes(os.urandom(4)))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] >= 20


@pytest.mark.slow
def test_two_processes_with_one_seed_have_the_same_losses(tmp_path):
    figures = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        done = in_a_process("figures", tmp_path / name)
        assert done.returncode == 0, done.stderr
        figures.append(json.loads(done.stdout))
    assert figures[0] == figures[1]


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX", "tr_TR.UTF-8"])
def test_the_locale_changes_nothing(tmp_path, locale):
    (tmp_path / "usual").mkdir()
    expected = json.loads(in_a_process("figures", tmp_path / "usual").stdout)
    (tmp_path / "odd").mkdir()
    odd = {"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = in_a_process("figures", tmp_path / "odd", **odd)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


FILES = ("manifest.json", "state.json", "optimizer.safetensors", "model/model.safetensors",
         "model/config.json")  # fmt: skip


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def zero(path):
    # What a file system leaves of a file whose blocks were never written.
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("tear", [halve, empty, flip, zero, os.unlink])
@pytest.mark.parametrize("name", FILES)
def test_every_torn_file_is_noticed(tmp_path, name, tear):
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    tear(newer / name)
    with pytest.warns(UserWarning, match="'step-00000002' .* is torn"):
        assert last_checkpoint(tmp_path) == older


def test_what_is_no_checkpoint_is_passed_over(tmp_path):
    whole = save(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-00000007").write_text("a file")
    (tmp_path / "checkpoints" / "step-00000008").mkdir()
    with pytest.warns(UserWarning, match="is torn"):
        assert last_checkpoint(tmp_path) == whole


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


PLACES = ["checkpoint.save_file", "checkpoint._write_json", "checkpoint._checksums"]


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_is_said_and_keeps_the_last_checkpoint(tmp_path, monkeypatch, place):
    corpus = tiny.corpus(tmp_path)
    whole = tiny.figures(run(tmp_path, corpus, "whole"))
    calls = []

    def fail_later(*arguments, **options):
        calls.append(1)
        return (full_disk if len(calls) > 2 else real)(*arguments, **options)

    module = sys.modules["syncattn.training.checkpoint"]
    real = getattr(module, place.split(".")[1])
    with monkeypatch.context() as patch:
        patch.setattr(module, place.split(".")[1], fail_later)
        with pytest.raises(OSError, match=r"`directory` must take .* 'No space left .* `resume`\."):
            run(tmp_path, corpus)
    assert not list((tmp_path / "run" / "checkpoints").glob(".partial*"))
    assert last_checkpoint(tmp_path / "run") is not None
    assert tiny.figures(run(tmp_path, corpus, resume=True)) == whole


@pytest.mark.parametrize("name", ["training.json", "metrics.jsonl"])
def test_a_curve_that_cannot_be_written_is_said(tmp_path, monkeypatch, name):
    corpus = tiny.corpus(tmp_path)
    opened = Path.open

    def fail(path, *arguments, **options):
        return full_disk() if path.name == name else opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="`directory` must take what a run writes"):
        run(tmp_path, corpus)


@contextmanager
def small_disk(folder, size):
    """A disk of its own, where the system lets this user have one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("a small disk needs the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path):
    model, optimizer = stepped()
    with small_disk(tmp_path / "disk", "1m") as disk:
        whole = save_checkpoint(disk, model, optimizer, state_at(1), run=RUN)
        taken = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        with (disk / "ballast").open("wb") as stream:
            stream.write(bytes(shutil.disk_usage(disk).free - taken // 2))
        with pytest.raises(OSError, match=r"`directory` must take what a run writes; got .*space"):
            save_checkpoint(disk, model, optimizer, state_at(2), run=RUN)
        assert last_checkpoint(disk) == whole
        (disk / "ballast").unlink()
        newer = save_checkpoint(disk, model, optimizer, state_at(2), run=RUN)
        assert last_checkpoint(disk) == newer


def test_a_folder_that_takes_nothing_is_said(tmp_path):
    corpus = tiny.corpus(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`directory` must be a folder that can be written"):
        run(tmp_path / "file", corpus)
    if Path("/proc/self").is_dir():
        with pytest.raises((OSError, ValueError), match="`directory` must"):
            train(tiny.gpt2(), corpus, tiny.CONFIG, directory=Path("/proc/self"), progress=False)


@pytest.mark.parametrize("clock", ["backwards", "still"])
def test_a_clock_that_goes_backwards_or_stands_still(tmp_path, monkeypatch, clock):
    corpus = tiny.corpus(tmp_path)
    expected = tiny.figures(run(tmp_path, corpus, "usual"))
    ticks = iter(range(10**9, 0, -1))

    def odd():
        return float(next(ticks)) if clock == "backwards" else 1.0

    monkeypatch.setattr(loop_module.time, "perf_counter", odd)
    result = run(tmp_path, corpus)
    assert tiny.figures(result) == expected
    assert result.seconds == 0 and result.tokens_per_second > 0


def test_names_that_are_no_text(tmp_path):
    corpus = tiny.corpus(tmp_path)
    with pytest.raises(ValueError, match="`directory` must have a name in UTF-8"):
        run(tmp_path, corpus, os.fsdecode(b"run-\xff"))
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in (b"one-\xff.txt", "zwei-\u00e4.txt".encode()):
        try:
            path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
            path.write_text("some words of a text\n" * 60, encoding="utf-8")
        except OSError:
            pytest.skip("the file system takes no such names")
    found = load_corpus(folder, context_length=16)
    assert found.identity.num_files == 2
    json.dumps(found.identity.as_dict())
