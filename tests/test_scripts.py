"""What the scripts of `benchmarks` and the pages' extensions promise without a long run."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STORED = sorted((ROOT / "results" / "frustrated_language").glob("*.jsonl"))


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def load(name, folder="benchmarks"):
        spec = importlib.util.spec_from_file_location(
            f"script_{name}", ROOT / folder / f"{name}.py"
        )
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, f"script_{name}", module)
        spec.loader.exec_module(module)
        return module

    return load


def options(path, **changes):
    told = {"records": path, "seeds": 1, "arms": ["softmax"], "workers": 1, "steps": 600}
    return argparse.Namespace(**told | changes)


@pytest.mark.parametrize("told", [{"options": {"steps": 600}}, {"steps": 600}])
def test_records_of_other_options_are_refused(script, tmp_path, told):
    runs, path = script("runs"), tmp_path / "records.jsonl"
    path.write_text(json.dumps({"arm": "softmax", "seed": 0} | told) + "\n")
    assert len(runs.finish(None, options(path))) == 1
    with pytest.raises(SystemExit, match="steps = 600 in place of 9"):
        runs.finish(None, options(path, steps=9))


def test_records_tell_their_options(script, tmp_path):
    runs, path = script("runs"), tmp_path / "records.jsonl"
    text = tmp_path / "text.txt"
    assert runs._recipe(options(path, text=text)) == {"steps": 600, "text": "text.txt"}
    path.write_text(json.dumps({"arm": "softmax", "seed": 0, "options": {"steps": 600}}) + "\n")
    with pytest.raises(SystemExit, match=r"text = None in place of text\.txt"):
        runs.finish(None, options(path, text=text))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_records_can_be_gone_on_with(script, path):
    arms = sorted({json.loads(line)["arm"] for line in path.read_text().splitlines()})
    runs = script("runs")
    stored = runs.written(options(path))
    seeds = {record["seed"] for record in stored if record["arm"] == arms[0]}
    assert runs.finish(None, options(path, arms=arms[:1], seeds=len(seeds))) == stored


def test_the_rate_of_copying_is_chosen_on_other_texts(script):
    copying = script("copying")
    assert copying.VALIDATION_STEP != copying.TEST_STEP
    records = [
        {"rate": 1e-2, "valid_accuracy": 0.6, "accuracy": 0.9},
        {"rate": 3e-2, "valid_accuracy": 0.7, "accuracy": 0.5},
        {"rate": 3e-2, "valid_accuracy": 0.7, "accuracy": 0.6},
    ]
    assert copying.best_rate(records) == records[1:]


def test_an_old_table_is_not_shown_for_a_run_that_failed(script, tmp_path, monkeypatch, capsys):
    check = script("gpu_check")
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "run", lambda command, seconds: 1)
    table = tmp_path / "out" / "kernels.md"
    table.parent.mkdir()
    table.write_text("of yesterday")
    assert check.measure(Path("out"), 64, 2, 1.0) == 1
    assert "of yesterday" not in capsys.readouterr().out


def test_the_arm_that_is_proposed_exists(script):
    language = script("oscillator_language")
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        language.options_of("nothing-8")
    proposed = str(refused.value).split("with a dimension, as ")[1].split(";")[0]
    assert language.options_of(proposed)["mechanism"] == "oscillator"


def test_equations_of_a_page_are_forgotten_with_it_and_told_when_twice(script, monkeypatch):
    nodes = pytest.importorskip("docutils.nodes")
    pytest.importorskip("sphinx")
    from docutils.utils import new_document

    equations = script("equations", "docs/_extensions")
    warned = []
    monkeypatch.setattr(equations.logger, "warning", lambda text, *rest, **_: warned.append(rest))
    standard = argparse.Namespace(anonlabels={}, labels={})
    environment = argparse.Namespace(domains={"std": standard})
    app = argparse.Namespace(env=environment)

    def read(page):
        environment.docname = page
        document = new_document(page)
        paragraph = nodes.paragraph()
        paragraph += nodes.strong("", "(SS-1)")
        document += paragraph
        equations._collect(app, document)

    read("theory")
    assert not warned
    equations._forget(app, environment, "theory")
    assert environment.numbered_equations == {}
    read("theory")
    assert not warned
    read("other")
    assert warned == [("SS-1", "theory")]
