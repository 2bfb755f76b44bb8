import torch

from syncattn.benchmarks.pictures import diagnostics, draw_weights, layer_patterns, snippet
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.nn import Synchrony


def bytes_of(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def test_snippet_begins_with_a_line_that_is_not_indented():
    text = "x = 1\n" * 20 + "    y = 2\n" * 3 + "def f():\n" + "    z\n" * 20
    assert snippet(bytes_of(text), 20).startswith((b"x = 1", b"def f"))


def test_snippet_of_a_short_split_is_the_split():
    assert snippet(bytes_of("abc"), 20) == b"abc"


def test_diagnostics_count_visible_pairs_only():
    weights = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    layer = Synchrony(weights, torch.full((1, 2), 0.5), weights > 0)
    assert diagnostics([layer]) == {"order_parameter": [0.5], "locked_fraction": [1.0]}


def test_a_token_with_itself_is_no_locked_pair():
    weights = torch.eye(4)[None]
    assert diagnostics([Synchrony(weights, None, weights > 0)])["locked_fraction"] == [0.0]
    alone = torch.ones(1, 1, 1)
    assert diagnostics([Synchrony(alone, None, alone > 0)])["locked_fraction"] == [None]


def test_diagnostics_of_a_mechanism_that_hides_a_token_from_itself():
    weights = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    layer = Synchrony(weights, None, torch.zeros_like(weights, dtype=torch.bool))
    assert diagnostics([layer]) == {"order_parameter": [None], "locked_fraction": [0.0]}


def test_pictures_of_every_stream(tmp_path):
    for mechanism in ("selective", "kuramoto"):
        config = SyncAttnConfig(
            mechanism=mechanism, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
        )
        patterns = layer_patterns(SyncAttnForCausalLM(config), b"for x in y:")
        assert patterns[0].weights.shape == (2, 11, 11)
        draw_weights(patterns, b"for x in y:", tmp_path / mechanism, name=mechanism, legend="R is.")
        assert (tmp_path / f"{mechanism}.png").stat().st_size > 10_000
        assert (tmp_path / f"{mechanism}.svg").exists()
