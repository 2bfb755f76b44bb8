import pytest

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.controls import CONTROLS
from syncattn.benchmarks.presets import CONTROLLED, LAPTOP_TASKS, entries_of, preset_entries
from syncattn.benchmarks.tasks import SCALES, TASKS, task_named


def test_smoke_is_every_task_and_arm_once():
    entries = preset_entries("smoke")
    assert [entry.task for entry in entries] == list(TASKS)
    for entry in entries:
        assert entry.arms == tuple(ARMS)
        assert (entry.controls, entry.seeds) == (("none",), (0,))
        assert len(entry.recipe.rates) == 1


def test_laptop_has_the_seeds_and_controls_that_were_promised():
    entries = preset_entries("laptop")
    own = {entry.task: entry for entry in entries if entry.controls == ("none",)}
    assert set(own) == set(LAPTOP_TASKS)
    for name, entry in own.items():
        is_text = task_named(name).metric != "accuracy"
        assert len(entry.seeds) == (3 if is_text else 5)
        assert len(entry.recipe.rates) == (4 if is_text else 3)
    controlled = {entry.task: entry for entry in entries if entry.controls != ("none",)}
    assert set(controlled) == set(CONTROLLED)
    for entry in controlled.values():
        assert set(entry.controls) == set(CONTROLS) - {"none"}


def test_full_has_everything():
    entries = preset_entries("full")
    assert {entry.task for entry in entries} == set(TASKS)
    assert {c for entry in entries for c in entry.controls} == set(CONTROLS)


def test_seeds_can_be_given():
    own, others = entries_of(["copy"], ["softmax"], ["none", "random"], (4, 5), scale="laptop")
    assert own.seeds == others.seeds == (4, 5)
    own, others = entries_of(["copy"], ["softmax"], ["none", "random"], None, scale="laptop")
    assert (own.seeds, others.seeds) == ((0, 1, 2, 3, 4), (0, 1, 2))


@pytest.mark.parametrize("call", [preset_entries, lambda n: entries_of([], [], [], None, scale=n)])
def test_unknown_names_are_refused(call):
    with pytest.raises(ValueError, match=f"must be one of {', '.join(SCALES)}; got 'huge'"):
        call("huge")
