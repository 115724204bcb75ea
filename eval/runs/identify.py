"""What a run of a policy was made of, as hashes: what resuming, comparing and rescoring check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Any

from agents.policies.starter import resolve_model
from longvideo_env import Dataset, EnvConfig
from longvideo_env.datasets.tvqa.index import LazyTasks
from longvideo_env.game.words import prompts
from longvideo_env.records.identity import (
    Identity,
    digest_code,
    digest_folder,
    digest_questions,
    digest_texts,
    question_digests,
    short_hash,
)
from longvideo_env.specs import is_attribute, load_attribute

LOCAL = ("hf", "vllm")
_OURS = ("agents", "longvideo_env")
_BUILT_IN = ("random", "scripted", "teacher", "openai", "paper", "reference", *LOCAL)


def identify(spec: str, config: EnvConfig, dataset: Dataset, words: str | None = None) -> Identity:
    """The identity of a policy's run.

    Args:
        spec: The policy.
        config: The environment.
        dataset: Its questions and videos.
        words: A hash of the sentences that the environment says; by default of the shipped ones.
    """
    parts = {
        **digest_questions(questions_of(dataset)),
        "texts": _texts(dataset),
        "words": digest_code(prompts) if words is None else words,
        "version": version("longvideo-env"),
    }
    if checkpoint := digest_checkpoint(spec):
        parts["checkpoint"] = checkpoint
    if code := digest_own_code((spec, config.grounding, config.vision, *config.reward.split(","))):
        parts["code"] = code
    return Identity(parts)


@lru_cache(maxsize=4)
def questions_of(dataset: Dataset) -> Mapping[str, Sequence[str]]:
    """Each question's digests."""
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


def digest_checkpoint(spec: str) -> str | None:
    """A digest of the files of a model that runs here; None for others, or if none are there yet.

    `BASE+ADAPTER` counts both. A model of the hub counts as it lies in the hub's cache.
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
        return None  # building the policy says what is wrong


def _folder_of(model: str) -> Path | None:
    folder = Path(resolve_model(model))
    if folder.is_dir():
        return folder
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, local_files_only=True))
    except (ImportError, OSError, ValueError):
        return None


def digest_own_code(specs: Iterable[str]) -> str | None:
    """A digest of the code that specs name and that this project does not ship; None if none."""
    found = {}
    for spec in specs:
        part = _own_part(spec)
        if part is not None:
            found[spec] = digest_code(part)
    return short_hash(repr(sorted(found.items()))) if found else None


def _own_part(spec: str) -> Any:
    name = spec.partition("=")[0]
    kind = name.partition(":")[0]
    if kind in _BUILT_IN:
        return None
    for group in ("policies", "grounding", "vision", "tools", "rewards"):
        for point in _points(group):
            if point.name == kind:
                ours = point.module.partition(".")[0] in _OURS
                return None if ours else point.load()
    return load_attribute(name) if is_attribute(name) else None


@lru_cache(maxsize=8)
def _points(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"longvideo_env.{group}"))
