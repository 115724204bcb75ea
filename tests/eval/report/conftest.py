"""Runs for the reports, played once per session."""

import gzip
import json
import re
import shutil
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eval.report.command import main as report
from eval.run_policy import main as run_policy
from longvideo_env.commands.data.mini import main as write_mini
from longvideo_env.config import EnvConfig
from longvideo_env.datasets.forms import open_questions

POLICIES = ("scripted:ground-look-answer", "random")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small `mini` dataset on disk, with frames."""
    folder = tmp_path_factory.mktemp("world") / "mini"
    write_mini(["--out", str(folder), "--videos", "12", "--frames"])
    return folder


@pytest.fixture(scope="session")
def play() -> Callable[..., None]:
    """Play with `eval/run_policy.py` in a thread, because the browser's driver has a loop here."""

    def run(*args: str | Path) -> None:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(run_policy, [*map(str, args)]).result() == 0

    return run


@pytest.fixture(scope="session")
def runs(world: Path, play: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two policies on the training split of that dataset."""
    out = tmp_path_factory.mktemp("runs")
    policies = [part for policy in POLICIES for part in ("--policy", policy)]
    play(*policies, "--dataset", world, "--split", "train", "--out", out)
    return out


@pytest.fixture(scope="session")
def film_runs(
    world: Path, play: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run on that dataset with clip times: one clip per minute of its film."""
    folder = tmp_path_factory.mktemp("film") / "mini"
    shutil.copytree(world, folder)
    videos = open_questions(EnvConfig(dataset=str(world), split="val")).videos
    times = {
        clip_id: {"start_s": 60 * i, "end_s": 60 * (i + 1)}
        for video in videos.values()
        for i, clip_id in enumerate(video.clip_ids)
    }
    text = json.dumps({"frames_fps": 3, "clips": times})
    (folder / "clips.json").write_text(text, encoding="utf-8")
    out = tmp_path_factory.mktemp("film-runs")
    play("--policy", POLICIES[0], "--dataset", folder, "--split", "val", "--out", out)
    return out


@pytest.fixture
def make_report(tmp_path: Path) -> Callable[..., Path]:
    """Make a page and return its path."""

    def make(*args: str | Path) -> Path:
        out = tmp_path / "report.html"
        assert report([*map(str, args), "--out", str(out)]) == 0
        return out

    return make


@pytest.fixture
def read_block() -> Callable[[Path, str], Any]:
    """Unpack one block of a page."""

    def read(page: Path, name: str) -> Any:
        text = page.read_text(encoding="utf-8")
        found = re.search(rf'<script type="application/gzip" data-block="{name}">([^<]*)<', text)
        assert found, name
        return json.loads(gzip.decompress(b64decode(found[1])))

    return read


def rollout(qid: str, sample: int, reward: float | None, **more: Any) -> dict[str, Any]:
    """A saved rollout of one turn, as the trainer writes it."""
    prompt = f"Question: what is {qid} ?\na0: this\na1: that\n\nThe video v1 has 2 clips. You are"
    turn = {"turn": 1, "action": "answer", "argument": "a0", "malformed": None}
    turn |= {"request": None, "result": None, "finish": "stop", "moves": False}
    said = {"role": "assistant", "text": "<answer>a0</answer>", "sampled": True, "turn": 1}
    seen = {"role": "prompt", "text": prompt, "sampled": False, "turn": 0}
    record = {
        "qid": qid,
        "question": f"what is {qid} ?",
        "options": ["this", "that"],
        "video_id": "v1",
        "policy": "hf:x",
        "sample": sample,
        "seed": 1,
        "status": "answered" if reward is not None else "failed",
        "n_options": 2,
        "turns": [turn],
        "segments": [
            {**seen, "token_ids": [1, 2, 3], "logprobs": None},
            {**said, "token_ids": [4, 5], "logprobs": [-0.1, -0.2]},
        ],
        "show": None,
        "opened_at": ["v1_seg01_clip_00"],
        "visited": ["v1_seg01_clip_00"],
        "choice": 0,
        "option_order": None,
        "error": None if reward is not None else "look: broke down",
        "first": None,
        "correct": None if reward is None else reward > 0.5,
        "grounded": None,
        "grounded_first": None,
        "reward": reward,
        "reward_terms": {},
        "timings": {"model_s": 0.5, "tools_s": 0.25, "env_s": 0.0, "total_s": 0.75},
        "schema_version": 2,
    }
    return {**record, **more}


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A training run of two steps, as saved by two processes, with curves."""
    folder = tmp_path / "grpo"
    (folder / "rollouts").mkdir(parents=True)
    for step in (0, 1):
        for rank, qid in enumerate(("q1", "q2")):
            rewards = (1.1, 0.1, None, 0.1) if qid == "q1" else (0.1, 0.1, 0.1, 0.1)
            lines = [json.dumps(rollout(qid, i, reward)) for i, reward in enumerate(rewards)]
            path = folder / "rollouts" / f"step-{step:06d}-rank-{rank:03d}.jsonl"
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    steps = [
        {"step": 1 + i, "reward": 0.2 + 0.1 * i, "reward_std": 0.1, "episodes/accuracy": 0.25}
        for i in range(2)
    ]
    text = "".join(json.dumps(step) + "\n" for step in steps)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return folder
