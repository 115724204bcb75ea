"""The recipes of games on `mini`: a starter by SFT, then GRPO. Shared settings, and two steps."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents.generation.chat import ChatCodec
from agents.policies.starter import STARTER, resolve_model
from longvideo_env.config import EnvConfig
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from train import sft
from train.options.sft_options import SftArguments, check_tokens
from train.teaching.demonstrations import IGNORED
from train.tiny_model import TOOL_TEMPLATE, make_tiny_model

ROOT = Path(__file__).parents[2]
GAMES = ("dvd", "longvt")
DRILLS = ("teacher:mini:pairs",)


def config(kind: str, game: str) -> dict[str, Any]:
    text = (ROOT / "configs" / kind / f"mini-{game}.yaml").read_text(encoding="utf-8")
    options: dict[str, Any] = yaml.safe_load(text)
    return options


def environment(options: dict[str, Any]) -> EnvConfig:
    return EnvConfig.from_mapping(
        {key: value for key, value in options.items() if key in EnvConfig.__dataclass_fields__}
    )


@pytest.mark.parametrize("game", GAMES)
def test_grpo_goes_on_in_the_game_of_the_starter(game: str) -> None:
    starter, trained, judged = (config(kind, game) for kind in ("sft", "grpo", "eval"))
    assert environment(starter) == environment(trained)
    unseen = {"dataset": judged["dataset"], "split": "test"}
    assert environment(starter | unseen) == environment(judged)
    assert judged["max_turn_tokens"] == trained["max_turn_tokens"]
    assert judged["policy"] == f"hf:{trained['output_dir']}"
    assert environment(starter).game == game
    assert trained["model_name_or_path"] == starter["output_dir"]


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_the_starters_tokens_hold_calls_and_times_whole(game: str, tmp_path: Path) -> None:
    options = config("sft", game)
    env = environment(options)
    n = len(options["teacher"])
    args = SftArguments(
        teacher=options["teacher"], teacher_dataset=[env.dataset] * n, teacher_episodes=[60] * n
    )
    found = sft.collect(args, env, 0)
    assert all(turn.malformed is None for stage in found for t in stage for turn in t.turns)
    folder = make_tiny_model(
        tmp_path / "init",
        base=STARTER,
        tokens=sft.tokens_in(found, env, options["tiny_tokens"]),
        calls=env.protocol == "functions",
    )
    codec = ChatCodec(AutoTokenizer.from_pretrained(folder))
    codec.protocol = Game.from_config(env).protocol
    longest = most_a_turn = 0
    for teacher, trajectory in (
        (name, t) for name, s in zip(options["teacher"], found, strict=True) for t in s
    ):
        row = sft.to_row(trajectory, codec)
        longest = max(longest, len(row["input_ids"]))
        said = [i for i in row["labels"] if i != IGNORED]
        if teacher not in DRILLS:  # a policy never has to write as much as in a drill
            most_a_turn = max(most_a_turn, len(said) // len(trajectory.turns))
        # Parsed again, it equals the teacher's actions.
        for turn, text in zip(trajectory.turns, codec.decode(said).split("<|im_end|>")):  # noqa: B905
            read = codec.read(codec.encode(text))
            written = text if read is None else json.dumps(read)
            assert codec.protocol.parse(written, 5).outcome.name == turn.action  # type: ignore[union-attr]
    assert longest < 900
    assert most_a_turn < config("grpo", game)["max_turn_tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_an_unseen_world_is_told_in_tokens_that_were_learned(game: str) -> None:
    options = config("sft", game)
    env = environment(options)
    first = next(i for i, teacher in enumerate(options["teacher"]) if teacher not in DRILLS)
    known, unseen = (
        sft.collect(
            SftArguments(
                teacher=[options["teacher"][first]],
                teacher_dataset=[dataset],
                teacher_episodes=[150],
            ),
            replace(env, split=split),
            0,
        )[0]
        for dataset, split in (
            (options["teacher_dataset"][first], "train"),
            (config("eval", game)["dataset"], "test"),
        )
    )
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(STARTER))
    if env.protocol == "functions":
        tokenizer.chat_template = TOOL_TEMPLATE
    codec = ChatCodec(tokenizer)
    codec.protocol = Game.from_config(env).protocol
    tokenizer.add_tokens(sft.tokens_in([known], env, options["tiny_tokens"])(tokenizer))
    learned = {i for t in known for i in sft.to_row(t, codec)["input_ids"]}
    met = [i for t in unseen for i in sft.to_row(t, codec)["input_ids"]]
    assert sum(i not in learned for i in met) < len(met) / 100


def test_a_tiny_model_of_another_keeps_its_weights_and_adds_tokens(tmp_path: Path) -> None:
    texts = ['{"name": "look", "x": "', "[12:20] "]
    made = [
        make_tiny_model(tmp_path / name, base=STARTER, tokens=lambda _: texts, seed=seed)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    ]
    base = AutoModelForCausalLM.from_pretrained(resolve_model(STARTER))
    one, same, other = (
        AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
        for folder in made
    )
    known = base.get_input_embeddings().weight
    assert one.shape == (len(known) + 2, known.shape[1])
    assert torch.equal(one[:-2], known)
    assert torch.equal(one, same)
    assert not torch.equal(one[-2:], other[-2:])
    tokenizer = AutoTokenizer.from_pretrained(made[0])
    assert [len(tokenizer.encode(text)) for text in texts] == [1, 1]
    assert "weights of mini-starter" in (made[0] / "README.md").read_text(encoding="utf-8")


def test_a_pattern_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(SpecError, match=r"tiny_tokens: .* Fix: "):
        check_tokens(["[From"])


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_two_steps_of_each(game: str, tmp_path: Path) -> None:
    def run(script: str, *flags: str) -> None:
        kind = script.removesuffix(".py")
        recipe = [*("--config", f"configs/{kind}/mini-{game}.yaml"), "--disable_tqdm", "true"]
        command = [sys.executable, f"train/{script}", *recipe, *flags]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr

    starter, out = str(tmp_path / "starter"), str(tmp_path / "out")
    small = ["--teacher_episodes", "32", "--model_name_or_path", str(tmp_path / "init")]
    run("sft.py", *small, "--output_dir", starter)
    few = ["--max_steps", "2", "--per_device_train_batch_size", "8"]
    run("grpo.py", *few, "--model_name_or_path", starter, "--output_dir", out)
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines][:2] == [1, 2]
