"""Training with function calls and Qwen3's own chat template."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trl
from transformers import AutoTokenizer

from agents.generation.chat import ChatCodec
from longvideo_env.commands.audit import main as audit
from longvideo_env.config import EnvConfig
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.records.trajectory import read_trajectories
from train import grpo, sft
from train.teaching.demonstrations import IGNORED

QWEN3 = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"
GAME = Game.from_config(EnvConfig(protocol="functions"))
TERM = '''
def letters(play, gold):
    """The share of letters, so that random replies differ."""
    text = "".join(play.replies)
    return sum(c.isalpha() for c in text) / max(len(text), 1)
'''


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from train.tiny_model import make_tiny_model

    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = QWEN3.read_text(encoding="utf-8")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def functions(flags: list[str]) -> list[str]:
    return [*flags, "--protocol", "functions"]


def call(name: str, **arguments: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


SCRIPT = [
    "<think>\nWho?\n</think>\n\n" + call("look", query="who?") + "<|im_end|>",
    call("look", query="who?") + "\n" + call("answer", answer="a0"),
    call("answer", answer="a1") + "<|im_end|>",
]


def test_only_sampled_tokens_are_trained(
    functions: list[str], tmp_path: Path, write_replies: Callable[..., None], tiny_model: Path
) -> None:
    from train.options.grpo_options import parse

    options = [*functions, "--save_rollouts", str(tmp_path / "kept")]
    trainer = grpo.prepare(*parse(options))
    write_replies(lambda round_, row: SCRIPT[round_], "end_of_turn")
    qids = [row["prompt"] for row in trainer.train_dataset][:1] * 4
    rows = trainer.rollout_func(qids, trainer)
    (*_, played) = read_trajectories(tmp_path / "kept" / "step-000001-rank-000.jsonl.zst")
    assert [turn.action or turn.malformed for turn in played.turns] == [
        *("look", "several_actions", "answer")
    ]
    assert played.protocol == "functions"
    assert audit([str(tmp_path / "kept"), "--tokenizer", str(tiny_model)]) == 0
    decode = trainer.processing_class.decode
    for ids, mask in zip(rows["completion_ids"], rows["env_mask"], strict=True):
        sampled = decode([i for i, kept in zip(ids, mask, strict=True) if kept])
        assert sampled == "".join(SCRIPT)
        assert ids[-1] in trainer.eos_token_ids
        rest = decode([i for i, kept in zip(ids, mask, strict=True) if not kept])
        # One result per call. A turn that the model left open is closed.
        assert rest.count("<tool_response>") == 3
        assert rest.count("<|im_end|>") == 1 + 2
    (prompt,) = {decode(ids) for ids in rows["prompt_ids"]}
    assert '"name": "answer"' in prompt
    assert rows["validity"] == [pytest.approx(2 / 3)] * 4


@pytest.mark.slow
def test_three_steps_on_a_random_model(
    functions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "letter_terms.py").write_text(TERM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    more = ["--max_steps", "3", "--reward", "paper,letter_terms:letters=1"]
    kept = ["--save_rollouts", str(tmp_path / "kept")]
    grpo.main([*functions, *more, *kept, "--learning_rate", "0.01"])
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    *steps, _ = map(json.loads, lines)
    assert [record["step"] for record in steps] == [1, 2, 3]
    assert all(record["grad_norm"] > 0 for record in steps)
    environment = json.loads((tmp_path / "out" / "environment.json").read_text(encoding="utf-8"))
    assert environment["protocol"] == "functions"
    for step in range(1, 4):
        for played in read_trajectories(tmp_path / "kept" / f"step-{step:06d}-rank-000.jsonl.zst"):
            assert played.protocol == "functions"
            assert played.error is None
            assert "<tools>" in played.segments[0].text


def test_a_template_without_tools_is_refused_before_training(
    functions: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = QWEN3.with_name("phi3.jinja").read_text(encoding="utf-8")
    from train.options.grpo_options import parse

    tokenizer.save_pretrained(tmp_path / "phi")
    (tmp_path / "phi" / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    options = [*functions, "--model_name_or_path", str(tmp_path / "phi")]
    with pytest.raises(SpecError, match=r"does not support tools: .* Fix: use protocol=tags"):
        grpo.prepare(*parse(options))


def test_a_teachers_calls_are_learned_as_the_template_writes_them(
    tiny_model: Path, tmp_path: Path
) -> None:
    args: Any = sft.SftArguments(teacher=["teacher:mini:0:0"], teacher_episodes=[6])
    env = EnvConfig(dataset="mini", protocol="functions", max_turns=4)
    (found,) = sft.collect(args, env, 0)
    codec = ChatCodec(AutoTokenizer.from_pretrained(tiny_model))
    with pytest.raises(SpecError, match="Fix: give --protocol functions"):
        sft.to_row(found[0], codec)
    codec.protocol = GAME.protocol
    for played in found:
        row = sft.to_row(played, codec)
        labels = [i for i in row["labels"] if i != IGNORED]
        learned = codec.decode(labels)
        assert learned.count("<tool_call>") == len(played.turns) == learned.count("<|im_end|>")
        assert learned.count("<think>") == len(played.turns)
        whole = codec.decode(row["input_ids"])
        assert whole.count("<tool_response>") == len(played.turns) - 1
        # Parsed again, it equals the teacher's calls.
        for turn, text in zip(played.turns, learned.split("<|im_end|>"), strict=False):
            read = codec.read(codec.encode(text))
            outcome = GAME.protocol.parse(json.dumps(read), 5).outcome
            assert outcome.name == turn.action  # type: ignore[union-attr]
