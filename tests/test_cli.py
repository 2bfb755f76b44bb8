import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import pytest

from syncattn import cli
from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.folders import held
from syncattn.cli import main
from syncattn.data.sources import MissingDataError
from syncattn.training import DivergedError, checkpoint
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
    captured = capsys.readouterr()
    said = " ".join((captured.out + captured.err).split())
    assert "`directory` must take what a run writes" in said
    assert "Traceback" not in said


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
    assert all(name in said for name in cli._COMMANDS)


def test_help_names_every_mechanism_that_compares(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    said = re.sub(r"\W*\n\W*", " ", capsys.readouterr().out)
    named = said.partition("Mechanisms to train: ")[2].partition(".")[0].split()
    assert [name.rstrip(",") for name in named] == list(ARMS)


def test_completions_of_a_shell_know_the_options_of_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--tyro-print-completion", "bash"])
    assert not stop.value.code
    said = capsys.readouterr().out
    assert all(option in said for option in ("--max-new-tokens", "--num-oscillators", "--corpus"))


def test_help_and_version_load_no_library():
    code = (
        "import sys; from syncattn import cli\n"
        "assert cli.main(['--version']) == 0\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, *_, last = done.stdout.splitlines()
    assert (first, last) == (f"syncattn {version('syncattn')}", "False")


def test_a_missing_library_is_named(monkeypatch, capsys):
    def without(name):
        raise ModuleNotFoundError("gone", name="matplotlib")

    monkeypatch.setattr("importlib.import_module", without)
    assert main(["simulate"]) == 2
    assert "this command needs matplotlib" in capsys.readouterr().err


def _fails_with(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("syncattn.benchmarks.simulate.simulate", fails)


@pytest.mark.parametrize(
    "error",
    [
        DivergedError(3),
        MissingDataError("It must be found; it is nowhere. Give it."),
        RuntimeError("The data must stay as it was; it changed. Give every worker the same data."),
        RuntimeError("Diverged: the state was not finite at time 3; lower `step`, which was 1."),
    ],
)
def test_a_failure_that_was_foreseen_is_one_sentence(monkeypatch, capsys, error):
    _fails_with(monkeypatch, error)
    assert main(["simulate"]) == 1
    assert capsys.readouterr().err == f"syncattn: error: {error}\n"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        NotImplementedError("Nobody wrote it; it must be written. Write it."),
    ],
)
def test_a_fault_of_the_program_shows_where_it_was(monkeypatch, error):
    _fails_with(monkeypatch, error)
    with pytest.raises(type(error), match="must"):
        main(["simulate"])


def test_two_comparisons_do_not_write_one_folder(tmp_path, capsys):
    with held(tmp_path / "run"):
        assert main(words(tmp_path)) == 2
    error = capsys.readouterr().err
    assert error.startswith("syncattn: error: `output` must be written by one process at a time")
    assert error.count("\n") == 1 and not list((tmp_path / "run").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compare", "--resume"], "what is finished is kept, add --resume"),
        (["benchmark", "run", "--preset", "smoke"], "records that are finished are kept"),
    ],
)
def test_a_command_that_is_asked_to_end_says_what_it_left(monkeypatch, capsys, words, told):
    def asked(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr("syncattn.benchmarks.commands.run_benchmark", asked)
    monkeypatch.setattr("syncattn.benchmarks.compare.Comparison", asked)
    assert main(words) == 143
    assert told in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_thread_and_a_handler_of_another_are_left_alone(monkeypatch):
    monkeypatch.setattr("syncattn.benchmarks.simulate.simulate", lambda _: [])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main, ["simulate"]).result() == 0
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert main(["simulate"]) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["benchmark", "run", "--preset", "smoke"], "records that are finished are kept"),
        (["benchmark", "list"], "nothing more"),
    ],
)
def test_a_stopped_command_says_what_it_left(monkeypatch, capsys, words, told):
    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("syncattn.benchmarks.commands.run_benchmark", stopped)
    assert main(words) == 130
    assert told in capsys.readouterr().err
