import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from syncattn.benchmarks.runs import DamagedModelError, by_validation, load_trained
from syncattn.cli import main
from tests.benchmarks.finished_run import record
from tests.benchmarks.small import comparison
from tests.benchmarks.test_compare import quiet


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    comparison(folder, mechanisms=("softmax", "selective")).run(quiet())
    return folder / "run"


def test_a_mechanism_by_name(run):
    assert load_trained(run, "selective").config.mechanism == "selective"


def test_every_kind_of_folder(run):
    assert load_trained(run).config.mechanism in {"softmax", "selective"}
    assert load_trained(run / "softmax-seed0").config.mechanism == "softmax"
    assert load_trained(run / "softmax-seed0" / "model").config.mechanism == "softmax"


def test_a_run_without_a_validation_score_is_never_the_best():
    made = [replace(record("softmax", seed), valid_bits_per_byte=bits)
            for seed, bits in enumerate([None, 2.0, 1.5, 1.5, None])]  # fmt: skip
    assert [r.seed for r in sorted(made, key=by_validation)] == [2, 3, 1, 0, 4]


def test_a_mechanism_that_was_not_trained(run):
    with pytest.raises(ValueError, match="`mechanism` must be one that the run trained: softmax"):
        load_trained(run, "kuramoto")


@pytest.mark.parametrize("place", ["softmax-seed0", "softmax-seed0/model"])
def test_a_saved_model_of_another_mechanism_is_refused(run, place):
    assert load_trained(run / place, "softmax").config.mechanism == "softmax"
    for other in ("selective", "nothing"):
        with pytest.raises(ValueError, match="that of the saved model, softmax; got"):
            load_trained(run / place, other)


def test_a_damaged_file_of_weights_is_named(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "softmax-seed0" / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DamagedModelError, match="softmax-seed0/model has a damaged model"):
        load_trained(tmp_path / "run", "softmax")
    for words in (["generate", "--prompt", "a"], ["device"]):
        folder = str(tmp_path / "run" / "softmax-seed0")
        assert main([words[0], folder, *words[1:]]) == 2


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_a_folder_without_models(tmp_path, kind):
    path = tmp_path / "run"
    if kind == "file":
        path.write_text("text")
    if kind == "empty":
        path.mkdir()
    with pytest.raises(ValueError, match="`run` must"):
        load_trained(path)


@pytest.mark.parametrize("change", ["missing", "unexpected", "reshaped"])
def test_parameters_of_another_version_are_refused_and_never_drawn(run, tmp_path, change):
    folder = tmp_path / "model"
    shutil.copytree(run / "selective-seed0" / "model", folder)
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if n.endswith("down_proj.weight"))
    if change == "unexpected":
        weights["model.former"] = weights[name].clone()
    else:
        value = weights.pop(name)
        if change == "reshaped":
            weights[name] = value[:-1].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="`run` must hold the parameters that this version"):
        load_trained(folder)
