"""How much of a dataset was read. Printed with every result.

for line in load_dataset("videomme:DIR", "test").coverage.lines():
    print(line)         # subtitles: 744 of 900 videos; 154 have none, 2 could not be read: ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

_SHOWN = 3
LARGE_LOSS = 0.05
"""From this share of left-out rows on, the number is printed beside the accuracy."""


@dataclass(frozen=True)
class Coverage:
    """What was read and what was not.

    Attributes:
        n_questions: Questions that were read.
        left_out: Reason for leaving rows out -> number of rows.
        n_videos: Videos of the dataset.
        n_with_subtitles: Videos that have dialogue.
        unread: Side file -> reason why it could not be read.
        partly: Side file -> the lines that could not be read.
        notes: Other remark -> number of questions.
    """

    n_questions: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    n_videos: int = 0
    n_with_subtitles: int = 0
    unread: Mapping[str, str] = field(default_factory=dict)
    partly: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """Rows that were left out."""
        return sum(self.left_out.values())

    @property
    def large_loss(self) -> str:
        """Note to print beside an accuracy if more than 5 % was left out; otherwise empty."""
        total = self.n_questions + self.n_left_out
        if not self.n_left_out or self.n_left_out <= LARGE_LOSS * total:
            return ""
        return f"{self.n_left_out:,} of {total:,} questions left out"

    def lines(self) -> list[str]:
        """One or two lines. Empty if everything was read and every video has subtitles."""
        found = []
        if self.left_out or self.notes:
            total = self.n_questions + self.n_left_out
            parts = [f"{self.n_questions:,} of {total:,} read"]
            if self.left_out:
                parts.append(f"left out: {_shown(self.left_out)}")
            parts += [f"{n:,} {what}" for what, n in self.notes.items()]
            found.append(f"questions: {'; '.join(parts)}")
        if self.n_with_subtitles < self.n_videos or self.unread or self.partly:
            none = self.n_videos - self.n_with_subtitles - len(self.unread)
            text = f"subtitles: {self.n_with_subtitles or 'none'} of {self.n_videos:,} videos"
            parts = [f"{none:,} have none"] if none > 0 and self.n_with_subtitles else []
            if self.unread:
                parts.append(f"{len(self.unread):,} could not be read: {_named(self.unread)}")
            if self.partly:
                parts.append(f"{len(self.partly):,} read in part: {_named(self.partly)}")
            found.append(f"{text}; {', '.join(parts)}" if parts else text)
        return found

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Coverage:
        """Rebuild from `as_json`. Fields that this release does not know are dropped."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `summary.json` keeps them."""
        return {f.name: value if isinstance(value := getattr(self, f.name), int) else dict(value)
                for f in fields(self)}  # fmt: skip


def _shown(counts: Mapping[str, int]) -> str:
    largest = sorted(counts.items(), key=lambda item: -item[1])
    parts = [f"{n:,} ({why})" for why, n in largest[:_SHOWN]]
    rest = sum(n for _, n in largest[_SHOWN:])
    return ", ".join([*parts, f"{rest:,} for other reasons"] if rest else parts)


def _named(unread: Mapping[str, str]) -> str:
    parts = [f"{name} ({why.rstrip('.'):.80})" for name, why in list(unread.items())[:_SHOWN]]
    more = len(unread) - _SHOWN
    return ", ".join([*parts, f"and {more:,} more"] if more > 0 else parts)
