"""What two processes train: the command behind `test_sharding`."""

import atexit
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.tensor import DTensor

from syncattn._validation import OverflowedError
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.training import DivergedError, loop, train

from . import tiny


def network(mechanism, **options):
    torch.manual_seed(0)
    config = SyncAttnConfig(
        mechanism=mechanism, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
        attention_options=options,
    )  # fmt: skip
    return SyncAttnForCausalLM(config)


def selective():
    # At the sharp edge of locking a gradient is as large as rounding makes it.
    return network("selective", smoothing=0.1)


def kuramoto():
    return network("kuramoto")


TRAININGS = ("llama-whole", "selective-shared", "kuramoto-shared")
"""A network, and whether each process holds all its weights or a share."""
OVERFLOW = "overflow"
"""A training that ends before its time."""


def training(name):
    """Returns settings and network of a training."""
    make, weights = name.split("-")
    shared = weights == "shared"
    config = replace(
        tiny.CONFIG,
        sharding="full" if shared else "none",
        final_weights="best" if shared else "last",
        accumulation_steps=1 if make == "kuramoto" else 2,
    )
    return config, globals().get(make) or getattr(tiny, make)


def overflow_in_one(folder):
    """One process of the two has numbers that leave their range, after which both go on."""

    def refuse(model, *arguments):
        calls.append(1)
        # A layer refuses after the processes have met at the beginning of the forward pass.
        loss = real(model, *arguments)
        if len(calls) > 5 and os.environ["RANK"] == "1":
            raise OverflowedError("`x` must be small enough; got values that overflow. Scale it.")
        return loss

    real, calls = loop._nats, []
    loop._nats = refuse
    config = replace(tiny.CONFIG, evaluation_interval=100)
    try:
        train(
            tiny.llama(), tiny.corpus(folder), config, directory=folder / OVERFLOW, progress=False
        )
    except DivergedError as error:
        (folder / f"overflow-{os.environ['RANK']}.txt").write_text(str(error))
    finally:
        loop._nats = real


def tell_whether_left(file):
    file.write_text("in" if distributed.is_initialized() else "left")


def main(folder, *names):
    torch.set_num_threads(1)
    # Registered first, so called last.
    atexit.register(tell_whether_left, folder / f"group-{os.environ['RANK']}.txt")
    for name in names:
        if name == OVERFLOW:
            overflow_in_one(folder)
            continue
        config, make = training(name)
        model, directory = make(), folder / name
        train(model, tiny.corpus(folder), config, directory=directory, progress=False, resume=True)
        kind = "half" if all(isinstance(p, DTensor) for p in model.parameters()) else "whole"
        (directory / "shards.txt").write_text(kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
