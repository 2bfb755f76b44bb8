import pytest
import torch

from syncattn.models.export import export_model
from tests.models.networks import build


@pytest.mark.parametrize(
    ("length", "message"),
    [(25, "`length` must be at most `max_position_embeddings`; got 25 and 24"),
     (0, "`length` must be at least 1")],
)  # fmt: skip
def test_bad_lengths_are_refused(length, message):
    with pytest.raises(ValueError, match=message):
        export_model(build("softmax"), length=length)


def test_what_cannot_be_traced_is_refused_with_the_reason():
    model = build("softmax").train()

    class Counting(torch.nn.Module):
        def step(self):
            return None

        def forward(self, x, **_):
            return x * float(x.sum())

    model.model.layers[0].attention = Counting()
    with pytest.raises(RuntimeError, match=r"'softmax' must be traceable to be exported; got .*Us"):
        export_model(model, length=8)
    assert model.training
