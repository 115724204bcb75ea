"""Checkpoints with a killed writer: the last complete one is the last finished one, or newer."""

import json
import sys
from pathlib import Path

import torch
from killing import kill_at_random
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM, TrainingArguments

from train.whole_checkpoints import WholeCheckpoints, last_whole_checkpoint

OUT = Path(sys.argv[1]) / "out"


class Nothing(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"input_ids": [1], "labels": [1]}


torch.set_num_threads(1)
config = Qwen2Config(
    vocab_size=2000, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
    num_attention_heads=1, num_key_value_heads=1,
)  # fmt: skip
trainer = WholeCheckpoints(
    model=Qwen2ForCausalLM(config),
    args=TrainingArguments(
        output_dir=str(OUT), save_total_limit=2, use_cpu=True, report_to=[], save_strategy="steps"
    ),
    train_dataset=Nothing(),
)
trainer.create_optimizer_and_scheduler(num_training_steps=10)
for parameter in trainer.model.parameters():
    parameter.grad = torch.zeros_like(parameter)
trainer.optimizer.step()  # so that there is a state to save
weight = next(iter(trainer.model.parameters()))


def write(n: int) -> None:
    with torch.no_grad():
        weight.fill_(n)
    next(iter(trainer.optimizer.state.values()))["exp_avg"].fill_(n)
    trainer.state.global_step = n
    trainer._save_checkpoint(trainer.model, None)


def check(n: int) -> int:
    found = last_whole_checkpoint(OUT)
    assert found is not None
    step = int(found.name.rpartition("-")[2])
    assert json.loads((found / "trainer_state.json").read_text())["global_step"] == step
    weights = load_file(found / "model.safetensors")
    assert {float(w.flatten()[0]) for name, w in weights.items() if "embed" in name} == {step}
    state = torch.load(found / "optimizer.pt", weights_only=True)["state"]
    assert any(float(one["exp_avg"].flatten()[0]) == step for one in state.values())
    assert (found / "scheduler.pt").stat().st_size
    assert (found / "rng_state.pth").stat().st_size
    return step


kill_at_random(write, check, int(sys.argv[2]))
