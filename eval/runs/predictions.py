"""Answers of a baseline: saved as they arrive, and summarized."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from agents.api.usage import Usage, usage_of
from eval.metrics.intervals import clustered_share
from eval.runs.store import IDENTITY
from longvideo_env import Dataset
from longvideo_env.errors import InputError, SpecError, TrajectoryError
from longvideo_env.game.protocol.base import option_label
from longvideo_env.records.files import hold_folder, write_text
from longvideo_env.records.identity import Identity
from longvideo_env.schema import Qid

ANSWERED, MISPARSED, FAILED = "answered", "misparsed", "failed"


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        qid: The question's id.
        status: `answered`, `misparsed` (the reply names no option) or `failed` (there is no
            reply).
        choice: Index of the named option.
        text: The whole reply.
        error: What failed.
        details: Tokens, number of frames, and more.
    """

    qid: Qid
    status: str
    choice: int | None = None
    text: str = ""
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class AnswerStore:
    """Saves answers on disk as they arrive, beside the final file.

    Args:
        file: The final file.
        config: The settings. Resuming needs equal ones.
        overwrite: Delete saved answers instead of resuming.

    Raises:
        InputError: The saved answers have other settings or other material.
        FolderInUseError: Another process writes the file.
        TrajectoryError: The saved answers cannot be read.
    """

    def __init__(self, file: Path, config: Mapping[str, Any], *, overwrite: bool) -> None:
        self.answers: dict[str, Answer] = {}
        self._path = file.with_name(file.name + ".partial.jsonl")
        self._config = json.loads(json.dumps(config))
        with ExitStack() as stack:
            stack.enter_context(hold_folder(file.parent, f".{file.name}.lock"))
            if overwrite:
                self._path.unlink(missing_ok=True)
            self._resume()
            self._file: IO[str] = stack.enter_context(open(self._path, "a", encoding="utf-8"))
            self._open = stack.pop_all()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, answer: Answer) -> None:
        """Save an answer and flush the file."""
        self._file.write(_line(asdict(answer)))
        self._file.flush()
        self.answers[str(answer.qid)] = answer

    def _resume(self) -> None:
        lines = self._path.read_bytes().split(b"\n")[:-1] if self._path.exists() else []
        for number, line in enumerate(lines):
            try:
                record = json.loads(line)
                if number == 0:
                    self._check(record["config"])
                    continue
                answer = Answer(**record)
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, SpecError):
                    raise
                raise TrajectoryError(
                    f"{self._path}, line {number + 1} cannot be read ({error}). Fix: give "
                    "another --output-filename, or --overwrite."
                ) from error
            if answer.status != FAILED:  # failed questions are asked again
                self.answers[str(answer.qid)] = answer
        kept = [_line({"config": self._config}), *(_line(asdict(a)) for a in self.answers.values())]
        write_text(self._path, "".join(kept))

    def _check(self, earlier: Mapping[str, Any]) -> None:
        # An earlier release wrote no hashes, so they cannot be compared.
        now = Identity(self._config.get(IDENTITY, {}))
        if different := now.difference(earlier.get(IDENTITY, {})):
            raise InputError(
                f"{self._path} holds answers to other material. Changed since then: "
                f"{', '.join(different)}. Fix: give another --output-filename, or --overwrite."
            )
        for key in sorted({*earlier, *self._config} - {IDENTITY}):
            if earlier.get(key) != self._config.get(key):
                raise InputError(
                    f"{self._path} holds answers with {key}={earlier.get(key)!r}, not "
                    f"{self._config.get(key)!r}. Fix: give another --output-filename, or "
                    "--overwrite."
                )


def summarize_answers(
    dataset: Dataset, answers: Mapping[str, Answer], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The file of a baseline: `total`, `metadata` with the figures, and `results`.

    Accuracy is the share of right replies to questions with a gold answer. A misparsed reply is
    wrong. A failed request is left out. `accuracy_parsed` also leaves out misparsed replies.
    """
    results: list[dict[str, Any]] = []
    hits: list[bool] = []
    videos: list[str] = []
    parsed: list[bool] = []
    usage = Usage()
    for task in dataset.tasks:
        answer = answers.get(str(task.qid))
        if answer is None:
            continue
        right = None
        if answer.status != FAILED and task.gold.answer is not None:
            right = bool(task.gold.is_right(answer.choice))
            hits.append(right)
            videos.append(task.question.video_id)
            if answer.status == ANSWERED:
                parsed.append(right)
        usage += usage_of(answer.details)
        results.append(
            {
                "qid": task.qid,
                "vid": task.question.video_id,
                "question": task.question.text,
                "status": answer.status,
                "final_answer": "unknown" if answer.choice is None else option_label(answer.choice),
                "correct": right,
                "response": answer.text,
                "error": answer.error,
                "details": dict(answer.details),
            }
        )
    statuses = [result["status"] for result in results]
    read_by = Counter(r["details"]["read_by"] for r in results if "read_by" in r["details"])
    interval = clustered_share(hits, videos) if hits else None
    numbers = {
        "accuracy": sum(hits) / len(hits) if hits else None,
        "accuracy_ci95": None if interval is None else list(interval),
        "accuracy_parsed": sum(parsed) / len(parsed) if parsed else None,
        "n_questions": len(dataset.tasks),
        "n_answered": statuses.count(ANSWERED),
        "n_misparsed": statuses.count(MISPARSED),
        "n_failed": statuses.count(FAILED),
        "read_by": dict(read_by.most_common()),
        "n_shortlisted": sum("shortlisted" in result["details"] for result in results),
        "usage": usage.record(),
        "config": dict(config),
    }
    return {"total": len(results), "metadata": numbers, "results": results}


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
