"""A corpus and models small enough to train in a second; also the command that a test kills."""

import os
import signal
import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from syncattn.data import load_corpus, training_batch
from syncattn.training import TrainingConfig, checkpoint, loop, train

CONFIG = TrainingConfig(
    steps=12,
    batch_size=4,
    context_length=16,
    learning_rate=3e-3,
    evaluation_interval=4,
    evaluation_tokens=100,
    test_tokens=100,
    checkpoint_interval=3,
    seed=5,
)


def corpus(folder: Path):
    path = folder / "corpus.txt"
    if not path.exists():
        text = "".join(f"{i} times {i} is {i * i}\n" for i in range(300))
        path.write_text(text, encoding="utf-8")
    return load_corpus(path, context_length=16)


def gpt2(**changes):
    """Dropout, learned positions and tied embeddings."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": 256,
        "n_positions": 16,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "resid_pdrop": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPT2LMHeadModel(GPT2Config(**settings | changes))


def llama(**changes):
    """Rotary positions, no dropout, no tied weights."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": 256,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
    }
    return LlamaForCausalLM(LlamaConfig(**settings | changes))


def figures(result):
    """Everything of a curve but the time it took."""
    return [
        (p.step, p.tokens, p.train_bits_per_byte, p.valid_bits_per_byte, p.gradient_norm)
        for p in result.curve
    ] + [result.test_bits_per_byte]


def kill_at(place: str) -> None:
    """Makes the system kill this process in the middle of a step, or of writing a checkpoint."""

    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def batch_or_kill(split, *, step, **options):
        return kill() if step == 7 else training_batch(split, step=step, **options)

    def checksums_or_kill(folder):
        return kill() if "step-00000006" in folder.name else checksums(folder)

    def save_or_kill(tensors, path):
        save_file(tensors, path)
        if "step-00000006" in str(path):
            os.truncate(path, path.stat().st_size // 2)
            kill()

    checksums, save_file = checkpoint._checksums, checkpoint.save_file
    if place == "step":
        loop.training_batch = batch_or_kill
    if place == "checkpoint":
        checkpoint._checksums = checksums_or_kill
    if place == "weights":
        checkpoint.save_file = save_or_kill
    if place == "dropping":
        # Between the new checkpoint's arrival and the removal of an old one.
        checkpoint._checkpoints = lambda directory: kill() if stored(directory, 6) else []


def stored(directory, step):
    return (directory / "checkpoints" / f"step-{step:08d}").exists()


if __name__ == "__main__":
    here, make, threads, place = Path(sys.argv[1]), globals()[sys.argv[2]], *sys.argv[3:]
    torch.set_num_threads(int(threads))
    kill_at(place)
    train(make(), corpus(here), CONFIG, directory=here / "run", progress=False)
