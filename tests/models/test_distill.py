import copy
import inspect

import pytest
import torch

from syncattn.models.convert import convert
from syncattn.models.distill import distill
from tests.models.foreign_networks import EVERY_FAMILY, ids, network


@EVERY_FAMILY
def test_replaced_layers_learn_what_the_original_ones_said(family):
    original = network(family)
    model = copy.deepcopy(original)
    convert(model, "selective")
    frozen = {name: p.clone() for name, p in model.named_parameters() if "attention.v" not in name}
    batches = [{"input_ids": ids(4), "labels": ids(4)}] * 40
    losses = distill(model, original, batches, learning_rate=1e-2)
    assert len(losses) == 2
    for curve in losses.values():
        assert len(curve) == 40
        assert curve[-1] < 0.7 * curve[0]
    for name, parameter in model.named_parameters():
        if ".attention." not in name and name in frozen:
            assert torch.equal(parameter, frozen[name])


def test_softmax_for_softmax_has_nothing_to_learn():
    original = network("gpt2")
    model = copy.deepcopy(original)
    convert(model, "softmax")
    batch = {"input_ids": ids(), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    batch["attention_mask"][1, 6:] = 0
    losses = distill(model, original, [batch], learning_rate=1e-6)
    assert all(curve[0] < 1e-8 for curve in losses.values())


def test_kept_weights_can_stay():
    original = network("llama")
    model = copy.deepcopy(original)
    convert(model, "selective", layers=[0])
    layer = model.model.layers[0].self_attn.attention
    before = {name: p.clone() for name, p in layer.named_parameters()}
    losses = distill(model, original, [{"input_ids": ids()}] * 2, whole_layers=False)
    assert len(losses) == 1
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, parameter in layer.named_parameters():
        kept = name.startswith(("v_proj", "o_proj"))
        assert torch.equal(parameter, before[name]) == kept, name


def test_bad_input_is_refused():
    original = network("gpt2")
    with pytest.raises(ValueError, match="`model` must hold layers that `convert` replaced"):
        distill(copy.deepcopy(original), original, [])
    with pytest.raises(ValueError, match="`learning_rate` must be finite and strictly"):
        distill(original, original, [], learning_rate=0.0)
    pupil = copy.deepcopy(original)
    convert(pupil, "selective")
    with pytest.raises(ValueError, match="`original` must be another network"):
        distill(pupil, pupil, [])
    with pytest.raises(TypeError, match="`batches` must be of Mapping; got Tensor"):
        distill(pupil, original, iter(ids(4)))
    nothing = {"input_ids": ids(2), "attention_mask": torch.zeros_like(ids(2))}
    with pytest.raises(ValueError, match="`batches` must have real tokens"):
        distill(pupil, original, [nothing])
    with pytest.raises(ValueError, match="`batches` must hold at least one batch"):
        distill(pupil, original, [])
    for wrong in ({"input_ids": ids()}, 5):
        with pytest.raises(TypeError, match="`batches` must be several batches"):
            inspect.unwrap(distill)(pupil, original, wrong)
    same = copy.deepcopy(original)
    convert(same, "softmax")
    with pytest.raises(ValueError, match="2 replaced layers; got kept ones alone"):
        distill(same, original, [], whole_layers=False)
    with pytest.raises(ValueError, match="in its 2 replaced layers; got frozen ones"):
        distill(pupil.requires_grad_(False), original, [{"input_ids": ids()}])


def test_frozen_layers_stay_and_the_others_learn_without_gradients_outside():
    original = network("gpt2")
    model = copy.deepcopy(original)
    convert(model, "selective")
    frozen, free = model.transformer.h[0].attn, model.transformer.h[1].attn
    frozen.requires_grad_(False)
    before = [copy.deepcopy(layer.state_dict()) for layer in (frozen, free)]
    with torch.no_grad():
        distill(model, original, [{"input_ids": ids(), "return_dict": True}])
    for layer, kept, same in zip((frozen, free), before, (True, False), strict=True):
        found = layer.state_dict()
        assert all(torch.equal(found[name], kept[name]) for name in kept) == same
