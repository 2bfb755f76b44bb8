"""`syncattn claims`: its options, and what it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from syncattn.benchmarks.claims import judge, known_claims
from syncattn.benchmarks.commands_tables import read_run

__all__ = ["ClaimsConfig", "run_claims"]


@dataclass(frozen=True)
class ListClaimsConfig:
    """List every claim with its verdict: by records, by the documentation, or not checked."""

    records: tuple[Path, ...] = ()
    """Files of records, or folders with a records.jsonl; every one below results/ when left out."""

    measure: bool = False
    """Measure what can be measured in seconds; half a minute in all."""

    markdown: bool = False
    """Print a Markdown table."""


@dataclass(frozen=True)
class RunClaimConfig:
    """Reproduce one claim."""

    name: tyro.conf.Positional[str]
    """The claim; see `syncattn claims list`."""

    records: tuple[Path, ...] = ()
    """Files of records, or folders with a records.jsonl; every one below results/ when left out."""


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
        0, or 1 when a claim could not be checked.

    Raises:
        ValueError: If there is no such claim, or no such record.
    """
    action, console = config.action, Console()
    paths = action.records or tuple(sorted(Path("results").rglob("records.jsonl")))
    records = [record for path in paths for record in read_run(path, console)]
    claims = known_claims()
    if isinstance(action, RunClaimConfig):
        if action.name not in claims:
            raise ValueError(
                f"`name` must be a claim: {', '.join(claims)}; got {action.name!r}. Choose one."
            )
        claim = claims[action.name]
        found = judge(claim, records, may_measure=True)
        for label, text in (
            ("claim", claim.claim), ("source", claim.source), ("verdict", found.verdict),
            ("figure", found.figure), ("what we did", claim.consequence),
            ("command", claim.command),
        ):  # fmt: skip
            if text:
                console.print(f"{label}: {text}", highlight=False, markup=False)
        return 1 if found.verdict == "not checked" else 0
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
