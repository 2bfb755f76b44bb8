import torch

from syncattn.data.seeds import named_generator


def numbers(*parts):
    return torch.rand(4, generator=named_generator(*parts)).tolist()


def test_numbers_depend_on_every_part():
    assert numbers("task", 0, 1) == numbers("task", 0, 1)
    assert len({tuple(numbers(*p)) for p in [("task", 0, 1), ("task", 0, 2), ("task", 1, 1)]}) == 3


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    named_generator("anything")
    assert torch.equal(torch.rand(1), expected)
