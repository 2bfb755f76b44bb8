"""`syncattn claims`: its options, and what it does."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from syncattn.benchmarks.claims import Claim, judge, known_claims
from syncattn.benchmarks.commands import BenchmarkConfig, RunConfig, output_of, run_benchmark
from syncattn.benchmarks.commands_tables import read_run
from syncattn.benchmarks.records import Record

__all__ = ["ClaimsConfig", "run_claims"]


@dataclass(frozen=True)
class ListClaimsConfig:
    """List every claim with its verdict: by records, by the documentation, or not checked.

    Where the seeds of the records leave it open, a claim is not decided.
    """

    records: tuple[Path, ...] = ()
    """Files of records, or folders with a records.jsonl in or below; results/ when left out."""

    measure: bool = False
    """Measure what can be measured in seconds; half a minute in all."""

    markdown: bool = False
    """Print a Markdown table."""


@dataclass(frozen=True)
class RunClaimConfig:
    """Reproduce one claim: by measuring, else by records, which --again makes anew."""

    name: tyro.conf.Positional[str]
    """The claim; see `syncattn claims list`."""

    records: tuple[Path, ...] = ()
    """Files of records, or folders with a records.jsonl in or below; results/ when left out.
    Not with --again, and only for a claim that records can judge."""

    again: bool = False
    """Give the claim's own command first, a run of the benchmark that takes minutes to hours and
    goes on where it stopped, and judge by what it came to."""

    data: Path | None = None
    """With --again: a folder or file with your data, where the command says FOLDER."""

    output: Path | None = None
    """With --again: folder of that run; the benchmark's own when left out."""


@dataclass(frozen=True)
class ClaimsConfig:
    """Published claims with our figures and verdicts."""

    action: (
        Annotated[ListClaimsConfig, tyro.conf.subcommand("list")]
        | Annotated[RunClaimConfig, tyro.conf.subcommand("run")]
    ) = field(default_factory=ListClaimsConfig)
    """What to do."""


def run_claims(config: ClaimsConfig) -> int:
    """Lists the claims, or reproduces one.

    Args:
        config: The parsed command line.

    Returns:
        0, or 1 when a claim could not be checked or something failed in the run for it.

    Raises:
        ValueError: If there is no such claim, no such record, no command that could be given again,
            or an option that would do nothing.
    """
    action, console = config.action, Console()
    if isinstance(action, RunClaimConfig):
        return _reproduce(action, console)
    records = _records(action.records, console)
    claims = known_claims()
    if action.markdown:
        print("| claim | source | verdict | our figure | what we did | command |")
        print("| --- | --- | --- | --- | --- | --- |")
    for name, claim in claims.items():
        found = judge(claim, records, may_measure=action.measure)
        cells = (f"{name}: {claim.claim}", claim.source, found.verdict, found.figure,
                 claim.consequence, f"`{claim.command}`")  # fmt: skip
        if action.markdown:
            print(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
            continue
        console.print(f"{name}: {found.verdict}", style="bold", highlight=False)
        console.print(f"  {claim.claim} ({claim.source})", highlight=False, markup=False)
        console.print(f"  {found.figure}", highlight=False, markup=False)
        console.print(f"  {claim.command}", highlight=False, markup=False)
    return 0


def _records(paths: Sequence[Path], console: Console) -> list[Record]:
    # What holds no records is refused where it was named; there need be no results.
    found = [file for path in paths for file in _below(path) or [path]]
    files = found if paths else _below(Path("results"))
    return [record for file in files for record in read_run(file, console)]


def _below(path: Path) -> list[Path]:
    """Returns the records of a folder; those of every folder below it where it has none itself."""
    own = path / "records.jsonl"
    return [own] if own.is_file() else sorted(path.rglob("records.jsonl"))


def _reproduce(config: RunClaimConfig, console: Console) -> int:
    claims = known_claims()
    if config.name not in claims:
        raise ValueError(
            f"`name` must be a claim: {', '.join(claims)}; got {config.name!r}. Choose one."
        )
    claim = claims[config.name]
    _refuse_idle(claim, config)
    paths, code = _run_again(claim, config) if config.again else (config.records, 0)
    found = judge(claim, _records(paths, console), may_measure=True)
    for label, text in (
        ("claim", claim.claim), ("source", claim.source), ("verdict", found.verdict),
        ("figure", found.figure), ("what we did", claim.consequence), ("command", claim.command),
    ):  # fmt: skip
        if text:
            console.print(f"{label}: {text}", highlight=False, markup=False)
    return code or int(found.verdict == "not checked")


def _refuse_idle(claim: Claim, config: RunClaimConfig) -> None:
    """Refuses options that would do nothing."""
    for name in ("data", "output"):
        value = getattr(config, name)
        if value is not None and not config.again:
            raise ValueError(
                f"`{name}` must come with --again, which makes the run it is for; got {value} "
                f"alone. Add --again, or leave --{name} out."
            )
    if config.records and (config.again or claim.from_records is None):
        reason = (
            "with --again, which judges by its own run"
            if config.again
            else f"for a claim that no records judge, such as {claim.name!r}"
        )
        raise ValueError(
            f"`records` must be left out {reason}; got {config.records[0]}. Leave --records out."
        )


def _run_again(claim: Claim, config: RunClaimConfig) -> tuple[tuple[Path, ...], int]:
    """Gives the command of a claim; returns the folder of its records and the exit code."""
    words = shlex.split(claim.command)
    if words[:3] != ["syncattn", "benchmark", "run"]:
        raise ValueError(
            f"`again` must be left out for a claim whose command is no run of the benchmark; got "
            f"{claim.name!r}, whose command is {claim.command}. Give that command itself."
        )
    run = replace(tyro.cli(RunConfig, args=words[3:]), data=config.data)
    run = run if config.output is None else replace(run, output=config.output)
    code = run_benchmark(BenchmarkConfig(run))
    return (output_of(run),), code
