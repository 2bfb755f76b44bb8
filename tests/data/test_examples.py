import pytest
import torch

from syncattn.data.examples import Examples, LabelledSet, hash_examples
from syncattn.data.sources import DataIdentity


def examples(count):
    ids = torch.arange(3 * count).view(count, 3)
    number = torch.arange(count)
    return Examples(ids, torch.ones_like(ids, dtype=torch.bool), number % 3, number % 2, number)


def test_a_part_keeps_everything_together():
    part = examples(5).part(torch.tensor([4, 1]))
    assert part.size == 2
    assert part.inputs[:, 0].tolist() == [12, 3]
    assert part.label.tolist() == [0, 1]


def test_hash_sees_every_field_and_split():
    whole = examples(4)
    relabelled = whole._replace(label=1 - whole.label)
    digests = {
        hash_examples(whole, whole),
        hash_examples(whole),
        hash_examples(relabelled, whole),
        hash_examples(whole, relabelled),
    }
    assert len(digests) == 4


def test_a_split_without_examples_is_refused():
    identity = DataIdentity("set", "0", "generated", "here")
    with pytest.raises(ValueError, match=r"Every split of `set` .* none for valid"):
        LabelledSet(examples(2), examples(0), examples(2), 2, identity, ("all",))
