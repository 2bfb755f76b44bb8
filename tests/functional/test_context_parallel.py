"""Two processes with half of a sequence each say what one says, values and gradients."""

from functools import partial

import pytest
import torch
from torch import distributed, multiprocessing

from syncattn import functional, reference
from syncattn.functional.context_parallel import (
    context_parallel_oscillator_attention,
    context_parallel_oscillator_drive,
    context_parallel_selective_synchronization,
)
from syncattn.functional.oscillator_attention import COUPLINGS
from tests.tolerance import assert_same

BATCH, HEADS, LENGTH = 2, 2, 10


def drawn(*dims, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = [(BATCH, HEADS, LENGTH, dim) for dim in dims]
    return [torch.randn(s, generator=generator, dtype=torch.double) for s in shape]


def selective_inputs():
    frequency, value, phase = drawn(2, 3, 2, seed=1)
    couplings = [torch.tensor([1.3, 0.9]).double(), torch.tensor([0.5, 1.1]).double()]
    return [0.4 * frequency + 7.0, value, phase], couplings


def selective(call, sequence, couplings, **options):
    return call(*sequence, coupling_strength=couplings[0], coupling_decay=couplings[1], **options)


def whole_selective(frequency, *rest, **options):
    return functional.selective_synchronization(frequency, frequency, *rest, **options)


def oscillator_inputs():
    query, key, value, anchor = drawn(4, 4, 3, 2, seed=2)
    anchor = 0.9 * anchor / anchor.norm(dim=-1, keepdim=True)
    return [query, key, value, anchor], [torch.tensor([0.8, 1.6]).double()]


def oscillator(call, sequence, gain, **options):
    return call(*sequence, readout_gain=gain[0], **options)


def drive(call, sequence, _, **options):
    query, key, _, anchor = sequence
    h, total = call(query, key, anchor, **options)
    return torch.cat([h, total[..., None]], -1)


def padded():
    real = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    real[0, 8:] = real[1, :1] = real[1, 6] = False
    return {"key_mask": real}


CASES = {
    "selective": (selective, selective_inputs, {}),
    "selective-padded": (selective, selective_inputs, padded()),
    "selective-unbiased": (selective, selective_inputs, {"unbiased_order_parameter": True}),
    "selective-both-ways": (selective, selective_inputs, {"is_causal": False} | padded()),
    "drive": (drive, oscillator_inputs, {}),
    "drive-elu": (drive, oscillator_inputs, {"coupling": "elu", "scale": 0.3} | padded()),
    "drive-both-ways": (drive, oscillator_inputs, {"is_causal": False}),
    "oscillator": (oscillator, oscillator_inputs, {"readout_power": 4}),
    "oscillator-padded": (oscillator, oscillator_inputs, {"readout_power": 1} | padded()),
    "oscillator-both-ways": (
        oscillator, oscillator_inputs, {"readout_power": 2, "is_causal": False} | padded(),
    ),
}  # fmt: skip
PARALLEL = {
    selective: context_parallel_selective_synchronization,
    oscillator: context_parallel_oscillator_attention,
    drive: context_parallel_oscillator_drive,
}


def answers(operator, call, inputs, options, weight):
    """The output, and the gradients of sequence and shared numbers for one weighting of it."""
    sequence, shared = ([x.clone().requires_grad_() for x in part] for part in inputs)
    out = operator(call, sequence, shared, **options)
    gradients = torch.autograd.grad((out * weight).sum(), [*sequence, *shared], allow_unused=True)
    return [out.detach(), *(torch.zeros(()) if g is None else g for g in gradients)]


def weight_of(out_dim):
    return drawn(out_dim, seed=3)[0]


OUT = {selective: 3, oscillator: 3, drive: 3}


def one_of_two(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    here = slice(rank * LENGTH // 2, (rank + 1) * LENGTH // 2)
    for name, (operator, make, options) in CASES.items():
        sequence, shared = make()
        part = [x[:, :, here] for x in sequence]
        options = {k: v[:, here] if k == "key_mask" else v for k, v in options.items()}
        weight = weight_of(OUT[operator])[:, :, here]
        found = answers(operator, PARALLEL[operator], (part, shared), options, weight)
        torch.save(found, f"{folder}/{name}-{rank}.pt")
    # Parts of different lengths are refused in both, before anything else travels.
    part = [x[:, :, : 4 + rank] for x in selective_inputs()[0]]
    try:
        selective(PARALLEL[selective], part, selective_inputs()[1])
    except ValueError as error:
        torch.save(str(error), f"{folder}/refused-{rank}.pt")
    # So is what one process alone is given.
    sequence, shared = selective_inputs()
    part = [x[:, :, here] for x in sequence]
    real = torch.ones(part[0].shape[0], part[0].shape[2], dtype=torch.bool)
    for name, options in {
        "key_mask": {"key_mask": real if rank else None},
        "is_causal": {"is_causal": bool(rank)},
    }.items():
        try:
            selective(PARALLEL[selective], part, shared, **options)
        except ValueError as error:
            torch.save(str(error), f"{folder}/refused-{name}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ring")
    multiprocessing.spawn(one_of_two, args=(str(folder),), nprocs=2)
    return folder


def dense_drive(query, key, anchor, *, is_causal=True, key_mask=None, coupling="softplus",
                scale=None):  # fmt: skip
    """The definition, on the whole sequence."""
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
    mask = (mask.tril() if is_causal else mask).expand(BATCH, 1, -1, -1)
    mask = mask if key_mask is None else mask & key_mask[:, None, None, :]
    return reference.drive(
        query, key, anchor, scale=scale or query.shape[-1] ** -0.5, coupling=COUPLINGS[coupling],
        mask=mask,
    )  # fmt: skip


WHOLE = {
    selective: partial(whole_selective, self_pairs=True),
    oscillator: functional.oscillator_attention,
    drive: dense_drive,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("default")
def test_two_processes_are_one(folder, name):
    operator, make, options = CASES[name]
    sequence, shared = make()
    options = {"is_causal": True} | options
    expected = answers(operator, WHOLE[operator], (sequence, shared), options,
                       weight_of(OUT[operator]))  # fmt: skip
    parts = [torch.load(folder / f"{name}-{rank}.pt") for rank in range(2)]
    along = 1 + len(sequence)
    real = options.get("key_mask")
    for number, (first, second) in enumerate(zip(*parts, strict=True)):
        whole = first + second
        if number < along and first.dim() == 4:
            whole = torch.cat([first, second], 2)
        wanted = expected[number]
        if number == 0 and real is not None:
            # What a row of padding says is nobody's business.
            whole, wanted = (x * real[:, None, :, None] for x in (whole, wanted))
        assert_same(whole, wanted, 1e-10)
    assert any(x.abs().max() > 1e-3 for x in expected[1:])


@pytest.mark.filterwarnings("default")
def test_parts_of_different_lengths_are_refused_everywhere(folder):
    for rank in range(2):
        message = torch.load(folder / f"refused-{rank}.pt")
        assert "equally many tokens in every process, at least one; got [4, 5]" in message


@pytest.mark.parametrize("name", ["key_mask", "is_causal"])
@pytest.mark.filterwarnings("default")
def test_arguments_of_one_process_alone_are_refused_everywhere(folder, name):
    for rank in range(2):
        message = torch.load(folder / f"refused-{name}-{rank}.pt")
        assert f"`{name}` must be alike in every process" in message
        assert "got 2 kinds in 2 processes" in message
