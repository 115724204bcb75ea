"""Hashes of a run's material. Resuming, comparing and rescoring check them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents.policies.build import POLICY_KINDS, policy_name
from agents.policies.starter import resolve_model
from longvideo_env import Dataset, EnvConfig
from longvideo_env.config import NO_JUDGE
from longvideo_env.datasets.tvqa.index import LazyTasks
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.media.frames import list_frames
from longvideo_env.records.identity import (
    Identity,
    digest_code,
    digest_folder,
    digest_questions,
    digest_texts,
    question_digests,
    short_hash,
)
from longvideo_env.specs import entry_point_names, is_attribute, load_attribute, parse_spec

LOCAL = ("hf", "vllm")
_OURS = ("agents", "longvideo_env")


def identify(policy: Any, config: EnvConfig, dataset: Dataset) -> Identity:
    """The identity of a policy's run.

    Args:
        policy: The policy: a spec or a function.
        config: The environment.
        dataset: Its questions and videos.
    """
    game = Game.from_config(config)
    parts = {
        **digest_questions(questions_of(dataset)),
        "texts": _texts(dataset),
        "words": game.words.digest,
        "version": version("longvideo-env"),
    }
    if config.frames and (frames := _frames(dataset)):
        parts["frames"] = frames
    if isinstance(policy, str) and (checkpoint := digest_checkpoint(policy)):
        parts["checkpoint"] = checkpoint
    if unnamed := default_endpoint(
        policy_name(policy), config.grounding, config.vision, config.judge
    ):
        parts["endpoint"] = short_hash(unnamed)
    own: dict[str, Any] = {tool.spec: tool.function for tool in game.tools}
    own |= {term: game.reward.functions[term] for term in game.reward.own}
    own |= {
        policy_name(part): _code_of(kind, part)
        for kind, part in (
            ("policies", policy),
            ("grounding", config.grounding),
            ("vision", config.vision),
            *([("judges", config.judge)] if config.judge != NO_JUDGE else []),
        )
    }
    if code := digest_own_code(own):
        parts["code"] = code
    return Identity(parts)


@lru_cache(maxsize=4)
def questions_of(dataset: Dataset) -> Mapping[str, Sequence[str]]:
    """The digests of each question."""
    tasks = dataset.tasks
    if isinstance(tasks, LazyTasks):  # a split of 15,000 questions takes half a second
        found: dict[str, list[str]] = tasks.kept("digests-1.json", question_digests)
        return found
    return question_digests(tasks)


@lru_cache(maxsize=4)
def _texts(dataset: Dataset) -> str:
    if isinstance(dataset.tasks, LazyTasks):
        return str(dataset.tasks.kept("texts-1.json", lambda _: digest_texts(dataset)))
    return digest_texts(dataset)


def _frames(dataset: Dataset) -> str | None:
    """A digest of the names and sizes of all frames of the questions' videos. None without any."""
    videos = {task.question.video_id: dataset.video(task.question) for task in dataset.tasks}
    names = [
        f"{clip_id}/{frame.path.name} {frame.path.stat().st_size}"
        for _, video in sorted(videos.items())
        for clip_id in video.clip_ids
        for frame in list_frames(video, clip_id)
    ]
    return short_hash("\n".join(names)) if names else None


def digest_checkpoint(spec: str) -> str | None:
    """A digest of a local model's files. None for other policies, or if there are no files yet.

    `BASE+ADAPTER` has the files of both. A model on the hub has the files in the hub's cache.
    """
    kind, _, path = spec.partition(":")
    if kind not in LOCAL:
        return None
    whole = Path(path).is_dir()
    folders = [_folder_of(part) for part in ([path] if whole else path.split("+"))]
    if None in folders:
        return None
    try:
        return short_hash(" ".join(digest_folder(folder) for folder in folders if folder))
    except OSError:
        return None  # building the policy reports the error


def default_endpoint(*specs: str) -> str | None:
    """The address that `openai:MODEL` without an endpoint uses. None if no spec uses it."""
    if not any(spec.startswith("openai:") and "@" not in spec for spec in specs):
        return None
    from agents.api.endpoints import load_endpoint  # its client is an extra

    try:
        return load_endpoint().base_url
    except SpecError:
        return None  # building the agent reports the error


def _folder_of(model: str) -> Path | None:
    folder = Path(resolve_model(model))
    if folder.is_dir():
        return folder
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, local_files_only=True))
    except (ImportError, OSError, ValueError):
        return None


def digest_own_code(parts: Mapping[str, Any]) -> str | None:
    """A digest of the code of parts from outside this project. None if there are none."""
    found = {
        name: digest_code(part)
        for name, part in parts.items()
        if part is not None and _root(part) not in _OURS
    }
    return short_hash(repr(sorted(found.items()))) if found else None


def _root(part: Any) -> str:
    module = getattr(part, "__module__", None) or type(part).__module__
    return str(module).partition(".")[0]


def _code_of(kind: str, part: Any) -> Any:
    """The object that a spec names, if it is from outside this project."""
    if not isinstance(part, str):
        return part
    point = entry_point_names(kind).get(parse_spec(part).name)
    if point is not None:
        return None if point.module.partition(".")[0] in _OURS else point.load()
    known = parse_spec(part).name in POLICY_KINDS or not is_attribute(part)
    return None if known else load_attribute(part)
