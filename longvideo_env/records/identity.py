"""The identity of a run: hashes of everything it depends on. Used by resume, compare and rescore.

    identity = Identity({"questions": ..., "texts": ..., "checkpoint": ...})
    identity.difference(earlier)       # ["the answer key"], or [] if equal

Hashes are of content, not of names or times. A moved dataset keeps its identity.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from longvideo_env.records.files import cache_root, write_text
from longvideo_env.schema import Task, Video

PARTS = {
    "questions": "the questions",
    "answers": "the answer key",
    "texts": "the subtitles, captions or clips",
    "frames": "the frames' files (names and sizes)",
    "checkpoint": "the model's files (weights, config, tokenizer)",
    "endpoint": "the default endpoint (OPENAI_BASE_URL)",
    "code": "own code (a policy, tool or reward term)",
    "words": "what the environment says to the policy",
    "draw": "how --limit draws its questions (--shuffle)",
    "version": "the version of longvideo-env",
}
"""The parts of an identity -> their names in messages."""

_SHORT = 6
_PIECE = 1 << 24
_CACHED_FROM = 1_000_000
_SETTLED_S = 2.0
"""Hashes of files changed within this many seconds are not cached: the time stamp is too coarse."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".model", ".tiktoken", ".jinja", ".py")
_TRAINING = ("training_args", "optimizer", "scheduler", "rng_state", "trainer_state", "scaler")
_TEXTS = ("merges.txt", "vocab.txt")


class QuestionSource(Protocol):
    """The part of a dataset that is used here."""

    @property
    def tasks(self) -> Sequence[Task]:
        """The questions."""
        ...

    @property
    def videos(self) -> Mapping[str, Video]:
        """The videos."""
        ...


@dataclass(frozen=True)
class Identity:
    """The hashes of a run.

    Attributes:
        parts: Hashes by the names of `PARTS`. A part that could not be hashed is left out.
    """

    parts: Mapping[str, str]

    def difference(self, earlier: Mapping[str, Any]) -> list[str]:
        """The parts that differ, by their names in messages. Parts unknown to one side are skipped.

        Args:
            earlier: The parts of the other identity.
        """
        return [
            words
            for name, words in PARTS.items()
            if name in self.parts and name in earlier and self.parts[name] != earlier[name]
        ]


def short_hash(text: str) -> str:
    """A short digest of a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def question_digests(tasks: Iterable[Task]) -> dict[str, list[str]]:
    """`str(qid)` -> digests of the question as shown, and of its gold."""
    return {str(task.qid): [_short(_shown(task)), _short(_gold(task))] for task in tasks}


def digest_questions(questions: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The parts `questions` and `answers` of an identity, from `question_digests`."""
    rows = sorted(questions.items())
    return {
        "questions": short_hash(repr([(qid, shown) for qid, (shown, _) in rows])),
        "answers": short_hash(repr([(qid, gold) for qid, (_, gold) in rows])),
    }


def changed_questions(
    earlier: Mapping[str, Sequence[str]],
    now: Mapping[str, Sequence[str]],
    qids: Iterable[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Questions that differ in text or options, and questions that differ only in gold.

    Args:
        earlier: Result of `question_digests`.
        now: Result of `question_digests` for the other side.
        qids: Only these questions; by default all. A question that one side lacks counts as
            changed.
    """
    asked = sorted({*earlier, *now} if qids is None else set(qids))
    missing = ("", "")
    pairs = [(qid, earlier.get(qid, missing), now.get(qid, missing)) for qid in asked]
    shown = [qid for qid, one, other in pairs if one[0] != other[0]]
    gold = [qid for qid, one, other in pairs if one[0] == other[0] and one[1] != other[1]]
    return shown, gold


def name_some(qids: Sequence[str], most: int = 5) -> str:
    """A few ids, and the number of the others."""
    more = f" and {len(qids) - most:,} more" if len(qids) > most else ""
    return ", ".join(qids[:most]) + more


def digest_texts(dataset: QuestionSource) -> str:
    """A digest of all videos: their clips, subtitles and captions."""
    # A large dataset can digest its texts without building its videos.
    own = getattr(dataset.videos, "digest", None)
    if own is not None:
        return str(own())
    videos = sorted(dataset.videos)
    return short_hash("\x1f".join(f"{v}\x1f{video_digest(dataset.videos[v])}" for v in videos))


@lru_cache(maxsize=4096)
def video_digest(video: Video) -> str:
    """A digest of a video's clips and texts."""
    parts: list[str] = []
    for clip in video.clips:
        parts.append(clip.clip_id)
        for line in (*clip.subtitles, *clip.captions, *(x for y in clip.layers for x in y.lines)):
            parts += [line.text, repr(line.start_s), repr(line.end_s)]
    return short_hash("\x1f".join(parts))


def digest_folder(path: str | Path) -> str:
    """A digest of a checkpoint: the bytes of its weights, configuration and tokenizer.

    Other training files (optimizer, logs, older checkpoints) do not count. The hash of a large file
    is kept in the user's cache until its size, time or inode changes.

    Raises:
        OSError: The folder or a file in it cannot be read.
    """
    files = sorted(file for file in Path(path).iterdir() if _is_of_checkpoint(file))
    return short_hash("\n".join(f"{file.name} {digest_file(file)}" for file in files))


def digest_file(path: Path) -> str:
    """A digest of a file's bytes.

    Raises:
        OSError: It cannot be read.
    """
    path = path.resolve()
    stat = path.stat()
    state = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    if stat.st_size < _CACHED_FROM or time.time() - stat.st_mtime < _SETTLED_S:
        return _hash_bytes(path)
    kept = cache_root() / "digests" / short_hash(str(path))
    try:
        earlier, _, found = kept.read_text(encoding="utf-8").rpartition(" ")
        if earlier == state:
            return found
    except OSError:
        pass
    found = _hash_bytes(path)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, f"{state} {found}")
    except OSError:
        pass  # without the cache it only takes longer
    return found


def digest_code(part: object) -> str:
    """A digest of the source file of a function, class, module or object."""
    known = inspect.isroutine(part) or inspect.isclass(part) or inspect.ismodule(part)
    cls: Any = part if known else type(part)
    try:
        file = inspect.getsourcefile(cls)
        if file is not None and Path(file).is_file():
            return _hash_bytes(Path(file))
        return short_hash(inspect.getsource(cls))
    except (OSError, TypeError):
        code = getattr(cls, "__code__", None)  # defined interactively: there is no source file
        return short_hash(repr((getattr(cls, "__qualname__", ""), code and code.co_code)))


def _short(value: object) -> str:
    text = repr(value).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=_SHORT).hexdigest()


def _shown(task: Task) -> object:
    question = task.question
    shown = [question.text, question.options, question.video_id]
    return [*shown, question.ask] if question.ask else shown


def _gold(task: Task) -> object:
    gold = task.gold
    boxes = None if gold.boxes is None else {k: [dict(b) for b in v] for k, v in gold.boxes.items()}
    known = [gold.answer, gold.clip_id, gold.span, gold.clues, boxes]
    return [*known, gold.text, gold.when] if task.question.ask else known


def _is_of_checkpoint(file: Path) -> bool:
    if file.name.startswith((".", *_TRAINING)) or not file.is_file():
        return False
    return file.suffix in (*_WEIGHTS, ".json") or file.name in _TEXTS


def _hash_bytes(path: Path) -> str:
    found = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()
