import errno
import io

import pytest

from syncattn.cli import main
from syncattn.training import checkpoint
from tests.benchmarks.small import corpus


def words(folder, *more):
    return [
        "compare", "--corpus", str(corpus(folder)), "--output", str(folder / "run"),
        "--steps", "2", "--batch-size", "2", "--context-length", "24", "--hidden-size", "16",
        "--num-layers", "1", "--num-heads", "2", "--parameters", "16000", "--workers", "1",
        "--sample-length", "4", *more,
    ]  # fmt: skip


def test_compare_then_generate(tmp_path, capsys):
    assert main(words(tmp_path, "--mechanisms", "softmax", "frustrated")) == 0
    table = capsys.readouterr().out
    assert "softmax" in table
    assert "frustrated" in table
    run = str(tmp_path / "run")
    assert main(["generate", run, "--prompt", "line ", "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("line ")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--mechanisms", "hopfield"), "`mechanisms`"),
        (("--hidden-size", "15"), "`hidden_size`"),
        (("--steps", "-3"), "`steps`"),
        (("--context-length", "5000"), "5001"),
        (("--corpus", "no-such-place"), "`corpus` must be a readable file or folder"),
    ],
)
def test_bad_arguments_exit_with_2_and_one_sentence(tmp_path, capsys, more, named):
    assert main(words(tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("syncattn: error: ")
    assert named in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_is_said_in_one_sentence(tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    assert main(words(tmp_path, "--mechanisms", "softmax", "--no-compiled")) == 1
    error = capsys.readouterr().err
    assert "syncattn: error: `directory` must take what a run writes" in error
    assert "Traceback" not in error


def test_a_terminal_that_knows_few_letters_gets_others(monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", ascii_only)
    with pytest.raises(SystemExit):
        main(["--help"])
    print("0 – 1 ± 2")
    ascii_only.flush()
    assert ascii_only.buffer.getvalue().endswith(b"0 ? 1 ? 2\n")


def test_an_unknown_option_exits_with_2(tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(words(tmp_path, "--no-such-option"))
    assert stop.value.code == 2


def test_generate_without_a_run(tmp_path, capsys):
    assert main(["generate", str(tmp_path / "none"), "--prompt", "x"]) == 2
    assert "`run` must be a folder" in capsys.readouterr().err


SMALL = ["--num-oscillators", "30", "--num-couplings", "3", "--duration", "3"]


def test_simulate_writes_and_says_where(tmp_path, capsys):
    output = tmp_path / "sim"
    assert main(["simulate", "kuramoto", "--coupling-strength", "2", "--density", "gaussian",
                 "--output", str(output), *SMALL]) == 0  # fmt: skip
    said = capsys.readouterr().out
    for kind in ("png", "svg", "json"):
        assert str(output / f"kuramoto.{kind}") in said
        assert (output / f"kuramoto.{kind}").exists()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--noise-intensity", "-1"), "`noise_intensity` is a variance"),
        (("--coupling-strength", "0"), "`coupling_strength`"),
        (("--frustration", "0.3"), "`frustration` must be left out for kuramoto"),
        (("--step", "2"), "`step` must be at most"),
    ],
)
def test_a_simulation_that_cannot_be_meant(tmp_path, capsys, more, named):
    assert main(["simulate", "--output", str(tmp_path / "sim"), *SMALL, *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("syncattn: error: ")
    assert named in error
    assert "Traceback" not in error


@pytest.mark.parametrize("words", [[], ["nonsense"], ["simulate", "hopfield"]])
def test_what_is_no_command_exits_with_2(words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("compare", "generate", "simulate"))


def test_a_missing_library_is_named(monkeypatch, capsys):
    def without(name):
        raise ModuleNotFoundError("gone", name="matplotlib")

    monkeypatch.setattr("importlib.import_module", without)
    assert main(["simulate"]) == 2
    assert "this command needs matplotlib" in capsys.readouterr().err
