import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer import TRAINER_STATE_NAME

from eval.runs.checkpoints import is_whole
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.errors import DataError, SpecError
from longvideo_env.records.trajectory import read_lines
from train import grpo
from train.curriculum import FILE as CURRICULUM
from train.options.grpo_options import check, parse
from train.options.script import load_tokenizer
from train.rollouts.rollout_func import Rollouts
from train.whole_checkpoints import last_whole_checkpoint

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "configs" / "grpo" / "tiny.yaml")

KEYS = {"WANDB_API_KEY": "local-" + "3b9f1c7e" * 5, "OPENAI_API_KEY": "sk-Zr8kQ2mVx0LpT5yWn4Jc"}

MakeTrainer = Callable[..., Any]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    policy = AutoModelForCausalLM.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    return dict(policy.state_dict())


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_trains_logs_every_term_and_saves_a_policy_that_loads(
    flags: list[str], tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = "paper,tool_calls=-0.05"
    # Random replies rarely have an action. With this many, some do, and the rewards differ.
    batch = ["--per_device_train_batch_size", "16", "--num_generations", "8"]
    grpo.main([*flags, *batch, "--max_steps", "2", "--reward", spec, "--learning_rate", "0.01"])
    *steps, last = metrics(tmp_path / "out")
    assert [record["step"] for record in steps] == [1, 2]
    for record in steps:
        for term in ("answer", "validity", "tool_calls"):
            assert isinstance(record[f"rewards/{term}/mean"], float)
        for fact in ("accuracy", "grounded", "turns", "tool_calls", "malformed", "failed"):
            assert isinstance(record[f"episodes/{fact}"], float)
    assert "train_runtime" in last
    before, after = weights(tiny_model), weights(tmp_path / "out")
    assert any(not torch.equal(before[name], after[name]) for name in before), "nothing was learnt"
    environment = json.loads((tmp_path / "out" / "environment.json").read_text(encoding="utf-8"))
    assert environment["reward"] == spec
    assert f"hf:{tmp_path / 'out'}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    flags: list[str], tmp_path: Path, workers: str
) -> None:
    # One group per step, three questions: the checkpoint of step 4 is in the second epoch.
    more = ["--limit", "3", "--save_strategy", "steps", "--save_steps", "2"]
    more += ["--learning_rate", "0.01", "--max_steps", "6"]
    more += ["--resample_zero_variance", "true", "--dataloader_num_workers", workers]
    grpo.main([*flags, *more, "--save_rollouts", str(tmp_path / "whole")])
    straight, logged = weights(tmp_path / "out"), metrics(tmp_path / "out")
    killed = tmp_path / "killed"
    more += ["--output_dir", str(killed), "--save_rollouts", str(tmp_path / "again")]
    with killed_at(5), pytest.raises(Killed):
        grpo.main([*flags, *more])
    assert metrics(killed)[-1]["step"] > 4, "steps were logged that have to be made again"
    grpo.main([*flags, *more, "--resume_from_checkpoint", "true"])
    for name, value in weights(killed).items():
        assert torch.equal(value, straight[name])
    assert [untimed(record) for record in metrics(killed)[:6]] == [
        untimed(record) for record in logged[:6]
    ]
    for step in range(1, 7):
        name = f"step-{step:06d}-rank-000.jsonl.zst"
        played = [
            [grpo_line(line) for line in read_lines(tmp_path / folder / name)]
            for folder in ("whole", "again")
        ]
        assert played[0] == played[1]


