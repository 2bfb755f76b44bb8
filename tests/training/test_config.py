"""Settings out of range are refused before any training, and the schedule is the one described."""

import json
import math
from dataclasses import fields
from itertools import pairwise

import pytest
import tyro

from syncattn.training import TrainingConfig


def test_the_defaults_are_valid_and_can_be_written_as_json():
    config = TrainingConfig()
    assert TrainingConfig(**json.loads(json.dumps(config.as_dict(), allow_nan=False))) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("steps", "batch_size", "context_length") for value in (0, -3)),
        ("evaluation_interval", 0),
        ("evaluation_tokens", 0),
        ("test_tokens", 0),
        ("patience", 0),
        ("accumulation_steps", 0),
        ("checkpoint_interval", -1),
        ("seed", -1),
        ("warmup_steps", -1),
        ("warmup_steps", 1000),
        *(("learning_rate", value) for value in (0.0, -1e-3, math.inf, math.nan)),
        *(("gradient_clip", value) for value in (0.0, -1.0, math.inf, math.nan)),
        *(("weight_decay", value) for value in (-0.1, math.inf, math.nan)),
        *(("min_learning_rate_ratio", value) for value in (-0.1, 1.1, math.nan)),
        *((beta, value) for beta in ("beta1", "beta2") for value in (-0.1, 1.0, math.nan)),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*; got {value}.*\. \w+"):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "learning_rate": 10.0,
        "gradient_clip": None,
        "weight_decay": 0.0,
        "beta1": 0.0,
        "min_learning_rate_ratio": 0.0,
        "warmup_steps": 0,
        "test_tokens": None,
        "checkpoint_interval": 0,
        "mixed_precision": "bf16",
    }.items(),
)
def test_values_at_the_edge_are_accepted(name, value):
    assert getattr(TrainingConfig(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 2.5),
        ("steps", "10"),
        ("steps", None),
        ("seed", True),
        ("learning_rate", None),
        ("learning_rate", "fast"),
        ("beta1", True),
    ],
)
def test_values_of_another_type_are_refused(name, value):
    with pytest.raises(TypeError, match=name):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    "name", ["mixed_precision", "schedule", "sharding", "tracker", "final_weights"]
)
def test_an_unknown_choice_is_refused(name):
    # The second is what the hook on types says first in tests.
    with pytest.raises((ValueError, TypeError), match=name):
        TrainingConfig(**{name: "fp16"})


@pytest.mark.parametrize(
    ("settings", "best"),
    [
        ({}, False),
        ({"patience": 3}, True),
        ({"patience": 3, "final_weights": "last"}, False),
        ({"final_weights": "best"}, True),
    ],
)
def test_early_stopping_keeps_the_best_weights_unless_told_otherwise(settings, best):
    assert TrainingConfig(**settings).keeps_best == best


def test_the_learning_rate_rises_then_falls_to_the_floor():
    config = TrainingConfig(
        steps=100, warmup_steps=10, learning_rate=1.0, min_learning_rate_ratio=0.2
    )
    rates = [config.learning_rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0 and rates[99] == pytest.approx(0.2)
    assert all(a > b for a, b in pairwise(rates[10:]))
    # Half-way down the cosine lies half-way between the ends.
    middle = (rates[54] + rates[55]) / 2
    assert middle == pytest.approx(0.6, abs=1e-3)


def test_other_schedules():
    options = {"steps": 101, "warmup_steps": 1, "learning_rate": 1.0,
               "min_learning_rate_ratio": 0.2}  # fmt: skip
    linear = TrainingConfig(schedule="linear", **options)
    assert [linear.learning_rate_at(s) for s in (0, 1, 100)] == pytest.approx([1.0, 1.0, 0.2])
    falls = [linear.learning_rate_at(s) - linear.learning_rate_at(s + 1) for s in range(1, 100)]
    assert falls == pytest.approx([0.8 / 99] * 99)
    constant = TrainingConfig(schedule="constant", **options)
    assert {constant.learning_rate_at(s) for s in range(101)} == {1.0}


@pytest.mark.parametrize("steps", [1, 2, 19, 20, 1000])
def test_short_runs_have_a_schedule_too(steps):
    config = TrainingConfig(steps=steps, learning_rate=1.0)
    rates = [config.learning_rate_at(step) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates) and max(rates) == 1.0


def test_every_field_has_its_sentence_for_the_command(capsys):
    with pytest.raises(SystemExit):
        tyro.cli(TrainingConfig, args=["--help"])
    text = capsys.readouterr().out
    assert len(fields(TrainingConfig)) > 10
    for field in fields(TrainingConfig):
        assert "--" + field.name.replace("_", "-") in text
    assert "Optimiser steps." in text and "Seed of the order" in text
