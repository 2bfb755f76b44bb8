import pickle

import pytest
import torch

from syncattn.nn import SelectiveSynchronization, read_author_state_dict

NAMES = {
    "W_omega": "frequency_proj", "W_theta": "phase_proj", "W_v": "v_proj", "W_o": "o_proj"
}  # fmt: skip


def state_of(width=8, num_heads=2):
    shapes = {"weight": (width, width), "bias": (width,)}
    state = {f"{n}.{end}": torch.randn(shape) for n in NAMES for end, shape in shapes.items()}
    return state | {"K": torch.tensor(0.5), "alpha": torch.tensor([0.2, 0.4])[:num_heads]}


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_file_becomes_a_layer(tmp_path, ending):
    state, path = state_of(), tmp_path / f"layer.{ending}"
    if ending == "pt":
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    layer = SelectiveSynchronization(8, 2, variant="paper")
    layer.load_author_state_dict(read_author_state_dict(str(path)))
    for theirs, ours in NAMES.items():
        projection = getattr(layer, ours)
        assert torch.equal(projection.weight, state[f"{theirs}.weight"])
        assert torch.equal(projection.bias, state[f"{theirs}.bias"])
    assert torch.equal(layer.raw_coupling_strength, state["K"])
    assert torch.equal(layer.raw_coupling_decay, state["alpha"])


class Trap:
    def __reduce__(self):
        return (open, ("sprung.txt", "w"))


def test_a_file_that_holds_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "trap.pt"
    torch.save({"K": Trap()}, path)
    with pytest.raises(ValueError, match=r"`path` must be a checkpoint that holds tensors alone"):
        read_author_state_dict(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"`path` must be a checkpoint that holds tensors alone"):
        read_author_state_dict(path)
    assert not (tmp_path / "sprung.txt").exists()


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "list.pt"
    torch.save([torch.ones(2)], path)
    with pytest.raises(ValueError, match="`path` must hold tensors by name, a state_dict; got a l"):
        read_author_state_dict(path)


def spoilt(change):
    state = state_of()
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (spoilt(lambda s: s.pop("K")), ValueError, r"missing \['K'\] and unknown none"),
        (spoilt(lambda s: s.update(x=1)), ValueError, r"missing none and unknown \['x'\]"),
        (
            spoilt(lambda s: s.update(alpha=torch.ones(3))),
            ValueError,
            r"`state_dict\['alpha'\]` must have shape \(2,\); got \(3,\)",
        ),
        (spoilt(lambda s: s.update(K=0.5)), TypeError, r"`state_dict\['K'\]` must be a tensor"),
    ],
)
def test_what_does_not_match_is_refused_and_changes_nothing(state, error, message):
    layer = SelectiveSynchronization(8, 2, variant="paper")
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with pytest.raises(error, match=message):
        layer.load_author_state_dict(state)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def test_only_the_published_form_takes_them():
    with pytest.raises(ValueError, match="`variant` must be 'paper' to load the weights"):
        SelectiveSynchronization(8, 2).load_author_state_dict(state_of())
