import csv
import io
import json

import pytest
from rich.console import Console

from syncattn.benchmarks import compare
from syncattn.benchmarks.folders import BusyFolderError, held
from syncattn.benchmarks.records import read_records
from syncattn.models import SyncAttnConfig
from tests.benchmarks.small import comparison, config


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_a_comparison_writes_everything_it_promises(tmp_path):
    run = comparison(tmp_path)
    console = quiet()
    assert run.run(console)
    output = tmp_path / "run"
    for name in ("records.jsonl", "table.md", "table.csv", "curves.png", "curves.svg"):
        assert (output / name).stat().st_size > 0
    for arm in run.arms:
        for name in ("weights.png", "sample.txt", "model/model.safetensors", "metrics.jsonl"):
            assert (output / f"{arm}-seed0" / name).stat().st_size > 0
    rows = list(csv.DictReader(io.StringIO((output / "table.csv").read_text(encoding="utf-8"))))
    assert [row["arm"] for row in rows] == list(run.arms)
    records, problems = read_records(output / "records.jsonl")
    assert not problems
    assert len({record.tokens for record in records}) == 1
    counts = [record.parameters for record in records]
    assert max(counts) - min(counts) <= 0.04 * min(counts)
    assert "softmax" in console.file.getvalue()


def test_what_another_process_writes_is_left_alone(tmp_path):
    second = comparison(tmp_path, resume=True)
    with (
        held(tmp_path / "run"),
        pytest.raises(BusyFolderError, match="`output` must be written"),
    ):
        second.run(quiet())
    assert not list((tmp_path / "run").iterdir())
    # What a killed process held it by is no file of a run.
    (tmp_path / "run" / ".lock").touch()
    comparison(tmp_path)


def test_resuming_keeps_what_is_finished(tmp_path):
    comparison(tmp_path, mechanisms=("softmax",)).run(quiet())
    before = (tmp_path / "run" / "records.jsonl").read_text()
    assert comparison(tmp_path, mechanisms=("softmax",), resume=True).run(quiet())
    assert (tmp_path / "run" / "records.jsonl").read_text() == before


