import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agents.generation.chat import ChatCodec
from eval.run_policy import main as run_policy
from longvideo_env import read_trajectories
from longvideo_env.errors import SpecError
from train.options.sft_options import SFT
from train.options.start import check_start
from train.teaching.demonstrations import IGNORED, select, to_row

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    out = tmp_path_factory.mktemp("episodes")
    run_policy(["--policy", "scripted:ground-look-answer", "--out", str(out)])
    return out / "scripted-ground-look-answer" / "episodes.jsonl"


@pytest.fixture(scope="module")
def codec(tiny_model):
    from transformers import AutoTokenizer

    return ChatCodec(AutoTokenizer.from_pretrained(tiny_model))


def test_only_what_the_policy_said_has_labels(episodes, codec):
    for trajectory in read_trajectories(episodes):
        row = to_row(trajectory, codec)
        assert len(row["input_ids"]) == len(row["labels"])
        learned = [
            i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label >= 0
        ]
        assert all(label in (IGNORED, i) for i, label in zip(*row.values(), strict=True))
        said = "".join(s.text + "<|im_end|>" for s in trajectory.segments if s.sampled)
        assert codec.decode(learned) == said


def test_rows_are_rendered_as_the_engine_renders_an_episode(episodes, codec):
    trajectory = next(iter(read_trajectories(episodes)))
    messages = [{"role": s.role, "content": s.text} for s in trajectory.segments]
    whole = codec.tokenizer.apply_chat_template(messages, tokenize=False)
    assert codec.decode(to_row(trajectory, codec)["input_ids"]) == whole.removesuffix("\n")


def test_tokens_of_another_model_are_refused(episodes, codec):
    from dataclasses import replace

    trajectory = next(iter(read_trajectories(episodes)))
    segments = tuple(replace(s, token_ids=(5, 6, 7)) for s in trajectory.segments)
    with pytest.raises(SpecError, match="this model's tokenizer"):
        to_row(replace(trajectory, segments=segments), codec)


def test_rejection_sampling_keeps_what_reached_the_reward(episodes):
    found = list(read_trajectories(episodes))
    kept, total = select(found, 1.0)
    assert total == len(found)
    assert kept == [t for t in found if t.correct]
    assert select(found, None)[0] == found


def sft(*args):
    return subprocess.run(
        [sys.executable, str(ROOT / "train/sft.py"), *args],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_learns_from_a_teacher_and_from_saved_episodes(tmp_path, episodes):
    common = (
        "--tiny_model_if_missing", "true", "--model_name_or_path", str(tmp_path / "init"),
        "--use_cpu", "true", "--bf16", "false", "--max_steps", "8", "--logging_steps", "1",
        "--learning_rate", "0.01", "--report_to", "none", "--save_strategy", "no",
    )  # fmt: skip
    for name, source in {
        "teacher": ("--teacher", "teacher:mini", "--teacher_episodes", "40", "--dataset", "mini"),
        "saved": ("--episodes", str(episodes)),
    }.items():
        done = sft(*common, *source, "--output_dir", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name / "model.safetensors").exists()
        assert (tmp_path / name / "tokenizer.json").exists()
        losses = [
            float(line.split("'loss': '")[1].split("'")[0])
            for line in done.stdout.splitlines()
            if "'loss': '" in line
        ]
        assert losses[-1] < losses[0] - 1, json.dumps(losses)


@pytest.mark.parametrize("args", [(), ("--teacher", "random", "--episodes", "x")])
def test_one_source_is_needed(args):
    from train.sft import main

    with pytest.raises(SpecError, match="give either"):
        main(["--model_name_or_path", "x", "--output_dir", "y", "--use_cpu", "true", *args])


@pytest.mark.slow
def test_the_starters_recipe_gives_the_same_bytes_again_and_after_a_resumption(tmp_path):
    recipe = (
        "--config", "configs/sft/mini.yaml", "--teacher_dataset", "mini:videos=20",
        "--teacher", "teacher:mini:drill", "teacher:mini:0:0", "teacher:mini",
        "--teacher_episodes", "64", "--teacher_epochs", "2", "1", "1", "--save_steps", "3",
        "--teacher_rate", "1", "0.5", "2", "--lr_scheduler_type", "constant", "--warmup_steps", "0",
        "--logging_steps", "1", "--disable_tqdm", "true",
    )  # fmt: skip
    digests = []
    for name in ("one", "two"):
        out = tmp_path / name
        folders = ("--model_name_or_path", str(tmp_path / f"init-{name}"), "--output_dir", str(out))
        done = sft(*recipe, *folders)
        assert done.returncode == 0, done.stderr
        rates = re.findall(r"'learning_rate': '([\d.e-]+)'", done.stdout)
        assert [float(rate) for rate in rates] == [0.002] * 4 + [0.001] * 2 + [0.004] * 2
        digests.append(hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    checkpoint = str(tmp_path / "two" / "checkpoint-6")
    done = sft(*recipe, *folders, "--resume_from_checkpoint", checkpoint)
    assert done.returncode == 0, done.stderr
    again = load_file(tmp_path / "two" / "model.safetensors")
    for name, value in load_file(tmp_path / "one" / "model.safetensors").items():
        torch.testing.assert_close(again[name], value)


def test_episodes_longer_than_max_length_are_refused_where_nothing_is_left_of_them(tmp_path):
    from train.sft import main

    args = ["--config", str(ROOT / "configs/sft/mini.yaml"), "--teacher", "teacher:mini:drill"]
    args += ["--teacher_dataset", "mini:videos=20", "--teacher_episodes", "32"]
    args += ["--teacher_epochs", "1", "--teacher_rate", "1"]
    args += ["--model_name_or_path", str(tmp_path / "init")]
    with pytest.raises(SpecError, match="raise --max-length"):
        main([*args, "--output_dir", str(tmp_path / "out"), "--max_length", "20"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--teacher", "teacher:mini", "--output_dir", "{run}"], "holds a run"),
        (["--episodes", "{run}/none.jsonl"], "no file of episodes"),
        ([], "give either"),
        (["--teacher", "teacher:mini", "--dataset", "nowhere"], "nowhere"),
        (["--teacher", "teacher:mini", "--model_name_or_path", "./nowhere"], "no model in"),
        (["--teacher", "teacher:mini", "--learning_rat", "1"], "Did you mean --learning-rate?"),
    ],
)
def test_what_cannot_work_is_refused_early(flags, message, tmp_path, capsys):
    (tmp_path / "checkpoint-5").mkdir()
    base = ["--model_name_or_path", "mini-starter", "--use_cpu", "--output_dir", "y"]
    code = "2" if message in ("give either", "Did you mean --learning-rate?") else "1"
    with pytest.raises(SystemExit, match=code):
        check_start([*base, *(flag.format(run=tmp_path) for flag in flags)], SFT)
    assert message in capsys.readouterr().err.splitlines()[-1]