class Killed(BaseException):
    """Ends a run between two steps, without its clean-up for errors."""


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    real = Rollouts.__call__

    def call(self: Rollouts, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        if trainer.state.global_step == step:
            raise Killed
        return real(self, prompts, trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rollouts, "__call__", call)
        yield


@pytest.mark.slow
def test_a_killed_run_with_a_curriculum_goes_on_as_if_it_had_not_been(
    flags: list[str], tmp_path: Path
) -> None:
    more = ["--curriculum", "true", "--limit", "3", "--save_strategy", "steps", "--save_steps", "2"]
    more += ["--learning_rate", "0.01", "--max_steps", "6"]
    grpo.main([*flags, *more])
    killed = tmp_path / "killed"
    more += ["--output_dir", str(killed)]
    with killed_at(5), pytest.raises(Killed):
        grpo.main([*flags, *more])
    grpo.main([*flags, *more, "--resume_from_checkpoint", "true"])
    straight = weights(tmp_path / "out")
    for name, value in weights(killed).items():
        assert value.equal(straight[name])
    one, two = (tmp_path / run / "checkpoint-6" / CURRICULUM for run in ("out", "killed"))
    state = json.loads(one.read_text())
    assert state == json.loads(two.read_text())
    assert sum(state["played"]) > 0
    assert metrics(killed)[-2]["curriculum/met"] > 0
    checkpoint = killed / "checkpoint-4"
    mark = checkpoint / TRAINER_STATE_NAME  # the last file of a complete checkpoint
    assert (checkpoint / CURRICULUM).stat().st_mtime_ns < mark.stat().st_mtime_ns


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if "time" not in key}


@pytest.mark.slow
def test_curves_go_to_wandb_without_a_network(flags: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "train" / "grpo.py"), *flags, "--report_to", "wandb"],
        env={**os.environ, **KEYS, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    for key in KEYS.values():
        assert [path for path in written if key.encode() in path.read_bytes()] == []
        assert key not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_signal_ends_a_training_within_five_seconds_with_its_checkpoint(
    flags: list[str], tmp_path: Path
) -> None:
    more = ["--max_steps", "1000", "--save_strategy", "steps", "--save_steps", "1"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train" / "grpo.py"), *flags, *more],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    out = tmp_path / "out"
    while time.monotonic() < deadline and not any(map(is_whole, out.glob("checkpoint-*"))):
        time.sleep(0.2)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    took = time.monotonic() - start
    assert took < 5
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert last_whole_checkpoint(out)


def grpo_line(line: str) -> list[Any]:
    record = json.loads(line)
    return [record["qid"], record["seed"], [s["token_ids"] for s in record["segments"]]]


def test_lora_trains_and_loads(flags: list[str], tmp_path: Path) -> None:
    grpo.main([*flags, "--max_steps", "1", "--use_peft", "true", "--lora_r", "2"])
    assert (tmp_path / "out" / "adapter_config.json").is_file()
    assert weights(tmp_path / "out")


def test_a_missing_tiny_model_is_made(flags: list[str], tmp_path: Path) -> None:
    model = tmp_path / "made"
    grpo.prepare(*parse([*flags, "--model_name_or_path", str(model)]))
    assert weights(model)


def test_flags_override_the_yaml_file(flags: list[str]) -> None:
    args, env, training, _ = parse(flags)
    assert (args.max_turn_tokens, env.max_turns, training.num_generations) == (24, 3, 4)
    assert training.learning_rate == 1e-4
    args, env, training, _ = parse([*flags, "--max_turns", "2", "--max_turn_tokens", "7"])
    assert (args.max_turn_tokens, env.max_turns, training.num_generations) == (7, 2, 4)


def test_max_completion_length_is_what_an_episode_can_sample(make_trainer: MakeTrainer) -> None:
    assert make_trainer().max_completion_length == 3 * 24  # dr_grpo divides by it


UNFIT = ("nowhere", "no-such.yaml", "there is no runs/none", "checkpoint-*", "a batch takes 2")
"""Inputs that are missing or too small: exit code 1, not 2 for wrong usage."""


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--max_turnz", "3"], "unknown option --max-turnz. Did you mean --max-turns?"),
        (["--rollouts", "sideways"], "rollouts must be one of overlapped, lockstep"),
        (["--tool_timeout_s", "0"], "tool_timeout_s must be above 0"),
        (["--log_trajectories_every", "-1"], "log_trajectories_every must be at least 0"),
        (["--max_turns", "0"], "max_turns must be at least 1, got 0"),
        (["--num_generations", "3"], "must be divisible by num_generations"),
        (["--reward", "paper,answr=2"], "unknown reward term 'answr'"),
        (["--reward", "paper,answer=0,validity=0"], "no term of the reward"),
        (["--reward_weights", "1", "2"], "give the weights of reward terms in --reward"),
        (["--temperature", "0"], "temperature must be above 0"),
        (["--min_p", "0.1"], "min_p, repetition_penalty and generation_kwargs"),
        (["--max_turn_tokens", "0"], "max_turn_tokens"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--limit", "1", "--per_device_train_batch_size", "8"], "a batch takes 2 questions"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--vision", "telepathy"], "unknown vision agent 'telepathy'"),
        (["--config"], "--config expects the path of a YAML file"),
        (["--config", "no-such.yaml"], "no-such.yaml"),
        (["--resume_from_checkpoint", "runs/none"], "there is no runs/none"),
        (["--resume_from_checkpoint", "true"], "checkpoint-*"),
        (["--resample_attempts", "0"], "resample_attempts must be at least 1"),
        (
            ["--save_strategy", "steps", "--save_steps", "3", "--steps_per_generation", "2"],
            "save_steps must be a multiple of 2",
        ),
        (["--report_to", "trackio"], "report_to trackio: the package is not installed"),
        (["stray"], "unknown option stray"),
    ],
)
def test_bad_options_end_in_one_clear_line(
    flags: list[str],
    more: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if more[0] == "--config":
        flags = []
    monkeypatch.setattr(sys, "argv", ["grpo.py", *flags, *more])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "train" / "grpo.py"), run_name="__main__")
    assert stop.value.code == (1 if problem.startswith(UNFIT) else 2)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("longvideo-env train: ")
    assert problem in last


