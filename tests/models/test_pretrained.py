import json

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from syncattn.models import SyncAttnForCausalLM
from syncattn.models.convert import convert
from tests.models.foreign_networks import network
from tests.models.networks import build, config


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
