"""The tools that people use around Transformers, on our networks."""

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import Trainer, TrainingArguments

from syncattn.models import SyncAttnForCausalLM
from tests.models.networks import EVERY_MECHANISM, build, tokens

# Trainer and PEFT still use names that the newest Transformers deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")


@pytest.fixture(autouse=True)
def own_process_state():
    """Accelerate keeps one state per process; what Trainer set must not meet the next test."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


class Rows(torch.utils.data.Dataset):
    """A few rows of tokens; the last is shorter and padded on the right."""

    def __init__(self):
        self.ids = tokens(4, 8)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, row):
        mask = torch.ones(8, dtype=torch.long)
        mask[6 if row == 3 else 8 :] = 0
        labels = self.ids[row].masked_fill(mask == 0, -100)
        return {"input_ids": self.ids[row], "attention_mask": mask, "labels": labels}


def trained(model, folder, **options):
    settings = {"per_device_train_batch_size": 2, "max_steps": 6, "save_steps": 3} | options
    arguments = TrainingArguments(
        output_dir=str(folder), learning_rate=1e-2, logging_steps=1, report_to="none",
        use_cpu=True, disable_tqdm=True, **settings,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), eval_dataset=Rows())
    trainer.train()
    return trainer


@EVERY_MECHANISM
def test_trainer_trains_saves_and_evaluates(mechanism, tmp_path):
    model = build(mechanism)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = trained(model, tmp_path)
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 6
    assert trainer.evaluate()["eval_loss"] < losses[0]
    again = SyncAttnForCausalLM.from_pretrained(tmp_path / "checkpoint-6").eval()
    assert torch.equal(again(tokens()).logits, model.eval()(tokens()).logits)


def test_trainer_with_accumulation_checkpointing_and_bf16(tmp_path):
    trainer = trained(
        build("selective"), tmp_path, gradient_accumulation_steps=2, gradient_checkpointing=True,
        bf16=True,
    )  # fmt: skip
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_accumulation_counts_the_tokens_of_all_batches(tmp_path):
    # The batches hold different numbers of real tokens.
    ends = []
    for size, steps in ((4, 1), (2, 2), (1, 4)):
        trainer = trained(
            build("selective"), tmp_path, per_device_train_batch_size=size, max_steps=1,
            gradient_accumulation_steps=steps, optim="sgd", max_grad_norm=0.0, save_steps=99,
        )  # fmt: skip
        ends.append(torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach())
    start = torch.nn.utils.parameters_to_vector(build("selective").parameters()).detach()
    one, *others = (end - start for end in ends)
    assert one.norm() > 1e-4
    for other in others:
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-6)


@EVERY_MECHANISM
def test_lora_trains_few_parameters_and_merges(mechanism):
    peft = pytest.importorskip("peft", reason="LoRA is a matter of peft")
    torus = build(mechanism).config.on_torus
    targets = ["gate_proj", "down_proj"] if torus else ["v_proj", "o_proj"]
    plain = build(mechanism)
    expected = plain(tokens()).logits
    model = peft.get_peft_model(
        plain, peft.LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM")
    )
    torch.testing.assert_close(model(tokens()).logits, expected)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(10):
        loss = model(input_ids=tokens(), labels=tokens()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model.eval()
    logits = model(tokens()).logits
    out = model.generate(input_ids=tokens(length=3), max_new_tokens=3, pad_token_id=0)
    assert out.shape == (2, 6)
    merged = model.merge_and_unload()
    assert isinstance(merged, SyncAttnForCausalLM)
    torch.testing.assert_close(merged(tokens()).logits, logits, rtol=1e-4, atol=1e-4)
