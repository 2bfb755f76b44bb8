import json
import shutil

import pytest

from syncattn.benchmarks.records import append_record
from syncattn.benchmarks.report_sources import judged_claims, read_source
from tests.benchmarks import benchmark_small
from tests.benchmarks.finished_run import finished_run, record, save_model, training_run

TEXT = b"near and far"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("run") / "run", ("softmax", "selective"))


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def test_a_comparison_has_table_curves_models_and_what_they_say(run):
    source = read_source(run)
    section = source.observed(TEXT)
    assert [model.name for model in section.models] == ["softmax", "selective"]
    assert section.models[0].details.startswith("Seed 0, the best of 2 on validation.")
    assert [row[0] for row in section.tables[0].lines] == ["softmax", "selective"]
    assert len(section.curves["softmax"]) == 6
    assert section.notes == []
    first, second = section.statements
    assert "softmax costs least, 2.5100 ± 0.0141 bits per byte" in first
    assert second.startswith("selective costs 0.1000 bits per byte more than softmax on average")
    assert ("machine", "cpu") in section.facts


def test_a_model_without_a_validation_score_is_not_the_best(run):
    file = run / "records.jsonl"
    first, *others = file.read_text().splitlines()
    changed = json.loads(first) | {"valid_bits_per_byte": None}
    assert (changed["arm"], changed["seed"]) == ("softmax", 0)
    file.write_text("\n".join([json.dumps(changed), *others]) + "\n")
    shutil.copytree(run / "softmax-seed0", run / "softmax-seed1")
    folder, name, details = read_source(run).models[0]
    assert name == "softmax" and details.startswith("Seed 1")
    assert folder == run / "softmax-seed1" / "model"


def test_a_difference_tells_the_seeds_it_covers(tmp_path):
    for arm, seeds in (("softmax", 2), ("kuramoto", 5)):
        for seed in range(seeds):
            append_record(tmp_path / "records.jsonl", record(arm, seed))
    *_, last = read_source(tmp_path).section["statements"]
    assert "than softmax on average over 2 seeds" in last


def test_one_seed_is_said(tmp_path):
    for arm in ("softmax", "kuramoto"):
        append_record(tmp_path / "records.jsonl", record(arm, 0))
    first, second = read_source(tmp_path).section["statements"]
    assert "nothing is known of the spread" in first
    assert second.endswith("on one seed.")


def test_damaged_lines_are_passed_over_and_named(run):
    file = run / "records.jsonl"
    lines = file.read_text().splitlines()
    old = json.dumps(json.loads(lines[0]) | {"an_old_field": 1})
    file.write_text("\n".join([*lines, '{"task": "comp', old, "[]"]) + "\n")
    source = read_source(run)
    assert len(source.records) == 4
    assert [note.split(":")[0] for note in source.notes] == [
        f"records.jsonl, line {n}, is passed over" for n in (5, 6, 7)
    ]
    assert "an_old_field" in source.notes[1]


def test_a_seed_recorded_twice_counts_once(run):
    before = read_source(run).section
    file = run / "records.jsonl"
    file.write_text(file.read_text() * 2)
    assert read_source(run).section["curves"] == before["curves"]


def test_a_missing_model_is_named(run):
    shutil.rmtree(run / "selective-seed0")
    source = read_source(run)
    assert [name for _, name, _ in source.models] == ["softmax"]
    assert source.notes == [
        "selective: its model is missing; it should be in selective-seed0/model."
    ]
    shutil.rmtree(run / "softmax-seed0")
    assert "No trained model is kept" in read_source(run).notes[0]


def test_a_model_of_another_version_is_left_out_not_drawn_at_random(run):
    folder = run / "selective-seed0" / "model"
    config = json.loads((folder / "config.json").read_text())
    config["attention_options"] = {"position": None}
    (folder / "config.json").write_text(json.dumps(config))
    section = read_source(run).observed(TEXT)
    assert [model.name for model in section.models] == ["softmax"]
    assert "must fit this version" in section.notes[0]


def test_broken_weights_are_left_out(run):
    (run / "softmax-seed0" / "model" / "model.safetensors").write_bytes(b"broken")
    section = read_source(run).observed(TEXT)
    assert [model.name for model in section.models] == ["selective"]
    assert section.notes[0].startswith("softmax: its pictures are left out: ")


def test_a_record_cannot_point_outside_its_run(run, tmp_path):
    save_model("softmax", tmp_path / "elsewhere-seed0" / "model")
    append_record(run / "records.jsonl", record("../elsewhere", 0))
    source = read_source(run)
    assert all(name != "../elsewhere" for _, name, _ in source.models)


def test_failed_runs_are_told(run):
    failed = record("kuramoto", 0, status="failed", failure="it diverged", test_bits_per_byte=None)
    append_record(run / "records.jsonl", failed)
    assert "kuramoto, seed 0, failed: it diverged" in read_source(run).notes
    append_record(run / "records.jsonl", record("kuramoto", 0))
    assert not any("it diverged" in note for note in read_source(run).notes)


def test_one_training_and_a_saved_model(tmp_path):
    folder = training_run(tmp_path / "mine")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("half a li")
    section = read_source(folder).observed(TEXT)
    assert section.notes == ["metrics.jsonl, line 4, is passed over: no JSON object."]
    assert section.tables[0].headings[:3] == ["training", "step", "tokens"]
    assert section.tables[0].lines[0][2] == "300"
    assert len(section.curves["mine"]) == 3
    assert [model.name for model in section.models] == ["mine"]
    model = read_source(folder / "model").observed(TEXT)
    assert [m.observation.mechanism for m in model.models] == ["selective"]


def test_a_grid_has_its_own_tables(tmp_path):
    for seed in (0, 1):
        append_record(tmp_path / "records.jsonl", benchmark_small.record(seed=seed))
    section = read_source(tmp_path).observed(TEXT)
    assert section.tables[0].title.startswith("copy: copying")
    assert "arm" in section.tables[0].headings
    assert "No trained model is kept" in section.notes[0]


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_what_is_no_run_is_refused(tmp_path, kind):
    path = tmp_path / "it"
    if kind == "file":
        path.write_text("x")
    if kind == "empty":
        path.mkdir()
    with pytest.raises(ValueError, match="`runs` must be folders with a"):
        read_source(path)


def test_claims_are_judged_by_these_runs_or_not_at_all():
    assert {claim.basis for claim in judged_claims([])} <= {"the documentation", "not checked"}
    records = [
        benchmark_small.record(task=task, arm=arm, mechanism="softmax", seed=seed,
                               test_score=score, recipe={"scale": "laptop"})
        for task in ("keywords", "keywords-sinusoidal", "keywords-learned")
        for arm, score in (("softmax", 0.8), ("oscillator-2", 0.82)) for seed in (0, 1)
    ]  # fmt: skip
    found = {claim.name: claim for claim in judged_claims(records)}
    assert found["oscillator-keywords"].basis == "these runs"
    assert found["oscillator-keywords"].verdict == "holds in part"
