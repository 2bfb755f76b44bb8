import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from syncattn.models import MECHANISMS, SyncAttnForCausalLM, SyncAttnForSequenceClassification
from syncattn.models.configuration import TORUS
from syncattn.models.convert import convert
from tests.models.foreign_networks import network
from tests.models.networks import build, config, tokens


@pytest.fixture
def folder(tmp_path):
    build("softmax").save_pretrained(tmp_path)
    return tmp_path


def test_a_pickle_is_refused(folder):
    model = build("softmax")
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    for load in (SyncAttnForCausalLM, AutoModelForCausalLM, AutoModel):
        with pytest.raises(ValueError, match=r"in safetensors; got 'pytorch_model.bin'"):
            load.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"got 'pytorch_model.bin'"):
        SyncAttnForCausalLM.from_pretrained(folder.parent, subfolder=folder.name)
    with pytest.raises(ValueError, match="`use_safetensors` must not be False"):
        SyncAttnForCausalLM.from_pretrained(folder, use_safetensors=False)


def test_a_checkpoint_of_another_mechanism_is_refused(folder):
    message = "The checkpoint must be of the mechanism asked for; got one of 'softmax' and 'sel"
    for load in (SyncAttnForCausalLM, AutoModelForCausalLM):
        with pytest.raises(ValueError, match=message):
            load.from_pretrained(folder, config=config("selective"))
    with pytest.raises(ValueError, match=message):
        SyncAttnForCausalLM.from_pretrained(folder, mechanism="selective")
    assert SyncAttnForCausalLM.from_pretrained(folder, config=config("softmax")) is not None
    where = {"subfolder": folder.name}
    with pytest.raises(ValueError, match=message):
        SyncAttnForCausalLM.from_pretrained(folder.parent, config=config("selective"), **where)
    assert SyncAttnForCausalLM.from_pretrained(folder.parent, **where) is not None


def test_a_checkpoint_of_a_converted_network_is_no_network_of_ours(tmp_path):
    converted = network("gpt2")
    convert(converted, "selective")
    converted.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="of a network of this package; got one of type 'gpt2'"):
        SyncAttnForCausalLM.from_pretrained(tmp_path)


def test_what_is_missing_is_said(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(OSError, match="empty"):
        SyncAttnForCausalLM.from_pretrained(empty)
    (folder / "config.json").unlink()
    again = SyncAttnForCausalLM.from_pretrained(folder, config=config("softmax"))
    assert torch.equal(again.lm_head.weight, build("softmax").lm_head.weight)


def test_code_of_a_repository_is_not_run(folder):
    with pytest.raises(ValueError, match="`trust_remote_code` must be left out"):
        SyncAttnForCausalLM.from_pretrained(folder, trust_remote_code=True)
    saved = json.loads((folder / "config.json").read_text())
    saved["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(saved))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match=r"evil|trust_remote_code|code"):
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert type(AutoModelForCausalLM.from_pretrained(folder)) is SyncAttnForCausalLM


OPTIONS = [
    ("selective", {"position": "drift"}),
    ("selective", {"position": "learned"}),
    ("selective", {"variant": "paper"}),
    ("oscillator", {"anchors": "ball", "readout_power": 1, "readout_gain": 1.0}),
    ("oscillator", {"anchors": "rotary-content"}),
    ("oscillator", {"variant": "paper"}),
    ("kuramoto", {"gate": "static", "sink": "learned"}),
    ("frustrated", {"gate_input": "token", "repulsion": False, "delay_only": True}),
]
EVERY_NETWORK = pytest.mark.parametrize(
    ("mechanism", "options", "part"),
    [(mechanism, {}, "") for mechanism in MECHANISMS]
    + [(mechanism, {"feedforward": "mean-field"}, "feedforward") for mechanism in TORUS]
    + [(mechanism, {"attention_options": options}, "attention") for mechanism, options in OPTIONS],
    ids=str,
)


@pytest.fixture
def raw_memory_is_nan():
    """Fills what nobody wrote, which may be zeros by chance, with NaN, and truth values with 1."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@EVERY_NETWORK
@pytest.mark.usefixtures("raw_memory_is_nan")
def test_each_tensor_that_is_missing_is_drawn_as_at_first(mechanism, options, part):
    named = config(mechanism, num_hidden_layers=1, num_labels=3, is_causal=False, **options)
    first, second = (SyncAttnForSequenceClassification(named).state_dict() for _ in range(2))
    # Nothing that is loaded looks like a first value.
    saved = {name: x if x.dtype == torch.bool else x + 3 for name, x in first.items()}
    for lost in (name for name in first if part in name):
        kept = {name: x for name, x in saved.items() if name != lost}
        again, report = SyncAttnForSequenceClassification.from_pretrained(
            None, config=named, state_dict=kept, output_loading_info=True
        )
        assert set(report["missing_keys"]) == {lost}
        found = again.state_dict()
        drawn = found.pop(lost)
        if torch.equal(first[lost], second[lost]):
            assert torch.equal(drawn, first[lost]), lost
        else:
            assert 0.5 < drawn.std() / first[lost].std() < 2, lost
            assert (drawn.mean() - first[lost].mean()).abs() < first[lost].std(), lost
        for name, x in found.items():
            assert torch.equal(x, saved[name]), name


def test_a_file_without_a_parameter_gives_a_network_that_works(folder):
    build("selective").save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.attention.frequency_position.rate"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    again = SyncAttnForCausalLM.from_pretrained(folder)
    layers = [layer.attention for layer in again.model.layers]
    assert torch.equal(layers[0].position_rate, layers[1].position_rate)
    saved = build("selective").model.layers[0].attention
    assert torch.equal(layers[0].v_proj.weight, saved.v_proj.weight)
    assert again(tokens()).logits.isfinite().all()
