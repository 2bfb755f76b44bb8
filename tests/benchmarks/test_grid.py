import dataclasses
import json
import math

import pytest

from syncattn.benchmarks import grid as module
from syncattn.benchmarks.cells import Trial
from syncattn.benchmarks.folders import BusyFolderError, held
from syncattn.benchmarks.grid import Grid
from syncattn.benchmarks.grid_settings import Entry, Settings
from syncattn.benchmarks.records import read_records
from syncattn.benchmarks.scores import score_tables
from syncattn.data.sources import Lookup
from tests.benchmarks.benchmark_small import LOOKUP, recipe, record, records_of


@pytest.fixture
def ran(monkeypatch):
    """Replaces training by a score that depends on arm, seed and rate; lists what ran."""
    cells = []

    def fake(cell):
        cells.append(cell)
        if cell.is_trial:
            return Trial(cell.key, cell.learning_rate, 1 - abs(cell.learning_rate - 3e-3))
        if cell.arm == "oscillator":
            raise MemoryError("no room")
        scores = {"none": 0.5, "frozen": 0.4}.get(cell.control, 0.1)
        made = record(
            task=cell.task, arm=cell.arm, control=cell.control, seed=cell.seed,
            learning_rate=cell.learning_rate, test_score=scores + 0.01 * cell.seed,
            data=module.prepared(cell.task, cell.lookup, cell.recipe).identity.as_dict(),
            recipe=cell.recipe.as_dict() | {"scale": cell.scale},
        )  # fmt: skip
        if not cell.also_without_coupling:
            return [made]
        return [made, dataclasses.replace(made, control="coupling-off-at-test", test_score=0.2)]

    monkeypatch.setattr(module, "run_cell", fake)
    return cells


def entry(task="copy", arms=("softmax", "kuramoto"), controls=("none",), seeds=(0, 1), **changes):
    return Entry(task, arms, controls, seeds, dataclasses.replace(recipe(task), **changes))


def run(folder, *entries, lookup=LOOKUP, **changes):
    lines = []
    settings = Settings(folder, lookup, "smoke", **changes)
    return Grid(entries, settings, lines.append).run(), lines


def test_every_cell_runs_once_seed_by_seed(ran, tmp_path):
    result, lines = run(tmp_path, entry())
    assert [(c.arm, c.seed) for c in ran] == [
        ("softmax", 0), ("kuramoto", 0), ("softmax", 1), ("kuramoto", 1)
    ]  # fmt: skip
    assert len(result.records) == 4 and not result.problems
    assert "[4/4]" in lines[-1] and "left" in lines[-1]


def test_a_second_call_goes_on_where_the_first_stopped(ran, tmp_path):
    run(tmp_path, entry(seeds=(0,)))
    ran.clear()
    result, _ = run(tmp_path, entry(seeds=(0, 1)))
    assert [c.seed for c in ran] == [1, 1]
    assert len(result.records) == 4
    ran.clear()
    run(tmp_path, entry(steps=9, seeds=(0,)))
    assert len(ran) == 2


def test_rates_are_tried_once_per_arm_and_the_best_is_taken(ran, tmp_path):
    rates = (1e-3, 3e-3, 1e-2)
    result, _ = run(tmp_path, entry(rates=rates, controls=("none", "frozen")))
    trials = [c for c in ran if c.is_trial]
    assert [(c.arm, c.learning_rate) for c in trials] == [
        (arm, rate) for arm in ("softmax", "kuramoto") for rate in rates
    ]
    runs = [c for c in ran if not c.is_trial]
    assert {c.learning_rate for c in runs} == {3e-3}
    assert len(runs[0].trials) == 3
    assert len(result.records) == 8
    ran.clear()
    run(tmp_path, entry(rates=rates, seeds=(0, 1, 2)))
    assert not any(c.is_trial for c in ran)


