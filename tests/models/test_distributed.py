"""Two processes over gloo: the gradients are those of one process with the whole batch."""

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from syncattn.models import MECHANISMS
from tests.models.networks import build, tokens

BATCH = 4


def gradients(model, ids):
    model(ids, labels=ids).loss.backward()
    return {name.removeprefix("module."): p.grad.clone() for name, p in model.named_parameters()}


def one_of_two(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    for mechanism in MECHANISMS:
        model = DistributedDataParallel(build(mechanism).train())
        found = gradients(model, tokens(BATCH)[rank::2])
        torch.save(found, f"{folder}/{mechanism}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_two_processes_are_one(tmp_path):
    multiprocessing.spawn(one_of_two, args=(str(tmp_path),), nprocs=2)
    for mechanism in MECHANISMS:
        expected = gradients(build(mechanism).train(), tokens(BATCH))
        for rank in range(2):
            found = torch.load(tmp_path / f"{mechanism}-{rank}.pt", weights_only=True)
            assert found.keys() == expected.keys()
            for name, gradient in expected.items():
                torch.testing.assert_close(
                    found[name], gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
                )
