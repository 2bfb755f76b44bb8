"""The memory figure grows by what a block allocates."""

import time

import pytest
import torch

from syncattn.training.memory import PeakMemory


def test_a_large_tensor_is_seen_even_when_it_is_gone():
    with PeakMemory(torch.device("cpu")) as idle:
        time.sleep(0.05)
    with PeakMemory(torch.device("cpu")) as busy:
        tensor = torch.ones(64 << 20, dtype=torch.uint8)
        time.sleep(0.1)
        del tensor
    assert 0 <= idle.num_bytes < 16 << 20
    assert 48 << 20 < busy.num_bytes < 128 << 20


def test_the_sampling_ends_when_the_block_fails():
    memory = PeakMemory(torch.device("cpu"))
    with pytest.raises(KeyError), memory:
        raise KeyError
    assert not memory._thread.is_alive()


@pytest.mark.gpu
def test_cuda_counts_its_tensors():
    device = torch.device("cuda")
    with PeakMemory(device) as memory:
        torch.ones(64 << 20, dtype=torch.uint8, device=device)
    assert memory.num_bytes >= 64 << 20
