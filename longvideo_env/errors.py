"""All errors that the library raises on purpose.

LongVideoEnvError
├── DataError                  a dataset is missing or invalid
│   ├── DatasetNotFoundError   no such dataset, split or file
│   │   └── SeveralSplitsError the dataset has several splits, and none was named
│   ├── MalformedFileError     truncated, not UTF-8, not JSON, not the expected shape
│   └── InvalidRowError        one question (or clip) is wrong; `skip_invalid` leaves it out
│       ├── DuplicateQidError
│       ├── MissingOptionError
│       ├── AnswerOutOfRangeError
│       └── ForeignClipError   the clip belongs to another video
├── SpecError                  an option or a spec string is invalid
│   ├── InputError             an option names a run, model or file that is missing or does not fit
│   └── BlindAgentError        an agent has no input: no frames, captions or subtitles
├── EpisodeStateError          a method was called at the wrong time in an episode
├── ActionError                a reply is not text
├── ToolError                  a grounding or vision agent could not do its work
├── PolicyError                the master agent could not produce a reply
├── EndpointError              a model's endpoint gave no usable reply
│   ├── EndpointDownError      it failed for so long that no requests are sent for now
│   └── ContextTooLongError    the request is longer than the model's context
├── RecordingError             a recording cannot be used
│   └── RecordingMissError     a call to replay is not in the recording
├── StorageError               a file cannot be written: disk full, no permission
├── FolderInUseError           another process writes the folder of this run
├── TrajectoryError            a saved trajectory cannot be read back
└── MissingExtraError          an optional dependency is not installed
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class LongVideoEnvError(Exception):
    """Base of all errors of this library."""


class DataError(LongVideoEnvError):
    """A dataset is missing or invalid. The message names file and row, and says how to fix it.

    Args:
        problem: What was expected and what came.
        file: The file with the error, if any.
        row: The row in the file: a position from 1, or a key.
        mend: How to fix it. Printed after "Fix:".
    """

    def __init__(
        self,
        problem: str,
        file: str | Path | None = None,
        row: int | str | None = None,
        mend: str = "",
    ) -> None:
        super().__init__(problem, file, row, mend)
        self.problem = problem
        self.file = file
        self.row = row
        self.mend = mend

    def __str__(self) -> str:
        where = "" if self.file is None else f"{self.file}"
        if self.row is not None:
            where += f"{', ' if where else ''}row {self.row}"
        head = f"{where}: {self.problem}" if where else self.problem
        return f"{head} Fix: {self.mend}" if self.mend else head


class DatasetNotFoundError(DataError):
    """No dataset, split or file of that name."""


class SeveralSplitsError(DatasetNotFoundError):
    """A dataset has several splits, and none was named.

    Args:
        dataset: The dataset's spec.
        splits: Names of the splits.
    """

    def __init__(self, dataset: str, splits: Sequence[str]) -> None:
        problem = f"{dataset!r} has several splits: {', '.join(splits)}."
        super().__init__(problem, mend="pass one as split.")
        self.dataset = dataset
        self.splits = tuple(splits)

    def __reduce__(self) -> tuple[type, tuple[str, tuple[str, ...]]]:
        return type(self), (self.dataset, self.splits)


class MalformedFileError(DataError):
    """A file is truncated, not UTF-8, not JSON, or of an unexpected shape."""


class InvalidRowError(DataError):
    """One row is wrong. `skip_invalid` leaves such rows out and lists them."""


class DuplicateQidError(InvalidRowError):
    """Two questions share an id."""


class MissingOptionError(InvalidRowError):
    """An option is missing, empty or not text, or the number of options is out of range."""


class AnswerOutOfRangeError(InvalidRowError):
    """The answer names no option."""


class ForeignClipError(InvalidRowError):
    """The question's clip belongs to another video, or does not exist in its own."""


class SpecError(LongVideoEnvError, ValueError):
    """An option or a spec string has no meaning."""


class InputError(SpecError):
    """An option names a run, a model or a file that is missing or does not fit."""


class BlindAgentError(SpecError):
    """A vision or grounding agent has no input in any video that is asked about."""


class EpisodeStateError(LongVideoEnvError, RuntimeError):
    """A method was called at the wrong time in an episode, such as `step` before `reset`."""


class ActionError(LongVideoEnvError, TypeError):
    """A reply of the master agent is not text."""


class ToolError(LongVideoEnvError):
    """A grounding or vision agent could not do its work. Becomes a failed result."""


class PolicyError(LongVideoEnvError):
    """The master agent could not produce a reply. Becomes a failed episode."""


class EndpointError(LongVideoEnvError):
    """A model's endpoint gave no usable reply, after all retries."""


class EndpointDownError(EndpointError):
    """The endpoint has failed for so long that no requests are sent for a while."""


class ContextTooLongError(EndpointError):
    """The request has more tokens than the model's context holds."""


class RecordingError(LongVideoEnvError, ValueError):
    """A recording of tool calls cannot be used."""


class RecordingMissError(RecordingError):
    """In mode `replay`, a call is not in the recording."""


class StorageError(LongVideoEnvError, OSError):
    """A file cannot be written: the disk is full, or permission is denied."""


class FolderInUseError(LongVideoEnvError):
    """Another process writes into the folder."""


class TrajectoryError(LongVideoEnvError, ValueError):
    """A saved trajectory cannot be read back."""


class MissingExtraError(LongVideoEnvError, ImportError):
    """An optional dependency is not installed; the message names the pip extra."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Fix: pip install 'longvideo-env[{extra}]'")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.package, self.extra)