def test_processes_give_the_same_losses_as_one(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    losses = []
    for folder, workers in ((tmp_path / "one", 1), (tmp_path / "two", 2)):
        run = comparison(folder, mechanisms=("softmax", "kuramoto"), workers=workers)
        assert run.run(quiet())
        records, _ = read_records(folder / "run" / "records.jsonl")
        losses.append({r.arm: pytest.approx(r.test_bits_per_byte, rel=1e-5) for r in records})
    assert {arm: value.expected for arm, value in losses[0].items()} == losses[1]


def test_a_failed_training_is_reported_and_the_rest_goes_on(tmp_path, monkeypatch):
    real = compare.run_job

    def sometimes(job):
        if job.arm == "selective":
            record = real(job)
            values = {**record.__dict__, "status": "failed", "failure": "The loss must stay finite"}
            values |= {"test_bits_per_byte": None, "test_perplexity": None}
            return type(record)(**values)
        return real(job)

    monkeypatch.setattr(compare, "run_job", sometimes)
    console = quiet()
    assert not comparison(tmp_path, mechanisms=("softmax", "selective")).run(console)
    assert "selective, seed 0, failed: The loss must stay finite" in console.file.getvalue()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_one_training_stops_no_other_and_is_tried_again(tmp_path, monkeypatch, workers):
    console, arms = quiet(), ("softmax", "selective", "kuramoto")
    run = comparison(tmp_path, mechanisms=arms, workers=workers)
    # What `selective` would write is a file already.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "selective-seed0").write_text("in the way")
    assert not run.run(console)
    records, _ = read_records(tmp_path / "run" / "records.jsonl")
    assert {r.arm: r.status for r in records} == dict.fromkeys(arms, "ok") | {"selective": "failed"}
    assert "selective, seed 0, failed: `directory` must be" in console.file.getvalue()
    (tmp_path / "run" / "selective-seed0").unlink()
    assert comparison(tmp_path, mechanisms=arms, workers=1, resume=True).run(quiet())
    records, _ = read_records(tmp_path / "run" / "records.jsonl")
    assert [r.arm for r in records].count("selective") == len(records) - 2 == 2
    table = csv.DictReader(io.StringIO((tmp_path / "run" / "table.csv").read_text()))
    assert {row["failed"] for row in table} == {"0"}


def test_divergence_in_validation_stops_no_other_training(tmp_path):
    console = quiet()
    run = comparison(tmp_path, mechanisms=("softmax", "kuramoto"), learning_rate=1e20)
    assert not run.run(console)
    records, _ = read_records(tmp_path / "run" / "records.jsonl")
    assert [(r.arm, r.status) for r in records] == [("softmax", "failed"), ("kuramoto", "failed")]
    assert all("must stay finite" in r.failure for r in records)


BAD = [
    ({"mechanisms": ("softmax", "hopfield")}, "`mechanisms`"),
    ({"mechanisms": ()}, "`mechanisms`"),
    ({"hidden_size": 30, "num_heads": 4}, "`hidden_size`"),
    ({"hidden_size": -16}, "`hidden_size`"),
    ({"num_layers": 0}, "`num_layers`"),
    ({"steps": -1}, "`steps`"),
    ({"batch_size": 0}, "`batch_size`"),
    ({"sample_length": 0}, "`sample_length`"),
    ({"seeds": ()}, "`seeds`"),
    ({"seeds": (1, 1)}, "`seeds`"),
    ({"workers": 0}, "`workers`"),
    ({"parameters": 10}, "`parameters`"),
    ({"learning_rate": -1.0}, "`learning_rate`"),
    ({"context_length": 100_000}, "100001"),
]


@pytest.mark.parametrize(("changes", "named"), BAD)
def test_bad_settings_are_refused_and_leave_nothing(tmp_path, changes, named):
    with pytest.raises(ValueError, match=named) as error:
        comparison(tmp_path, **changes)
    assert "got" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="`output` must be new or empty"):
        comparison(tmp_path)
    with pytest.raises(ValueError, match="`output` must hold a run with the same settings"):
        comparison(tmp_path, resume=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_resuming_with_other_settings_names_them(tmp_path):
    output = tmp_path / "run"
    first = comparison(tmp_path)
    output.mkdir()
    (output / "settings.json").write_text(json.dumps(first._settings(), default=str))
    comparison(tmp_path, resume=True)
    with pytest.raises(ValueError, match="differs in steps"):
        comparison(tmp_path, resume=True, steps=5)


@pytest.mark.parametrize("inside", ["file.txt", "file.txt/deeper"])
def test_an_output_that_cannot_be_made_is_refused(tmp_path, inside):
    (tmp_path / "file.txt").write_text("a file")
    with pytest.raises(ValueError, match="`output` must be a folder"):
        comparison(tmp_path, output=tmp_path / inside)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.txt", "file.txt"]


@pytest.mark.parametrize("option", ["output", "corpus"])
def test_a_name_that_is_no_text_is_refused_before_anything_starts(tmp_path, option):
    # What a plain C locale makes of letters beyond ASCII.
    odd = tmp_path / "zwei-\udcc3\udca4"
    with pytest.raises(ValueError, match=f"`{option}` must have a name in UTF-8; got .*UTF8=1"):
        comparison(tmp_path, **{option: odd})
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


def test_equal_tokens_and_order_for_all(tmp_path):
    run = comparison(tmp_path)
    assert len({(t.steps, t.batch_size, t.context_length) for t in run.training.values()}) == 1
    assert config(tmp_path).seeds == (0,)


def test_a_job_carries_every_setting_of_its_model(tmp_path):
    run = comparison(tmp_path)
    run.models["softmax"].tie_word_embeddings = False
    run.models["frustrated"].phase_features = "cosine-sine"
    for job in run._jobs():
        assert SyncAttnConfig(**job.model).to_dict() == run.models[job.arm].to_dict()


def test_brackets_in_what_is_printed_are_no_markup(tmp_path, monkeypatch):
    def fails(_, jobs, __):
        yield from [(job, None, RuntimeError("[/a] gone")) for job in jobs]

    monkeypatch.setattr(compare, "in_process", fails)
    console = quiet()
    assert not comparison(tmp_path, mechanisms=("softmax",)).run(console)
    assert "[/a] gone" in console.file.getvalue()
