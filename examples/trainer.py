"""Trains a byte model under transformers.Trainer, with LoRA on top where PEFT is installed."""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.models.text import encode, generate_text

TEXT = "Oscillators that are near in frequency lock, and what locks moves as one. " * 40
WINDOW = 64


class Windows(torch.utils.data.Dataset):
    """Overlapping windows of one text."""

    def __init__(self, text):
        self.bytes = encode(text)[0]

    def __len__(self):
        """Returns the number of windows."""
        return (len(self.bytes) - WINDOW) // 7

    def __getitem__(self, place):
        """Returns one window; the model shifts the labels itself."""
        window = self.bytes[7 * place :][:WINDOW]
        return {"input_ids": window, "labels": window}


def train(model, folder, steps):
    """Trains a model and returns its last loss."""
    arguments = TrainingArguments(
        output_dir=folder, max_steps=steps, per_device_train_batch_size=8, learning_rate=5e-3,
        logging_steps=steps // 2, report_to="none", save_strategy="no", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=Windows(TEXT))
    return trainer.train().training_loss


def main():
    """Trains, generates, and trains few parameters more."""
    torch.manual_seed(0)
    config = SyncAttnConfig(
        mechanism="selective", hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=WINDOW,
    )  # fmt: skip
    model = SyncAttnForCausalLM(config)
    with tempfile.TemporaryDirectory() as folder:
        print(f"mean loss {train(model, folder, 60):.2f} nats per byte")
        print(generate_text(model, "Oscillators", max_new_tokens=40, temperature=0))
        saved = Path(folder) / "model"
        model.save_pretrained(saved)
        if find_spec("peft") is None:
            return
        from peft import LoraConfig, get_peft_model

        fresh = SyncAttnForCausalLM.from_pretrained(saved)
        adapted = get_peft_model(
            fresh, LoraConfig(r=4, target_modules=["v_proj", "o_proj"], task_type="CAUSAL_LM")
        )
        print(f"mean loss with LoRA {train(adapted, folder, 20):.2f} nats per byte")


if __name__ == "__main__":
    main()
