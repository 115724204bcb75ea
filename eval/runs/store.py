"""A run's folder: `config.json`, `episodes.jsonl` as episodes finish, `summary.json`.

A run can be interrupted at any time and resumed. Finished episodes are kept. Failed episodes, and
those whose judge could not be reached, are played again. An incomplete last line is dropped.

A run resumes only with the same material. `config.json` has the hashes of the material, and
`questions.json` has those of each question. `facts.json` has the groups of each question of a
benchmark. Only one process can write to the folder at a time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from eval.runs.episode_file import EpisodeFile, EpisodeKey
from longvideo_env.errors import InputError, TrajectoryError
from longvideo_env.records.files import (
    hold_folder,
    storage_error,
    write_json,
    write_text,
)
from longvideo_env.records.identity import Identity, changed_questions, name_some
from longvideo_env.records.trajectory import Trajectory

EPISODES = "episodes.jsonl"
SUMMARY = "summary.json"
CONFIG = "config.json"
QUESTIONS = "questions.json"
FACTS = "facts.json"
IDENTITY = "identity"

QuestionDigests = Mapping[str, Sequence[str]]


class RunStore:
    """Stores one run on disk.

    Args:
        folder: The folder. It is created if it does not exist.
        config: The settings. Resuming needs equal ones.
        identity: Hashes of the run's material. Resuming needs equal ones.
        questions: Digests of each question by `str(qid)`, to name changed questions.
        overwrite: Delete an existing run instead of resuming.
        timings: Whether episodes have timings. Without them a replay gives the same bytes.
        asked: `(str(qid), sample)` of the requested episodes. A run with other episodes is refused,
            because its figures would leave them out. None allows all episodes.

    Attributes:
        notes: Notes for the user about the resumed run.
        episodes: The finished episodes by `(str(qid), sample)`, read from disk on access.

    Raises:
        FolderInUseError: Another process writes to the folder.
        StorageError: The folder cannot be written.
        InputError: The folder holds a run with other settings or other material.
        TrajectoryError: Its episodes cannot be read back.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        identity: Identity | None = None,
        questions: QuestionDigests | None = None,
        overwrite: bool = False,
        timings: bool = True,
        asked: Iterable[EpisodeKey] | None = None,
    ) -> None:
        self.folder = folder
        self.notes: list[str] = []
        with ExitStack() as stack:
            stack.enter_context(hold_folder(folder))
            if overwrite:
                for name in (EPISODES, SUMMARY, CONFIG, QUESTIONS, FACTS):
                    (folder / name).unlink(missing_ok=True)
            self._check(config, identity, questions)
            try:
                self.episodes = EpisodeFile(folder / EPISODES, timings=timings, drops=_is_lost)
            except TrajectoryError as error:
                raise TrajectoryError(f"{error} {_ELSEWHERE}") from error
            except OSError as error:
                raise storage_error(folder / EPISODES, error) from error
            stack.callback(self.episodes.close)
            if asked is not None:
                self._refuse_others(frozenset(asked))
            if self.episodes.untidy:
                self.episodes.rewrite(())
            self._open = stack.pop_all()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._open.close()

    @property
    def earlier_summary(self) -> dict[str, Any]:
        """The summary of this run's last session."""
        return _read(self.folder / SUMMARY)  # empty in a first session, or after a kill

    def add(self, trajectory: Trajectory) -> None:
        """Save a finished episode and flush the file.

        Raises:
            StorageError: It cannot be written.
        """
        self.episodes.add(trajectory)

    def finish(
        self,
        summary: Mapping[str, Any],
        order: Iterable[EpisodeKey],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the summary, and put the episodes in order of the dataset.

        Args:
            summary: Plain values.
            order: `(str(qid), sample)` of all requested episodes.
            facts: A benchmark's facts about each question, which define its groups.
        """
        self.episodes.rewrite(order)
        if facts:
            write_text(self.folder / FACTS, json.dumps(facts) + "\n")
        write_json(self.folder / SUMMARY, summary)

    def _check(
        self,
        config: Mapping[str, Any],
        identity: Identity | None,
        questions: QuestionDigests | None,
    ) -> None:
        path = self.folder / CONFIG
        if not path.exists():
            if questions is not None:
                write_text(self.folder / QUESTIONS, json.dumps(questions) + "\n")
            parts = {} if identity is None else {IDENTITY: dict(identity.parts)}
            write_json(path, {**config, **parts})
            return
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} cannot be read ({error}). {_ELSEWHERE}") from error
        now = json.loads(json.dumps(config))
        for key in sorted({*earlier, *now} - {IDENTITY}):
            if earlier.get(key) != now.get(key):
                raise InputError(
                    f"{self.folder} holds a run with {key}={earlier.get(key)!r}, not "
                    f"{now.get(key)!r}. {_ELSEWHERE}"
                )
        if identity is None:
            return
        if IDENTITY not in earlier:
            self.notes.append(
                f"{self.folder} was made by an earlier release, which wrote no hashes. So its "
                "dataset and model cannot be checked for changes."
            )
            return
        self._check_identity(earlier[IDENTITY], identity, questions or {})

    def _check_identity(
        self, earlier: Mapping[str, Any], now: Identity, questions: QuestionDigests
    ) -> None:
        different = now.difference(earlier)
        if not different:
            return
        shown, gold = changed_questions(read_questions(self.folder) or questions, questions)
        named = {"the questions": shown, "the answer key": gold}
        what = ", ".join(
            f"{part} ({name_some(named[part])})" if named.get(part) else part for part in different
        )
        again = ""
        if different == ["the answer key"]:
            again = f"longvideo-env rescore {self.folder} scores its episodes by the new key; or "
        raise InputError(
            f"{self.folder} holds a run with other material. Changed since then: {what}. "
            f"Fix: {again}{_ELSEWHERE.removeprefix('Fix: ')}"
        )

    def _refuse_others(self, asked: Collection[EpisodeKey]) -> None:
        others = [key for key in self.episodes if key not in asked]
        if others:
            named = name_some([qid if not sample else f"{qid} (sample {sample})"
                               for qid, sample in others])  # fmt: skip
            raise InputError(
                f"{self.folder} holds {len(others):,} episodes that this command does not request: "
                f"{named}. Its figures would leave them out. Fix: request them too (--questions, "
                "--limit, --samples), give another --out, or --overwrite."
            )


_ELSEWHERE = "Fix: give another --out, or --overwrite."


def read_questions(folder: Path) -> dict[str, list[str]]:
    """The digests of each question of a run. Empty for a run of an earlier release."""
    return _read(folder / QUESTIONS)


def read_facts(folder: Path) -> dict[str, list[list[str]]]:
    """A benchmark's facts about each question of a run. Empty without facts."""
    return _read(folder / FACTS)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return any((folder / name).exists() for name in (EPISODES, CONFIG))


def refuse_to_overwrite(folder: Path) -> None:
    """Refuse a folder that holds a run.

    Raises:
        InputError: The folder holds a run.
    """
    if holds_run(folder):
        raise InputError(f"{folder} already holds a run. {_ELSEWHERE}")


def _is_lost(trajectory: Trajectory) -> bool:
    """Whether an episode must be played again: it failed, or its judge could not be reached."""
    judged = trajectory.judged
    unasked = judged is not None and judged.right is None and not judged.votes
    return trajectory.status == "failed" or (unasked and trajectory.correct is None)
