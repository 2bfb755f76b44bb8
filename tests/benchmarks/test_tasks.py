import dataclasses

import pytest

from syncattn.benchmarks.tasks import (
    SCALES,
    TASKS,
    Task,
    higher_is_better,
    register_task,
    task_named,
)
from tests.benchmarks.benchmark_small import recipe

task_named("copy")


def test_the_tasks_of_the_sheet_are_there():
    wanted = {
        "enwik8-char", "code-char", "wikitext-2", "tinystories", "keywords", "agreement-v1",
        "agreement-v2", "agreement-natural", "blimp-agreement", "copy", "recall", "retrieve",
    }  # fmt: skip
    assert wanted <= set(TASKS)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("scale", SCALES)
def test_recipes_can_be_trained_and_compared_fairly(name, scale):
    found = TASKS[name].recipes[scale]
    run = found.training(seed=3, learning_rate=found.rates[0], is_trial=False)
    trial = found.training(seed=0, learning_rate=found.rates[-1], is_trial=True)
    assert (run.steps, trial.steps) == (found.steps, found.tuning_steps)
    assert trial.steps <= run.steps and run.seed == 3
    assert run.checkpoint_interval == 0
    if scale != "smoke":
        assert len(found.rates) >= 3
        assert found.seeds == (5 if TASKS[name].metric == "accuracy" and "blimp" not in name else 3)


def test_more_seeds_leave_the_settings_of_a_run_alone():
    found = recipe("copy")
    more = dataclasses.replace(found, seeds=9)
    assert more.as_dict() == found.as_dict()
    assert dataclasses.replace(found, steps=9).as_dict() != found.as_dict()


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="`name` must be new; got 'copy'"):
        register_task(TASKS["copy"])


def test_unknown_tasks_are_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"`task` must be one of .*copy.*; got 'sort'"):
        task_named("sort")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "speed"}, "`metric` must be one of accuracy"),
        ({"positions": "somewhere"}, "`positions` must be one of own"),
        ({"recipes": {}}, "smoke, laptop, full is missing"),
    ],
)
def test_a_task_of_a_stranger_is_checked(changes, message):
    values = {"name": "x", "summary": "", "metric": "accuracy", "prepare": TASKS["copy"].prepare,
              "recipes": TASKS["copy"].recipes}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Task(**(values | changes))


def test_direction_of_metrics():
    assert higher_is_better("accuracy")
    assert not higher_is_better("perplexity")
    assert not higher_is_better("something else")