def test_an_unknown_key_in_the_yaml_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    mine = {**yaml.safe_load(Path(TINY).read_text(encoding="utf-8")), "max_turnz": 3}
    file.write_text(yaml.safe_dump(mine), encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        parse(["--config", str(file)])
    assert "unknown option --max-turnz in the YAML file" in capsys.readouterr().err


def test_a_yaml_file_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("max_turns: [", encoding="utf-8")
    with pytest.raises(SystemExit, match="1"):
        parse(["--config", str(file)])
    assert "mine.yaml, line 1, column 13: invalid YAML" in capsys.readouterr().err


def test_a_model_is_needed(flags: list[str]) -> None:
    args, env, training, model = parse(flags)
    with pytest.raises(SpecError, match="give --model-name-or-path"):
        check(args, env, training, replace(model, model_name_or_path=None))


def test_a_folder_without_a_tokenizer_is_refused(flags: list[str], tmp_path: Path) -> None:
    _, _, _, model = parse(flags)
    (tmp_path / "empty").mkdir()
    model.model_name_or_path = str(tmp_path / "empty")
    with pytest.raises(SpecError, match="cannot load the tokenizer of"):
        load_tokenizer(model, trust_remote_code=False)


def test_questions_without_a_gold_answer_are_counted(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args, env, training, _ = parse(flags)
    whole = load_dataset("embedded", "train")

    def blind(*_: Any, **__: Any) -> Dataset:
        tasks = [replace(task, gold=replace(task.gold, answer=None)) for task in whole.tasks[:3]]
        return replace(whole, tasks=(*tasks, *whole.tasks[3:]))

    monkeypatch.setattr(grpo, "load_dataset", blind)
    problem = f"embedded, split train: 3 of {len(whole)} questions have no gold answer"
    with pytest.raises(DataError, match=problem):
        grpo.load_questions(args, env, training)


@pytest.mark.parametrize("ask", ["words", "when"])
def test_questions_in_another_form_are_trained_on(flags: list[str], ask: str) -> None:
    args, env, training, _ = parse([*flags, "--ask", ask, "--reward", "paper,recall=0.5"])
    questions = grpo.load_questions(args, env, training)
    assert all(t.question.ask == ask and not t.question.options for t in questions)
    assert all(t.gold.when if ask == "when" else t.gold.text for t in questions)
    assert env.record()["ask"] == ask


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "grpo").glob("*.yaml")), ids=str)
def test_each_config_opens_with_its_command_and_parses(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    launch = r"# accelerate launch (--num_cpu_threads_per_process \d+ )?--config_file configs/"
    assert re.match(launch, text)
    comment = text[: text.index("\n#\n")]
    assert f"configs/grpo/{path.name}" in comment
    options = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert EnvConfig.from_mapping(
        {key: value for key, value in options.items() if key in EnvConfig.__dataclass_fields__}
    )


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=str)
def test_each_accelerate_config_opens_with_its_command(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# accelerate launch --config_file configs/accelerate/{path.name} ")
    assert load_config_from_file(str(path)).num_processes >= 1
