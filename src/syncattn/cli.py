"""The commands: parse, call one function, say where it wrote."""

from __future__ import annotations

import importlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import version
from io import TextIOWrapper
from operator import or_
from pathlib import Path
from typing import Annotated, Any

try:
    import tyro
except ModuleNotFoundError as error:
    raise SystemExit(
        f"syncattn: the command line needs {error.name}, which is not installed. "
        f"Install the extras: pip install 'syncattn[all]'."
    ) from error


@dataclass(frozen=True)
class GenerateConfig:
    """Continues a text with a trained model."""

    run: tyro.conf.Positional[Path]
    """Folder of a comparison, of one of its trainings, or of a saved model."""

    prompt: str
    """The text to continue."""

    mechanism: str | None = None
    """Which training of a comparison; the best one when left out."""

    max_new_tokens: int = 200
    """Bytes to add."""

    temperature: float = 0.8
    """Of the sampling; 0 takes the likeliest byte."""

    top_k: int | None = None
    """Sample among so many likeliest bytes; all when left out."""

    seed: int | None = None
    """Seed of the sampling."""


_DESCRIPTION = (
    "Attention by synchronization: compare mechanisms, use what they learned, simulate their "
    "oscillators and the devices made of them. `--version` tells which version this is."
)


@dataclass(frozen=True)
class _Command:
    """A command: what it does, where its fields are, and what runs it.

    Its modules are imported when it is called, so that no command waits for another's libraries.
    """

    description: str
    fields: tuple[str, str]
    run: Callable[[Any], int]

    def config(self) -> type:
        module, name = self.fields
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class _AnyFields:
    """Stands for the fields of every command where none is named: help needs no libraries."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The words after the command; those of the process when None.

    Returns:
        The exit code: 0 when all went well, 1 when a training or what it needs failed, 2 for a
        wrong argument, 130 when stopped by the keyboard, 143 when asked to end (SIGTERM).

    Raises:
        RuntimeError: If something failed that nobody foresaw.
        SystemExit: If tyro refused the words, or printed help.
    """
    # A table is worth more than its dashes: what a terminal cannot spell stops no run.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = words[0] if words and words[0] in _COMMANDS else None
    if words == ["--version"]:
        print(f"syncattn {version('syncattn')}")
        return 0
    try:
        with _asked_to_end():
            config = _parse(words, [named] if named else list(_COMMANDS))
            run = next(c.run for c in _COMMANDS.values() if type(config).__name__ == c.fields[1])
            return run(config)
    except ModuleNotFoundError as error:
        return _refuse(
            f"this command needs {error.name}, which is not installed. "
            f"Install the extras: pip install 'syncattn[all]'."
        )
    except RuntimeError as error:
        if not _is_ours(error):
            raise
        return _refuse(error, code=1)
    except KeyboardInterrupt:
        return _stopped(words, 130)
    except SystemExit as end:
        if end.code != _ENDED:
            raise
        return _stopped(words, _ENDED)


# What a shell makes of a process that SIGTERM ended.
_ENDED = 128 + 15


@contextmanager
def _asked_to_end() -> Generator[None]:
    """Turns SIGTERM into SystemExit, so that what a command began (workers, a lock) is ended."""

    def end(*_: object) -> None:
        raise SystemExit(_ENDED)

    # Handlers are the main thread's, and whoever has one already knows why.
    mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if mine:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


# The three parts of our sentences, or how an integration ends; a library's messages have neither.
_SENTENCE = re.compile(r".*\bmust\b.*; .*\. [A-Z`].*\.|(Diverged|Not settled)\b.*: .*; .*\.")


def _is_ours(error: RuntimeError) -> bool:
    """Tells what was foreseen, and says so in a sentence, from a fault of the program."""
    if type(error) is not RuntimeError:
        return type(error).__module__.partition(".")[0] == "syncattn"
    return _SENTENCE.fullmatch(str(error)) is not None


def _stopped(words: Sequence[str], code: int) -> int:
    """Says what a command that was stopped has left, and how to go on."""
    left = "nothing more."
    if words[:1] == ["compare"]:
        left = "what is finished is kept, add --resume."
    if words[:2] == ["benchmark", "run"]:
        left = "the records that are finished are kept, give the same command again to go on."
    print(f"syncattn: stopped; {left}", file=sys.stderr)
    return code


