"""TRL's own trainer on the game, with a random model and Qwen3's real template."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def called(name: str, **values: str) -> str:
    import json

    call = json.dumps({"name": name, "arguments": values})
    return f"<tool_call>\n{call}\n</tool_call><|im_end|>"


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer
    from trl.chat_template_utils import qwen3_chat_template

    from train.tiny_model import make_tiny_model

    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = qwen3_chat_template
    tokenizer.save_pretrained(folder)
    return folder


def make_trainer(spec: Any, model: Path, out: Path, trainer: Any = None) -> Any:
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        output_dir=str(out),
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=600,
        logging_steps=1,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    return (trainer or GRPOTrainer)(
        str(model),
        args=args,
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=spec.train_dataset,
        environment_factory=spec.environment_factory,
    )


@pytest.mark.filterwarnings("ignore")
def test_two_steps_with_a_random_model(qwen3: Path, tmp_path: Path) -> None:
    from longvideo_env.integrations.trl import LongTVQA

    spec = LongTVQA(dataset="embedded", split="train")
    trainer = make_trainer(spec, qwen3, tmp_path)
    trainer.max_completion_length = trainer.generation_config.max_new_tokens = 48
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.state.log_history[0]["rewards/LongTVQA/mean"] == 0  # it never called a tool


@pytest.mark.filterwarnings("ignore")
def test_calls_reach_the_game_and_its_reward_the_gradient(qwen3: Path, tmp_path: Path) -> None:
    from trl import GRPOTrainer

    from longvideo_env.integrations.trl import LongTVQA

    spec = LongTVQA(dataset="embedded", split="train")
    replies = {
        0: ["look", "answer"],
        1: ["answer"],
        2: ["ground", "nonsense"],
        3: ["look", "look", "look", "look", "look", "look"],
    }
    seen: list[float] = []

    class Scripted(GRPOTrainer):  # type: ignore[misc]
        """Replaces the model's text by the script's. The rest is TRL's."""

        def _generate_single_turn(self, prompt_ids: Any, *rest: Any, **more: Any) -> Any:
            if len(prompt_ids) == 4 and not any(getattr(self, "asked", {}).values()):
                self.asked = dict.fromkeys(range(4), 0)
            alive = [row for row in range(4) if len(replies[row]) > self.asked[row]]
            written = []
            for row in alive[: len(prompt_ids)]:
                name = replies[row][self.asked[row]]
                self.asked[row] += 1
                values = {"look": {"query": "mug"}, "answer": {"answer": "a0"}}.get(name, {})
                text = "nothing<|im_end|>" if name == "nonsense" else called(name, **values)
                written.append(self._tokenizer.encode(text, add_special_tokens=False))
            written += [self._tokenizer.encode("done<|im_end|>")] * (len(prompt_ids) - len(written))
            return written, None

        def _calculate_rewards(self, *given: Any) -> Any:
            rewards = super()._calculate_rewards(*given)
            seen.extend(rewards[:, 0].tolist())
            self.asked = {}
            return rewards

    trainer = make_trainer(spec, qwen3, tmp_path, Scripted)
    trainer.train()
    first, second = trainer.state.log_history[:2]
    assert first["tools/call_frequency"] > 1
    assert first["tools/failure_frequency"] == 0
    assert len(set(seen[:4])) > 1
    assert min(first["reward_std"], second["reward_std"]) > 0
    assert first["grad_norm"] > 0