@pytest.mark.parametrize("none", [None, math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_none(none):
    for name in ("copy", "code-char"):
        task = module.task_named(name)
        assert module._best(((1e-2, none), (1e-3, none)), task) is None
        assert module._best(((1e-2, none), (1e-3, 1.5)), task) == 1e-3
        assert module._best(((1e-2, 1.5), (1e-3, none)), task) == 1e-2


def test_the_best_score_is_the_largest_or_the_smallest():
    task = module.task_named("copy")
    assert module._best(((1e-2, 0.1), (1e-3, None)), task) == 1e-2
    assert module._best(((1e-2, 3.0), (1e-3, 2.0)), module.task_named("code-char")) == 1e-3


def test_an_arm_that_no_rate_suits_fails_and_says_so(ran, tmp_path, monkeypatch):
    fake, score = module.run_cell, [math.nan]

    def trial(cell):
        made = fake(cell)
        return made if not cell.is_trial else dataclasses.replace(made, valid_score=score[0])

    monkeypatch.setattr(module, "run_cell", trial)
    grid = entry(arms=("softmax",), rates=(1e-3, 3e-3), seeds=(0, 1))
    for _ in range(2):
        result, _ = run(tmp_path, grid)
        assert [(r.status, r.seed, r.learning_rate) for r in result.records] == [
            ("failed", 0, None), ("failed", 1, None)
        ]  # fmt: skip
        assert "finite validation score; got none with 0.001, 0.003" in result.records[0].failure
        assert [t["learning_rate"] for t in result.records[0].trials] == [1e-3, 3e-3]
        assert all(cell.is_trial for cell in ran) and len(ran) == 2 and result.num_left == 0
    ran.clear()
    score[0] = 0.5
    result, _ = run(tmp_path, grid, retry_failed=True)
    assert [cell.is_trial for cell in ran] == [True, True, False, False]
    (table,) = score_tables(result.records)
    assert [(row.failed, len(row.by_seed)) for row in table.rows] == [(0, 2)]


def test_controls_share_the_training_they_can(ran, tmp_path):
    both = ("none", "coupling-off-at-test")
    result, _ = run(tmp_path, entry(controls=both, seeds=(0,)))
    assert [c.also_without_coupling for c in ran] == [False, True]
    assert len(result.records) == 3
    assert any("softmax has no oscillators" in line for line in result.not_applicable)
    ran.clear()
    run(tmp_path, entry(controls=both, seeds=(0,)))
    assert ran == []


def test_two_entries_of_one_task_do_not_run_a_cell_twice(ran, tmp_path):
    result, _ = run(
        tmp_path, entry(seeds=(0, 1)), entry(controls=("coupling-off-at-test",), seeds=(0,))
    )
    assert len(ran) == 4
    assert sorted((r.arm, r.control, r.seed) for r in result.records) == [
        ("kuramoto", "coupling-off-at-test", 0), ("kuramoto", "none", 0), ("kuramoto", "none", 1),
        ("softmax", "none", 0), ("softmax", "none", 1),
    ]  # fmt: skip


def test_matched_is_not_applicable_where_softmax_is_as_large(ran, tmp_path):
    result, _ = run(tmp_path, entry(arms=("kuramoto",), controls=("matched",)))
    assert ran == []
    assert "within 1 %" in result.not_applicable[0]


def test_what_fails_is_counted_and_stops_nothing(ran, tmp_path):
    result, _ = run(tmp_path, entry(arms=("oscillator", "softmax"), seeds=(0,)))
    assert [r.status for r in result.records] == ["failed", "ok"]
    assert result.records[0].failure == "no room"
    assert any("no room" in p for p in result.problems)
    ran.clear()
    again = entry(arms=("oscillator", "softmax"), seeds=(0,), controls=("none", "frozen"))
    _, lines = run(tmp_path, again)
    told = "1 runs failed before and are passed over; --retry-failed runs them."
    assert [(c.arm, c.control) for c in ran] == [("oscillator", "frozen"), ("softmax", "frozen")]
    assert lines[0] == told
    ran.clear()
    _, lines = run(tmp_path, again, retry_failed=True)
    assert {c.arm for c in ran} == {"oscillator"} and not any("passed over" in x for x in lines)


@pytest.mark.parametrize("inside", ["file", "file/deeper"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(ran, tmp_path, inside):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`output` must be a folder"):
        run(tmp_path / inside, entry())
    assert not ran and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_grids_do_not_write_one_folder(ran, tmp_path):
    with held(tmp_path), pytest.raises(BusyFolderError, match="`output` must be written by one"):
        run(tmp_path, entry())
    assert not ran and not list(tmp_path.iterdir())
    run(tmp_path, entry())
    assert {path.name for path in tmp_path.iterdir()} == {"records.jsonl"}


def test_a_task_without_its_data_is_passed_over_and_told(ran, tmp_path):
    result, _ = run(
        tmp_path, entry("keywords", seeds=(0,)), entry(seeds=(0,)),
        lookup=Lookup(folder=tmp_path, cache=tmp_path, may_sample=False),
    )  # fmt: skip
    assert {c.task for c in ran} == {"copy"}
    assert any(p.startswith("keywords: not run:") and "--data" in p for p in result.problems)


def test_a_folder_of_data_that_does_not_exist_stops_no_generated_task(ran, tmp_path):
    result, _ = run(
        tmp_path, entry("enwik8-char", seeds=(0,)), entry(seeds=(0,)),
        lookup=Lookup(folder=tmp_path / "gone"),
    )  # fmt: skip
    assert {c.task for c in ran} == {"copy"}
    assert "must be a folder or a file that exists" in result.problems[0]


def test_a_damaged_line_is_told_and_its_run_repeated(ran, tmp_path):
    run(tmp_path, entry(seeds=(0,)))
    path = records_of(tmp_path)
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second[:40]}\n")
    ran.clear()
    result, _ = run(tmp_path, entry(seeds=(0,)))
    assert [c.arm for c in ran] == ["kuramoto"]
    assert any("line 2: passed over" in p for p in result.problems)
    assert len(result.records) == 2


def test_a_damaged_trial_is_told_and_tried_again(ran, tmp_path):
    rates = (1e-3, 3e-3)
    run(tmp_path, entry(arms=("softmax",), rates=rates))
    path = tmp_path / "trials.jsonl"
    lines = path.read_text().splitlines()
    path.write_text(lines[0][:30] + "\n" + json.dumps({"key": [1]}) + "\n" + lines[1] + "\n")
    ran.clear()
    result, _ = run(tmp_path, entry(arms=("softmax",), rates=rates))
    assert [c.learning_rate for c in ran if c.is_trial] == [1e-3]
    assert sum("passed over" in p for p in result.problems) == 2


def test_a_full_disk_keeps_the_record_until_there_is_room(ran, tmp_path, monkeypatch):
    full = [True]
    append = module.append_record

    def broken(path, one):
        if full:
            full.clear()
            raise OSError(28, "No space left on device")
        append(path, one)

    monkeypatch.setattr(module, "append_record", broken)
    result, _ = run(tmp_path, entry(seeds=(0,)))
    assert any("No space left" in p for p in result.problems)
    assert sorted(r.arm for r in result.records) == ["kuramoto", "softmax"]


def test_the_budget_of_time_leaves_the_rest_for_the_next_call(ran, tmp_path):
    result, _ = run(tmp_path, entry(), minutes=1e-9)
    assert result.num_left == 4 and not ran
    result, _ = run(tmp_path, entry())
    assert result.num_left == 0 and len(result.records) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "sort"}, "`task` must be one of"),
        ({"arms": ("mine",)}, "`arms` must be among"),
        ({"controls": ("sham",)}, "`control` must be one of"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_runs(ran, tmp_path, changes, message):
    wrong = dataclasses.replace(entry(), **changes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("named", ["output", "data"])
def test_a_name_that_is_no_text_is_refused_before_anything_runs(ran, tmp_path, named):
    odd = tmp_path / "zwei-\udcc3\udca4"
    folders = {"output": tmp_path / "run", "data": tmp_path} | {named: odd}
    lookup = Lookup(samples_only=True, folder=folders["data"])
    with pytest.raises(ValueError, match=f"`{named}` must have a name in UTF-8; got .*UTF8=1"):
        run(folders["output"], entry(), lookup=lookup)
    assert not ran and not list(tmp_path.iterdir())


def test_a_real_grid_ends_with_records_that_can_be_read(tmp_path):
    result, _ = run(tmp_path, entry(arms=("softmax", "selective"), seeds=(0,)))
    records, problems = read_records(records_of(tmp_path))
    assert not problems and records == result.records
    assert {r.status for r in records} == {"ok"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", [{"workers": 2}, {"workers": 2, "ray": "local"}])
def test_workers_and_ray_count_every_run_once(tmp_path, where):
    if "ray" in where:
        pytest.importorskip("ray")
    grid = entry(arms=("softmax", "frustrated"), rates=(1e-3, 3e-3), seeds=(0, 1))
    result, _ = run(tmp_path / "there", grid, **where)
    told = sorted((r.arm, r.seed, r.test_score) for r in result.records)
    assert [row[:2] for row in told] == [
        ("frustrated", 0), ("frustrated", 1), ("softmax", 0), ("softmax", 1)
    ]  # fmt: skip
    assert not result.problems
    here, _ = run(tmp_path / "here", grid)
    assert sorted((r.arm, r.seed, r.test_score) for r in here.records) == told
