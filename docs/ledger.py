"""Writes docs/results/_ledger.md: `python docs/ledger.py [FOLDER_WITH_RECORDS ...]`.

Without folders it takes every records.jsonl below results/. What can be measured in seconds is
measured, which takes half a minute.
"""

import sys
from itertools import groupby
from pathlib import Path

from rich.console import Console

from syncattn.benchmarks.claims import Claim, judge, known_claims
from syncattn.benchmarks.commands_tables import read_run

LEDGER = Path(__file__).parent / "results" / "_ledger.md"


def paper(claim: Claim) -> str:
    """Returns the paper of a claim; its source goes on with the place in it."""
    return claim.source.partition(",")[0]


def entry(claim: Claim, records: list) -> str:
    """Returns a claim as an entry of the list."""
    found = judge(claim, records, may_measure=True)
    lines = [
        f"**{claim.name}**: {claim.claim} ({claim.source.partition(', ')[2]}).",
        f"*{found.verdict.capitalize()}*: {found.figure}.",
        f"Done about it: {claim.consequence}." if claim.consequence else "",
        f"`{claim.command}`",
    ]
    return "- " + "\\\n  ".join(line for line in lines if line) + "\n"


def main(folders: list[str]) -> None:
    """Judges every claim and writes the ledger."""
    paths = [Path(folder) for folder in folders]
    paths = paths or sorted(Path("results").rglob("records.jsonl"))
    records = [record for path in paths for record in read_run(path, Console())]
    text = ""
    for source, claims in groupby(known_claims().values(), key=paper):
        text += f"## {source}\n\n{''.join(entry(claim, records) for claim in claims)}\n"
    LEDGER.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(f"Written: {LEDGER}")


if __name__ == "__main__":
    main(sys.argv[1:])
