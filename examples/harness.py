"""Measures a byte model in lm-evaluation-harness, on a task of its own: `pip install lm-eval`."""

import argparse
from pathlib import Path

import datasets
import torch
from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM

from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.models.text import byte_tokenizer, encode

TEXT = "near pairs lock. far pairs drift. "
QUESTIONS = [
    {"question": "near pairs", "choices": ["lock", "kclo"], "answer": 0},
    {"question": "far pairs", "choices": ["tfrid", "drift"], "answer": 1},
]


def questions(**_):
    """Returns the task's data; a task on the Hub names its data set instead."""
    return {"test": datasets.Dataset.from_list(QUESTIONS)}


TASK = {
    "task": "locking",
    "custom_dataset": questions,
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "answer",
    "doc_to_choice": "choices",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def trained(steps):
    """Returns a small model that has read two sentences many times."""
    torch.manual_seed(0)
    config = SyncAttnConfig(
        mechanism="selective", hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    model = SyncAttnForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    text = encode(TEXT * 8)[0]
    for step in range(steps):
        windows = torch.stack([text[(7 * step + 5 * row) % 200 :][:48] for row in range(8)])
        model(windows, labels=windows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def main():
    """Trains a model, or loads one, and prints its accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a byte model; trained here if absent")
    folder = parser.parse_args().model
    model = trained(150) if folder is None else AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = byte_tokenizer(model.config.max_position_embeddings)
    harness = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=2)
    found = simple_evaluate(harness, tasks=[ConfigurableTask(config=TASK)], bootstrap_iters=0)
    print(f"accuracy {found['results']['locking']['acc,none']:.2f}")


if __name__ == "__main__":
    main()
