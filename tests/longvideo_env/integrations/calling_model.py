"""A tiny model that calls functions, for TRL's trainers."""

import importlib.util
import json
from pathlib import Path
from typing import Any


def make_calling_model(folder: Path) -> Path:
    """A tiny model with Qwen3's template that calls `answer` with any of the five options."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from longvideo_env.integrations.trl import LongTVQA
    from train.tiny_model import make_tiny_model

    make_tiny_model(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    (trl,) = importlib.util.find_spec("trl").submodule_search_locations  # type: ignore[union-attr]
    tokenizer.chat_template = Path(trl, "chat_templates", "qwen3.jinja").read_text("utf-8")
    tokenizer.save_pretrained(folder)

    spec = LongTVQA(dataset="mini", split="train", limit=8)
    environment = spec.environment_factory()
    prompts = [
        tokenizer.apply_chat_template(
            [*row["prompt"][:-1], {"role": "user", "content": environment.reset(**row)}],
            tools=[environment.ground, environment.look, environment.answer],
            add_generation_prompt=True,
            return_dict=False,
        )
        for row in spec.train_dataset
    ]
    calls = [json.dumps({"name": "answer", "arguments": {"answer": f"a{i}"}}) for i in range(5)]
    # TRL renders a turn with its empty reasoning; one without would be trained as context alone.
    texts = [f"<think>\n\n</think>\n\n<tool_call>\n{c}\n</tool_call><|im_end|>" for c in calls]
    targets = torch.tensor(tokenizer(texts)["input_ids"])
    policy = AutoModelForCausalLM.from_pretrained(folder).train()
    optimizer = torch.optim.Adam(policy.parameters(), 5e-3)
    for step in range(156):
        prompt = prompts[step % 8][-(48, 96, 192, 384)[step % 4] if step < 146 else 0 :]
        seen = torch.tensor([prompt] * len(targets))
        labels = torch.cat([torch.full_like(seen, -100), targets], 1)
        loss = policy(input_ids=torch.cat([seen, targets], 1), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.save_pretrained(folder)
    return folder
