"""Small untrained models over bytes, and a server of them, for the tests of the explorer."""

import threading
from contextlib import contextmanager

import torch

from syncattn.analysis.explorer import Explorer
from syncattn.models import MECHANISMS, SyncAttnConfig, SyncAttnForCausalLM

TEXT = "locked oscillators settle"


def build(mechanism, **options):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "max_position_embeddings": 24, "initializer_range": 0.25}  # fmt: skip
    torch.manual_seed(0)
    return SyncAttnForCausalLM(SyncAttnConfig(mechanism=mechanism, **(sizes | options))).eval()


def build_all():
    return {mechanism: build(mechanism) for mechanism in MECHANISMS}


def ids(text=TEXT):
    return torch.tensor([list(text.encode())[:24]])


@contextmanager
def served(models, *, text=TEXT, max_length=40, model=None):
    """Runs a server in a thread; gives its address."""
    from syncattn.analysis import explorer_app

    explorer = Explorer(models, max_length=max_length)
    made = explorer_app.make_app(explorer, title="a run", text=text, model=model)
    server = explorer_app.make_server(made)
    with explorer_app.listening_socket(0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
    assert not thread.is_alive()
