import io
import json

import pytest
import torch
from rich.console import Console

from syncattn.analysis.robustness import settling_figure
from syncattn.benchmarks import robustness as module
from syncattn.benchmarks.robustness import DeviceConfig, DeviceStudy, read_prices
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from tests.benchmarks.small import comparison, corpus

PRICES = {
    name: {"value": value, "unit": unit, "source": "made up for the test"}
    for name, value, unit in (
        ("multiply_add", 4.6e-12, "J"), ("coupling_write", 1e-12, "J"),
        ("dac_conversion", 1e-12, "J"), ("adc_conversion", 1e-12, "J"),
        ("oscillator", 1e-6, "W"), ("coupling_rate", 1e9, "1/s"),
    )
}  # fmt: skip


def quiet():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert comparison(folder, mechanisms=("softmax", "oscillator")).run(quiet())
    return folder


def study(trained, folder, **changes):
    values = {
        "run": trained / "run", "output": folder / "device", "num_tokens": 96, "seeds": (0, 1),
        "effects": ("coupling-mismatch", "converter-bits"),
    }  # fmt: skip
    return DeviceStudy(DeviceConfig(**(values | changes)))


def test_a_study_writes_everything_it_promises(trained, tmp_path, monkeypatch):
    drawn = []

    def remembered(settling, layers, **words):
        drawn.append(list(layers))
        return settling_figure(settling, layers, **words)

    monkeypatch.setattr(module, "settling_figure", remembered)
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    made = study(trained, tmp_path, prices=tmp_path / "prices.json")
    made.run(quiet())
    assert drawn == [[f"layer {n + 1}" for n in range(len(made.layers))]]
    output = tmp_path / "device"
    for name in ("robustness.png", "robustness.svg", "settling.png", "settling.svg"):
        assert (output / name).stat().st_size > 5000
    record = json.loads((output / "device.json").read_text(encoding="utf-8"))
    assert record["seeds"] == [0, 1]
    assert record["data"]["sha256"] == made.corpus.identity.sha256
    assert [sweep["name"] for sweep in record["sweeps"]] == ["coupling-mismatch", "converter-bits"]
    weak, strong = (record["sweeps"][0]["points"][k] for k in (0, -1))
    assert abs(weak["mean"] - record["baseline_bits_per_byte"]) < 0.1
    assert weak["rms_angle"] == pytest.approx(weak["predicted_rms_angle"], rel=0.2)
    assert strong["median_angle"] > weak["median_angle"]
    assert len(strong["scores"]) == 2
    assert [len(curve) for curve in record["settling"].values()] == [6, 6]
    assert all(report["measured"] is False for report in record["costs"]["reports"])
    assert all(report["total_joules"] > 0 for report in record["costs"]["reports"])
    assert "made up for the test" in (output / "costs.md").read_text(encoding="utf-8")


def test_the_perfect_device_scores_what_training_reported(trained, tmp_path):
    made = study(trained, tmp_path, num_tokens=10**9)
    lines = (trained / "run" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    told = next(r for r in map(json.loads, lines) if r["arm"] == "oscillator")
    assert made._score() == pytest.approx(told["test_bits_per_byte"], rel=1e-4)


def test_one_training_or_one_model_will_do(trained, tmp_path):
    one = study(trained, tmp_path, run=trained / "run" / "oscillator-seed0")
    model = study(trained, tmp_path, run=trained / "run" / "oscillator-seed0" / "model")
    assert one.corpus.identity == model.corpus.identity
    text = corpus(tmp_path)
    other = study(trained, tmp_path, corpus=text)
    assert other.corpus.identity.source == str(text)


def test_phases_have_harmonics_and_spheres_have_none(trained, tmp_path):
    assert "injection" not in study(trained, tmp_path, effects=()).effects
    torch.manual_seed(0)
    config = SyncAttnConfig(
        mechanism="oscillator", hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=24, attention_options={"oscillator_dim": 2},
    )  # fmt: skip
    SyncAttnForCausalLM(config).save_pretrained(tmp_path / "phases")
    made = study(
        trained, tmp_path, run=tmp_path / "phases", corpus=corpus(tmp_path),
        effects=("second-harmonic", "detuning"), seeds=(0,), num_tokens=24,
    )  # fmt: skip
    record = made.run(quiet())
    assert record["sweeps"][0]["points"][0]["bistable_share"] is not None
    assert record["sweeps"][1]["points"][-1]["unlocked_share"] > 0
    assert record["sweeps"][0]["points"][0]["deviation"] is None


BAD = [
    ({"seeds": ()}, "`seeds`"),
    ({"seeds": (1, 1)}, "`seeds`"),
    ({"num_tokens": 0}, "`num_tokens`"),
    ({"batch_size": 0}, "`batch_size`"),
    ({"effects": ("gravity",)}, "`effects`"),
    ({"effects": ("injection",)}, "`effects`"),
    ({"mechanism": "hopfield"}, "`mechanism`"),
    ({"mechanism": "softmax"}, "`model` must be or hold an OscillatorAttention"),
]


@pytest.mark.parametrize(("changes", "named"), BAD)
def test_bad_settings_are_refused_and_leave_nothing(trained, tmp_path, changes, named):
    with pytest.raises(ValueError, match=named) as error:
        study(trained, tmp_path, **changes)
    assert "got" in str(error.value)
    assert not (tmp_path / "device").exists()


def test_bad_places_are_refused(trained, tmp_path):
    for changes, named in (
        ({"run": tmp_path / "none"}, "`run`"),
        ({"output": trained / "run"}, "`output`"),
        ({"corpus": tmp_path / "none"}, "`corpus`"),
        ({"prices": tmp_path / "none"}, "`prices`"),
        (
            {"run": trained / "run" / "oscillator-seed0", "mechanism": "kuramoto"},
            "`mechanism` must be that of the saved model",
        ),
    ):
        with pytest.raises(ValueError, match=named):
            study(trained, tmp_path, **changes)


def test_an_output_that_cannot_be_made_is_refused_before_the_work(trained, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="`output` must be a folder that can be written"):
        study(trained, tmp_path, output=tmp_path / "file" / "device")
    made = study(trained, tmp_path, output=tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    assert made.config.output == tmp_path / "a" / "b"


def test_what_was_read_is_told_and_not_what_was_asked_for(trained, tmp_path):
    made = study(trained, tmp_path, num_tokens=10**6)
    assert made._num_read() < 10**6
    assert made._where().startswith(f"{made._num_read():,} bytes of the test split")
    assert study(trained, tmp_path, num_tokens=96)._num_read() == 96


def test_a_corpus_that_changed_is_refused(tmp_path):
    assert comparison(tmp_path, mechanisms=("oscillator",)).run(quiet())
    with (tmp_path / "corpus.txt").open("a", encoding="utf-8") as file:
        file.write("one line more\n" * 50)
    with pytest.raises(ValueError, match="`corpus` must be the text of the run"):
        study(tmp_path, tmp_path)


@pytest.mark.parametrize(
    "content",
    ["no json", "[1]", '{"multiply_add": 1}', '{"multiply_add": {"value": 1, "unit": "J"}}',
     '{"multiply_add": {"value": 1, "unit": "J", "source": ""}}',
     '{"multiply_add": {"value": "abc", "unit": "J", "source": "x"}}',
     '{"watt": {"value": 1, "unit": "W", "source": "x"}}'],
)  # fmt: skip
def test_incomplete_prices_are_refused(tmp_path, content):
    path = tmp_path / "prices.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"`prices`|`source`"):
        read_prices(path)
