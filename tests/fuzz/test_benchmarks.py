"""The floor of the benchmark: arms, tasks, records and what is read back of them."""

import json

from hypothesis import given

from syncattn import benchmarks, models
from syncattn.benchmarks import arms, tasks
from tests.fuzz.data_files import folder
from tests.fuzz.law import budget, obeys
from tests.fuzz.strategies import JUNK, Target, cases

CONFIG = models.SyncAttnConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
RIGHT = {
    "task": "copy", "arm": "softmax", "mechanism": "softmax", "seed": 0, "status": "ok",
    "metric": "accuracy", "test_score": 0.5, "data": {"name": "n", "sha256": "s", "whole": True},
    "versions": {"torch": "2"}, "commit": None, "device": "cpu", "command": "syncattn",
}  # fmt: skip


def lines(dice):
    """Returns the file of a few records, of which some are torn, strange or none."""
    record = json.dumps(RIGHT)
    strange = json.dumps(RIGHT | {dice.choice(list(RIGHT)): repr(dice.choice(JUNK))})
    kinds = (record, strange, record[: dice.randrange(len(record))], "", "[]", "null", "{}", "\0",
             "\u00e9" * 9, "[" * 2000, json.dumps({"task": "copy"}))  # fmt: skip
    path = folder() / "records.jsonl"
    text = "\n".join(dice.choice(kinds) for _ in range(dice.randint(0, 4)))
    path.write_bytes(text.encode() + dice.choice((b"", b"\n", b"\xff\xfe")))
    return dice.choice((path, str(path)))


def read_written(*, path):
    """Reads a file and makes every table of it."""
    try:
        records, problems = benchmarks.read_records(path)
    except FileNotFoundError:
        return
    rows = benchmarks.summary_table(records)
    for table in (benchmarks.to_markdown(rows), benchmarks.to_csv(rows)):
        assert isinstance(table, str)
    assert all(problem.line >= 1 and problem.reason for problem in problems)


TARGETS = [
    # A file that is not there is Python's own FileNotFoundError, as documented.
    Target("read_records", read_written, lambda dice: {"path": lines(dice)}),
    Target("Record", benchmarks.Record, lambda dice: dict(RIGHT)),
    Target("count_parameters", arms.count_parameters, lambda dice: {"config": CONFIG}),
    Target("matched_config", lambda **a: arms.matched_config(**a).hidden_size, lambda dice: {
        "arm": dice.choice(list(arms.ARMS.values())), "parameters": dice.choice((10, 60_000)),
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "context_length": 8}),
    Target("matched_width", arms.matched_width, lambda dice: {
        "count": lambda width: 3 * width + 1, "parameters": 40}),
    Target("task_named", tasks.task_named, lambda dice: {"name": dice.choice(("copy", "none"))}),
]  # fmt: skip

ELSEWHERE = {
    "Problem", "Statistic", "SummaryRow", "ARMS", "Arm", "SCALES", "TASKS", "Recipe", "Task",
    # Of records and rows alone: what `read_records` gives goes through them here.
    "summary_table", "to_csv", "to_markdown", "split_tables", "print_table",
    # Of this machine, and of what is registered; tests/benchmarks.
    "append_record", "commit", "device_description", "environment", "register_arm",
    "register_task", "higher_is_better",
}  # fmt: skip


@budget(0.03)
@given(case=cases(TARGETS))
def test_everything(case):
    obeys(*case)


def test_no_public_name_is_left_out():
    known = {target.name for target in TARGETS} | ELSEWHERE
    assert known >= {*benchmarks.__all__, *arms.__all__, *tasks.__all__}