def _parse(words: Sequence[str], names: Sequence[str]) -> Any:
    several = len(names) > 1
    # Completions of a shell are all that needs the options of every command.
    complete = any(word.startswith("--tyro-") for word in words)
    choices = [
        Annotated[
            _AnyFields if several and not complete else _COMMANDS[name].config(),
            tyro.conf.subcommand(name, description=_COMMANDS[name].description),
        ]
        for name in names
    ]
    # tyro drops the name of a subcommand that is the only one, so it is dropped here too.
    target: Any = reduce(or_, choices) if several else choices[0]
    return tyro.cli(
        target,
        args=list(words) if several else list(words[1:]),
        prog="syncattn" if several else f"syncattn {names[0]}",
        description=_DESCRIPTION if several else _COMMANDS[names[0]].description,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )


def _compare(config: Any) -> int:
    from rich.console import Console

    from syncattn.benchmarks.compare import Comparison
    from syncattn.benchmarks.folders import BusyFolderError

    try:
        comparison = Comparison(config)
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error)
    try:
        return 0 if comparison.run(Console()) else 1
    except BusyFolderError as error:
        return _refuse(error)
    except OSError as error:
        return _refuse(error, code=1)


def _generate(config: GenerateConfig) -> int:
    from syncattn.benchmarks.runs import load_trained
    from syncattn.models.quiet import quiet_transformers
    from syncattn.models.text import generate_text

    try:
        with quiet_transformers():
            text = generate_text(
                load_trained(config.run, config.mechanism),
                config.prompt,
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                top_k=config.top_k,
                seed=config.seed,
            )
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error)
    print(text)
    return 0


def _simulate(config: Any) -> int:
    from syncattn.benchmarks.simulate import simulate

    try:
        paths = simulate(config)
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error)
    print("Written: " + ", ".join(str(path) for path in paths))
    return 0


def _device(config: Any) -> int:
    from rich.console import Console

    from syncattn.benchmarks.robustness import DeviceStudy
    from syncattn.models.quiet import quiet_transformers

    try:
        with quiet_transformers():
            study = DeviceStudy(config)
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error)
    try:
        study.run(Console())
    except OSError as error:
        return _refuse(error, code=1)
    return 0


def _benchmark(config: Any) -> int:
    from syncattn.benchmarks.commands import run_benchmark

    return _quietly(lambda: run_benchmark(config))


def _report(config: Any) -> int:
    from rich.console import Console

    from syncattn.benchmarks.commands_report import write_report

    def write() -> int:
        print(f"Written: {write_report(config, Console())}")
        return 0

    return _quietly(write)


def _explore(config: Any) -> int:
    from syncattn.benchmarks.explore import run_explore

    return _quietly(lambda: run_explore(config))


def _quietly(run: Callable[[], int]) -> int:
    """Runs a command without the chatter of Transformers; what it refuses is said in a sentence."""
    from syncattn.models.quiet import quiet_transformers

    try:
        with quiet_transformers():
            return run()
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error)


def _claims(config: Any) -> int:
    from syncattn.benchmarks.commands_claims import run_claims

    try:
        return run_claims(config)
    except (ValueError, TypeError, OSError) as error:
        return _refuse(error)


def _refuse(error: Exception | str, *, code: int = 2) -> int:
    print(f"syncattn: error: {error}", file=sys.stderr)
    return code


# A new command is one entry here: what it does, where its dataclass is, what runs it.
_COMMANDS = {
    "compare": _Command(
        "Train mechanisms on one text and compare what they learned.",
        ("syncattn.benchmarks.compare", "CompareConfig"),
        _compare,
    ),
    "generate": _Command(
        "Continue a text with a trained model.", ("syncattn.cli", "GenerateConfig"), _generate
    ),
    "simulate": _Command(
        "Simulate a population of oscillators and draw its synchronization transition.",
        ("syncattn.benchmarks.simulate", "SimulateConfig"),
        _simulate,
    ),
    "benchmark": _Command(
        "Run the shared benchmark with its controls, and build its tables.",
        ("syncattn.benchmarks.commands", "BenchmarkConfig"),
        _benchmark,
    ),
    "claims": _Command(
        "List published claims with our figures and verdicts, or reproduce one.",
        ("syncattn.benchmarks.commands_claims", "ClaimsConfig"),
        _claims,
    ),
    "report": _Command(
        "Write one HTML file about runs: tables, curves, matrices, phases in motion, claims.",
        ("syncattn.benchmarks.commands_report", "ReportConfig"),
        _report,
    ),
    "explore": _Command(
        "Look into trained models live in the browser: phases, locks, couplings, predictions.",
        ("syncattn.benchmarks.explore", "ExploreConfig"),
        _explore,
    ),
    "device": _Command(
        "Run a trained model on imperfect oscillator hardware and draw what it costs.",
        ("syncattn.benchmarks.robustness", "DeviceConfig"),
        _device,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
