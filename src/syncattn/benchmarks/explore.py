"""`syncattn explore`: its options, and what it does."""

from __future__ import annotations

import sys
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from syncattn.benchmarks.records import read_records
from syncattn.benchmarks.runs import DamagedModelError, load_trained, trained_folder

if TYPE_CHECKING:
    from syncattn.models import SyncAttnForCausalLM

__all__ = ["ExploreConfig", "load_models", "run_explore"]

MOST_TOKENS = 1024
"""Longest text one may ask for: a matrix of a million pairs."""
TEXT = "def settle(phase, coupling):\n    return phase + coupling\n"


@dataclass(frozen=True)
class ExploreConfig:
    """Look into trained models in the browser: synchronization, phases, couplings, predictions."""

    run: tyro.conf.Positional[Path]
    """Folder of a comparison, of one of its trainings, or of a saved model."""

    mechanism: str | None = None
    """The mechanism shown first; the first one of the run when left out."""

    port: int = 8321
    """Port on this machine, 127.0.0.1, which no other machine can reach; 0 for any free one."""

    open_browser: Annotated[bool, tyro.conf.arg(name="open")] = False
    """Whether to open the page in the browser."""

    max_length: int = 256
    """Most tokens of a text that are read, from 2 to 1024; the last ones count."""

    text: str = TEXT
    """The text shown at first."""


def load_models(run: Path) -> dict[str, SyncAttnForCausalLM]:
    """Loads every mechanism that a run trained, or the one model of a folder.

    Args:
        run: Folder of a comparison, of one of its trainings, or of a saved model.

    Returns:
        Models by name, in the order of the run; those whose folder is gone or whose file is damaged
        are named on the standard error and left out.

    Raises:
        DamagedModelError: If all of them are damaged.
        ValueError: If there is no model.
    """
    if not (run / "records.jsonl").is_file():
        model = load_trained(run)
        return {model.config.mechanism: model}
    records, _ = read_records(run / "records.jsonl")
    ended = [record for record in records if record.status == "ok"]
    names = dict.fromkeys(r.arm for r in ended if trained_folder(run, r).is_dir())
    if not names:
        raise ValueError(
            f"`run` must hold the model of a training that ended well; got {run}, which holds "
            f"none. Run the comparison again."
        )
    gone = dict.fromkeys(record.arm for record in ended if record.arm not in names)
    if gone:
        print(f"Left out, for {run} lacks their models: {', '.join(gone)}.", file=sys.stderr)
    found: dict[str, SyncAttnForCausalLM] = {}
    damage: DamagedModelError | None = None
    for name in names:
        try:
            found[name] = load_trained(run, name)
        except DamagedModelError as error:
            damage = error
            print(f"Left out: {name}. {error}", file=sys.stderr)
    if damage is not None and not found:
        raise damage
    return found


def run_explore(config: ExploreConfig) -> int:
    """Serves the page until it is stopped by the keyboard.

    Args:
        config: The parsed command line.

    Returns:
        0.

    Raises:
        ValueError: If there is no model, or an option cannot be used.
        ModuleNotFoundError: If the extra is not installed.
    """
    try:
        from syncattn.analysis import explorer_app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"starlette", "uvicorn"}:
            raise ValueError(
                f"`explore` needs {missing}; it is not installed. Install the extra: "
                f"pip install 'syncattn[explore]'."
            ) from error
        raise
    from syncattn.analysis.explorer import Explorer

    if not 2 <= config.max_length <= MOST_TOKENS:
        raise ValueError(
            f"`max_length` must be between 2 and {MOST_TOKENS}; got {config.max_length}. One token "
            f"has no pair, and the matrix of a longer text could not be looked at."
        )
    models = load_models(config.run)
    if config.mechanism is not None and config.mechanism not in models:
        raise ValueError(
            f"`mechanism` must be one that the run trained: {', '.join(models)}; got "
            f"{config.mechanism}. Choose one of these."
        )
    app = explorer_app.make_app(
        Explorer(models, max_length=config.max_length),
        title=str(config.run), text=config.text, model=config.mechanism,
    )  # fmt: skip
    with explorer_app.listening_socket(config.port) as listening:
        url = f"http://{explorer_app.HOST}:{listening.getsockname()[1]}/"
        print(f"Exploring {config.run} at {url} – stop with Ctrl+C.", flush=True)
        if config.open_browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        try:
            explorer_app.make_server(app).run(sockets=[listening])
        except KeyboardInterrupt:
            # The usual way to stop.
            print("Stopped.")
    return 0
