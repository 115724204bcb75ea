"""Answers of a baseline: kept as they come, and summed up."""

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
    """What came of one question.

    Attributes:
        qid: The question's id.
        status: `answered`, `misparsed` (the reply names no option) or `failed` (there is none).
        choice: Index of the option named.
        text: The whole reply.
        error: What failed.
        details: Tokens, frames sent, and the like.
    """

    qid: Qid
    status: str
    choice: int | None = None
    text: str = ""
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class AnswerStore:
    """Keeps answers on disk as they come, beside the file that is written at the end.

    Args:
        file: The file that is written at the end.
        config: What makes answers comparable; answers are only resumed with an equal one.
        overwrite: Throw away what is there instead of resuming.

    Raises:
        SpecError: What is there was asked otherwise, or about other material.
        FolderInUseError: Another process writes it.
        TrajectoryError: What is there cannot be read.
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
        """Keep an answer. It is on its way to disk when this returns."""
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
            if answer.status != FAILED:  # failed ones are asked again
                self.answers[str(answer.qid)] = answer
        kept = [_line({"config": self._config}), *(_line(asdict(a)) for a in self.answers.values())]
        write_text(self._path, "".join(kept))

    def _check(self, earlier: Mapping[str, Any]) -> None:
        # An earlier release kept no hashes: then they cannot be compared.
        now = Identity(self._config.get(IDENTITY, {}))
        if different := now.difference(earlier.get(IDENTITY, {})):
            raise InputError(
                f"{self._path} holds answers to other material. What has changed since: "
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
    """The file of a baseline: `total`, `metadata` with the numbers, and `results`.

    Accuracy is a share of the replies to questions that have a gold answer: a misparsed one is
    wrong there, a failed request is not in it. `accuracy_parsed` leaves misparsed ones out.
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
