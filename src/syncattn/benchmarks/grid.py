"""The grid of runs: planned, resumed, tuned, run, and summed up with all that went wrong."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.cells import (
    Cell,
    Trial,
    failed_record,
    load_plugins,
    matched_gap,
    prepared,
    run_cell,
)
from syncattn.benchmarks.controls import why_not
from syncattn.benchmarks.executors import Outcome, in_process, in_workers, on_ray
from syncattn.benchmarks.folders import held, require_output
from syncattn.benchmarks.grid_settings import Entry, Settings
from syncattn.benchmarks.problems import Problem
from syncattn.benchmarks.records import Record, append_line, append_record, read_records
from syncattn.benchmarks.tasks import Task, higher_is_better, task_named
from syncattn.training.writing import require_name

__all__ = ["Entry", "Grid", "GridResult", "Settings"]


@dataclass
class GridResult:
    """What a grid came to.

    Attributes:
        records: All records of the folder, earlier ones first.
        problems: What went wrong, one sentence each.
        not_applicable: Cells that make no sense, with the reason.
        num_left: Runs that the budget left for the next time.
    """

    records: list[Record]
    problems: list[str]
    not_applicable: list[str]
    num_left: int = 0


class Grid:
    """Arms and controls on tasks, ready to run.

    Args:
        entries: What is run.
        settings: How.
        say: Takes a line of progress.

    Raises:
        ValueError: If a task, an arm, a control or a plugin is unknown, the output cannot be
            written, or the name of a folder is not UTF-8.
    """

    def __init__(
        self, entries: Sequence[Entry], settings: Settings, say: Callable[[str], None] = print
    ) -> None:
        require_output(settings.output)
        if settings.lookup.folder is not None:
            require_name(settings.lookup.folder, "data")
        load_plugins(settings.plugins)
        self.settings = settings
        self.say = say
        self.problems: list[str] = []
        self.not_applicable: list[str] = []
        self.entries = list(entries)
        for entry in self.entries:
            task_named(entry.task)
            for arm in entry.arms:
                if arm not in ARMS:
                    raise ValueError(
                        f"`arms` must be among {', '.join(ARMS)}; got {arm!r}. See `syncattn "
                        f"benchmark list`, or name the file that registers it with --plugins."
                    )
                for control in entry.controls:
                    why_not(ARMS[arm], control)
        self._unwritten: list[Record] = []
        self._command = shlex.join(["syncattn", *sys.argv[1:]])

    def run(self) -> GridResult:
        """Runs what is not done yet; what fails is told at the end and stops nothing else.

        Returns:
            Records and problems.

        Raises:
            BusyFolderError: If another process writes the output.
        """
        with held(self.settings.output):
            return self._run()

    def _run(self) -> GridResult:
        minutes = self.settings.minutes
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        cells = self._cells()
        rates = self._tune(cells, deadline)
        done, well = self._done()
        wanted = [cell for cell in cells if not self._names(cell) <= done]
        if lost := sum(not self._names(cell) <= well for cell in cells) - len(wanted):
            self.say(f"{lost} runs failed before and are passed over; --retry-failed runs them.")
        left, runs = len(wanted), list[Cell]()
        for cell in wanted:
            if (chosen := rates.get(self._unit(cell))) is None:
                continue
            rate, trials = chosen
            if rate is not None:
                runs.append(replace(cell, learning_rate=rate, trials=trials))
                continue
            left -= 1
            without = replace(cell, learning_rate=math.nan, trials=trials)
            self._keep_all(Outcome(without, None, _no_rate(cell)))
        with closing(self._progress(runs, deadline, "runs")) as outcomes:
            for outcome in outcomes:
                left -= 1
                self._keep_all(outcome)
        self._write_again()
        records = self._read()
        return GridResult(records, self.problems, self.not_applicable, left)

    def _cells(self) -> list[Cell]:
        """Returns every run of the grid, seed by seed, so that a stopped grid is even."""
        cells: dict[tuple[Any, ...], Cell] = {}
        for entry in self.entries:
            problem = self._problem(entry)
            if problem is None:
                continue
            for arm in entry.arms:
                for control in entry.controls:
                    reason = self._reason(entry, arm, control)
                    if reason:
                        self.not_applicable.append(f"{entry.task}: {arm}, {control}: {reason}")
                        continue
                    for seed in entry.seeds:
                        cell = self._cell(entry, problem, arm, control, seed)
                        earlier = cells.get(cell.key)
                        if earlier is None or cell.also_without_coupling:
                            cells[cell.key] = cell
        return sorted(cells.values(), key=lambda cell: cell.seed)

    def _cell(self, entry: Entry, problem: Problem, arm: str, control: str, seed: int) -> Cell:
        at_test = "coupling-off-at-test"
        wanted = at_test in entry.controls and control in {"none", at_test}
        return Cell(
            task=entry.task, scale=self.settings.scale, arm=arm,
            control="none" if control == at_test else control, seed=seed,
            learning_rate=entry.recipe.rates[0], is_trial=False, lookup=self.settings.lookup,
            data_sha256=problem.identity.sha256, recipe=entry.recipe,
            also_without_coupling=wanted and why_not(ARMS[arm], at_test) is None,
            plugins=self.settings.plugins, device=self.settings.device,
            compiled=self.settings.compiled, command=self._command,
        )  # fmt: skip

    def _problem(self, entry: Entry) -> Problem | None:
        try:
            return prepared(entry.task, self.settings.lookup, entry.recipe)
        except Exception as error:
            self._trouble(f"{entry.task}: not run: {error}")
            return None

    def _reason(self, entry: Entry, arm: str, control: str) -> str | None:
        reason = why_not(ARMS[arm], control)
        if reason or control != "matched":
            return reason
        # Every arm is brought to softmax's number of parameters where its feed-forward can.
        task, recipe = task_named(entry.task), entry.recipe
        problem = prepared(entry.task, self.settings.lookup, recipe)
        if matched_gap(task, problem, recipe, ARMS[arm]) <= 0.01:
            return "softmax has the same number of parameters within 1 %: its own row is the match"
        return None

    def _unit(self, cell: Cell) -> tuple[Any, ...]:
        """Returns what shares a learning rate: an arm with its controls; the match on its own."""
        control = "matched" if cell.control == "matched" else "none"
        return replace(cell, control=control, seed=0).key

    def _tune(
        self, cells: Sequence[Cell], deadline: float | None
    ) -> dict[tuple[Any, ...], tuple[float | None, tuple[tuple[float, float | None], ...]]]:
        """Returns the best rate of every unit, if any gave a score, with all that were tried."""
        known = self._read_trials()
        units: dict[tuple[Any, ...], Cell] = {}
        for cell in cells:
            control = "matched" if cell.control == "matched" else "none"
            units.setdefault(
                self._unit(cell),
                replace(cell, control=control, seed=0, also_without_coupling=False),
            )
        wanted = [
            replace(cell, is_trial=True, learning_rate=rate)
            for unit, cell in units.items()
            for rate in cell.recipe.rates
            if len(cell.recipe.rates) > 1
            and ((*unit, rate) not in known or self._is_hopeless(unit, cell, known))
        ]
        with closing(self._progress(wanted, deadline, "trials of learning rates")) as outcomes:
            for outcome in outcomes:
                trial = outcome.result
                if outcome.error is not None:
                    self._trouble(f"{outcome.cell}: {outcome.error}")
                    trial = Trial(outcome.cell.key, outcome.cell.learning_rate, None)
                known[*trial.key, trial.learning_rate] = trial.valid_score
                self._keep_trial(trial)
        chosen: dict[Any, Any] = {}
        for unit, cell in units.items():
            rates = cell.recipe.rates
            if len(rates) == 1:
                chosen[unit] = (rates[0], ())
            elif all((*unit, rate) in known for rate in rates):
                tried = tuple((rate, known[*unit, rate]) for rate in rates)
                chosen[unit] = (_best(tried, task_named(cell.task)), tried)
        return chosen

    def _is_hopeless(
        self, unit: tuple[Any, ...], cell: Cell, known: dict[tuple[Any, ...], float | None]
    ) -> bool:
        """Tells whether trials are to be repeated: no rate gave a score, and failures are."""
        tried = [(rate, known.get((*unit, rate))) for rate in cell.recipe.rates]
        return self.settings.retry_failed and _best(tried, task_named(cell.task)) is None

    def _progress(
        self, cells: Sequence[Cell], deadline: float | None, what: str
    ) -> Generator[Outcome]:
        if not cells:
            return
        workers = min(self.settings.workers, len(cells))
        self.say(f"{len(cells)} {what}, {workers} at a time.")
        started = time.monotonic()
        with closing(self._execute(cells, deadline, workers)) as outcomes:
            for number, outcome in enumerate(outcomes, start=1):
                spent = time.monotonic() - started
                left = spent / number * (len(cells) - number) / 60
                self.say(
                    f"[{number}/{len(cells)}] {outcome.cell}: {_told(outcome)}; "
                    f"{spent / 60:.1f} min, about {left:.1f} left"
                )
                yield outcome

    def _execute(
        self, cells: Sequence[Cell], deadline: float | None, workers: int
    ) -> Generator[Outcome]:
        if self.settings.ray is not None:
            return on_ray(run_cell, cells, deadline, address=self.settings.ray, workers=workers)
        if workers == 1:
            return in_process(run_cell, cells, deadline)
        return in_workers(run_cell, cells, deadline, workers=workers)

    def _records_of(self, outcome: Outcome) -> list[Record]:
        if outcome.error is None:
            for record in outcome.result:
                if record.status == "failed":
                    self._trouble(f"{outcome.cell}: {record.failure}")
            return outcome.result
        self._trouble(f"{outcome.cell}: {outcome.error}")
        return [failed_record(outcome.cell, outcome.error)]

    def _names(self, cell: Cell) -> set[tuple[Any, ...]]:
        names = {cell.key}
        if cell.also_without_coupling:
            names.add(replace(cell, control="coupling-off-at-test").key)
        return names

    def _done(self) -> tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]:
        """Returns the keys of the runs in the folder, and of those that ended well."""
        finished: set[tuple[Any, ...]] = set()
        well: set[tuple[Any, ...]] = set()
        for record in self._read(report=True):
            if record.status == "failed" and self.settings.retry_failed:
                continue
            recipe = {k: v for k, v in record.recipe.items() if k != "scale"}
            settings = json.dumps(recipe, sort_keys=True)
            key = (record.task, record.data["sha256"], record.arm)
            finished.add((*key, record.control, record.seed, settings))
            if record.status == "ok":
                well.add((*key, record.control, record.seed, settings))
            if record.status == "failed" and record.control == "none":
                # A model that was never trained has no coupling to switch off either.
                finished.add((*key, "coupling-off-at-test", record.seed, settings))
        return finished, well

    def _read(self, *, report: bool = False) -> list[Record]:
        path = self.settings.output / "records.jsonl"
        if not path.exists():
            return []
        records, problems = read_records(path)
        if report:
            for problem in problems:
                self._trouble(f"{path}, line {problem.line}: passed over: {problem.reason}")
        return records

    def _read_trials(self) -> dict[tuple[Any, ...], float | None]:
        path = self.settings.output / "trials.jsonl"
        known: dict[tuple[Any, ...], float | None] = {}
        if not path.exists():
            return known
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                values = json.loads(line)
                known[*values["key"], values["learning_rate"]] = values["valid_score"]
            except (ValueError, KeyError, TypeError) as error:
                self._trouble(f"{path}, line {number}: passed over: {error!r}")
        return known

    def _keep_trial(self, trial: Trial) -> None:
        values = {
            "key": list(trial.key), "learning_rate": trial.learning_rate,
            "valid_score": trial.valid_score,
        }  # fmt: skip
        try:
            append_line(self.settings.output / "trials.jsonl", values)
        except OSError as error:
            self._trouble(f"a trial could not be written: {error}")

    def _keep_all(self, outcome: Outcome) -> None:
        for record in self._records_of(outcome):
            self._keep(record)

    def _keep(self, record: Record) -> None:
        try:
            append_record(self.settings.output / "records.jsonl", record)
        except OSError as error:
            self._unwritten.append(record)
            self._trouble(f"{record.task}: {record.arm}: its record could not be written: {error}")

    def _write_again(self) -> None:
        waiting, self._unwritten = self._unwritten, []
        for record in waiting:
            self._keep(record)

    def _trouble(self, sentence: str) -> None:
        self.problems.append(sentence)
        self.say(f"! {sentence}")


def _best(tried: Sequence[tuple[float, float | None]], task: Task) -> float | None:
    """Returns the rate with the best validation score; None where no score is a finite number."""
    known = [(score, rate) for rate, score in tried if score is not None and math.isfinite(score)]
    choose = max if higher_is_better(task.metric) else min
    return choose(known)[1] if known else None


def _no_rate(cell: Cell) -> ValueError:
    rates = ", ".join(f"{rate:g}" for rate in cell.recipe.rates)
    return ValueError(
        f"A learning rate must give a finite validation score; got none with {rates}. Try lower "
        f"ones, or see what the trials failed of and run them again with --retry-failed."
    )


def _told(outcome: Outcome) -> str:
    if outcome.error is not None:
        return "failed"
    if isinstance(outcome.result, Trial):
        score = outcome.result.valid_score
        return "diverged" if score is None else f"valid {score:.4f}"
    record = outcome.result[0]
    return "failed" if record.status == "failed" else f"{record.metric} {record.test_score:.4f}"
