"""Play fixed replies through `gym.make`, and record all texts and scores.

    python tests/golden/play.py    # writes the digests again: only if the game is meant to change

The replies are drawn from a seed of the question, so they do not depend on any policy.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import longvideo_env  # noqa: F401 - registers LongTVQA-v0

FOLDER = Path(__file__).parent
VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "default": (200, {}),
    "window-paper": (20, {"window": 3, "tags": "paper", "reward": "reference"}),
    "no-grounding": (20, {"grounding": "none", "max_turns": 3}),
    "no-vision": (20, {"vision": "none", "instructions": False}),
    "oracle": (20, {"grounding": "oracle", "reward": "paper,grounding=0.3,tool_calls=-0.05"}),
}
KEPT = (
    "qid", "video_id", "turn", "turns_left", "visited", "window", "opened_by", "messages", "action",
    "malformed", "status", "reward_valid", "reward_terms", "is_success", "grounded", "error",
)  # fmt: skip


def replies(rng: np.random.Generator, question: str, look: str) -> list[str]:
    """Five replies, valid ones and several kinds of invalid ones. The last is an answer."""
    words = question.replace("<", " ")
    good = [
        f"<reasoning>Where is it?</reasoning><{look}>{words}</{look}>",
        "<request_grounding/>",
        f"<think>no <answer>a0</answer></think><request_grounding>{words}</request_grounding>",
    ]
    bad = [
        "I do not know.", f"<{look}></{look}>", "<answer>a9</answer>",
        f"<{look}>x</{look}><answer>a1</answer>", "<answer>a1", "</answer>",
    ]  # fmt: skip
    plan = [
        good[int(rng.integers(len(good)))]
        if rng.random() < 0.75
        else bad[int(rng.integers(len(bad)))]
        for _ in range(4)
    ]
    return [*plan, f"<reasoning>So.</reasoning>\n<answer>a{int(rng.integers(5))}</answer>"]


def play(env: gym.Env[str, str], qid: int | str, question: str) -> list[Any]:
    """One episode: all output of the environment, as plain values."""
    rng = np.random.default_rng(
        int(hashlib.blake2b(str(qid).encode(), digest_size=6).hexdigest(), 16)
    )
    look = "visual_query" if env.unwrapped.config.tags == "paper" else "search"  # type: ignore[attr-defined]
    text, info = env.reset(seed=0, options={"qid": qid})
    said: list[Any] = [text, {key: info[key] for key in KEPT if key in info}]
    for reply in replies(rng, question, look):
        text, reward, terminated, truncated, info = env.step(reply)
        kept = {key: info[key] for key in KEPT if key in info}
        said += [text, round(reward, 9), terminated, truncated, kept]
        if terminated or truncated:
            break
    return said


def record(dataset: str, split: str, variant: str) -> dict[str, str]:
    """Question id -> digest of its episode."""
    n, options = VARIANTS[variant]
    env = gym.make("LongTVQA-v0", dataset=dataset, split=split, disable_env_checker=True, **options)
    tasks = env.unwrapped.dataset.tasks  # type: ignore[attr-defined]
    step = len(tasks) // n
    return {
        str(task.qid): digest(play(env, task.qid, task.question.text))
        for task in (tasks[i * step] for i in range(n))
    }


def digest(said: list[Any]) -> str:
    """A digest of an episode, 16 hex digits."""
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=8).hexdigest()


def main(shared: Path) -> None:
    real = {v: record(str(shared / "tvqa_plus_dev"), "val", v) for v in VARIANTS}
    (FOLDER / "tvqa.json").write_text(json.dumps(real, indent=0) + "\n")
    env = gym.make("LongTVQA-v0", dataset="mini", split="test", disable_env_checker=True)
    tasks = env.unwrapped.dataset.tasks[:8]  # type: ignore[attr-defined]
    episodes = [play(env, task.qid, task.question.text) for task in tasks]
    (FOLDER / "mini.json").write_text(json.dumps(episodes, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER.parents[2] / "shared" / "data")
