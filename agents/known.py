"""Checks, before any cost, whether agents have input: frames, captions or subtitles.

    for gap in find_gaps(videos, config):
        print(gap)    # 3 of 40 videos have no frames, which --vision openai:gpt-4o looks at

Agents of other packages are not checked, because their needs are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.vision.captions import described
from longvideo_env import EnvConfig
from longvideo_env.datasets.layers import CAPTIONS, TEXT
from longvideo_env.errors import BlindAgentError
from longvideo_env.game.game import Game
from longvideo_env.media.frames import list_frames
from longvideo_env.schema import Video


@dataclass(frozen=True)
class Need:
    """The input that an agent needs.

    Attributes:
        what: Its name in messages.
        verb: What the agent does with it.
        fix: How to get it or do without it.
        there: Checks whether a video has it.
    """

    what: str
    verb: str
    fix: str
    there: Callable[[Video], bool]


@dataclass(frozen=True)
class Gap:
    """An agent without input in some or all videos.

    Attributes:
        role: `vision` or `grounding`; `frames` for the master itself.
        spec: The agent's spec.
        need: What is missing.
        without: Number of videos without it.
        of: Number of videos checked.
    """

    role: str
    spec: str
    need: Need
    without: int
    of: int

    @property
    def whole(self) -> bool:
        """Whether no video has the needed input."""
        return self.without == self.of

    def record(self) -> dict[str, Any]:
        """Plain values, as `summary.json` keeps them."""
        counts = {"without": self.without, "of": self.of}
        return {"role": self.role, "agent": self.spec, **counts, "text": str(self)}

    def __str__(self) -> str:
        many = f"{self.without:,} of {self.of:,} videos have"
        if self.whole:
            many = f"none of the {self.of:,} videos has" if self.of > 1 else "the video has"
        no = "" if self.whole and self.of > 1 else "no "
        return f"{many} {no}{self.need.what}, which --{self.role} {self.spec} {self.need.verb}"


def has_frames(video: Video) -> bool:
    """Whether any clip has frames on disk."""
    return any(list_frames(video, clip_id) for clip_id in video.clip_ids)


def _has(kind: str) -> Callable[[Video], bool]:
    return lambda video: any(described(clip, kind) for clip in video.clips)


def _can_be_searched(captions: bool, layers: bool = True) -> Callable[[Video], bool]:
    # With one clip no search is needed.
    return lambda video: (
        len(video.clips) == 1
        or any(
            clip.subtitles or (layers and clip.searched) or (captions and clip.captions)
            for clip in video.clips
        )
    )


_FRAMES = Need("frames", "looks at", "give --frames-root, or another --vision (none takes its "
               "action away)", has_frames)  # fmt: skip
_OWN_FRAMES = Need("frames", "shows", "give --frames-root, or --frames 0", has_frames)
_CAPTIONS, _TEXT = (
    Need(
        kind,
        "reads",
        f"make them with longvideo-env describe DATASET --with {maker}, or give another --vision "
        "(none takes its action away)",
        _has(kind),
    )
    for kind, maker in ((CAPTIONS, "vlm:FOLDER"), (TEXT, "rapidocr"))
)


def _lines(what: str, captions: bool = False, layers: bool = True) -> Need:
    fix = "make lines with longvideo-env describe DATASET, or give --grounding random or none"
    return Need(what, "searches", fix, _can_be_searched(captions, layers))


_KNOWN = "subtitles, speech, text or captions"
NEEDS: Mapping[str, Mapping[str, Need]] = {
    "vision": {"captions": _CAPTIONS, "text": _TEXT, "openai": _FRAMES, "vlm": _FRAMES},
    "grounding": {
        "lines": _lines(_KNOWN, captions=True),
        "openai": _lines("subtitles", layers=False),
        **dict.fromkeys(("bm25", "embed", "fused"), _lines(_KNOWN)),
    },
}
"""Role -> name of the agent -> the input that it needs."""


def find_gaps(videos: Iterable[Video], config: EnvConfig) -> list[Gap]:
    """The agents of a configuration without input in some or all videos."""
    used = {tool.role for tool in Game.from_config(config).tools}
    asked = {
        role: need
        for role, needs in NEEDS.items()
        if role in used and (need := needs.get(getattr(config, role).partition(":")[0]))
    }
    if config.frames:
        asked["frames"] = _OWN_FRAMES
    if config.unsafe_boxes:  # shows boxes, whatever the vision agent sees
        asked.pop("vision", None)
    if config.recording == "replay":  # no agent is asked
        asked = {role: need for role, need in asked.items() if role == "frames"}
    without, of = dict.fromkeys(asked, 0), 0
    for video in videos if asked else ():
        of += 1
        for role, need in asked.items():
            without[role] += not need.there(video)
    return [
        Gap(role, str(getattr(config, role)), need, without[role], of)
        for role, need in asked.items()
        if without[role]
    ]


def refuse_blind(gaps: Iterable[Gap]) -> None:
    """Raise if an agent has no input in any video.

    Raises:
        BlindAgentError: An agent has no input in any video.
    """
    if whole := [gap for gap in gaps if gap.whole]:
        said = " ".join(f"{gap}. Fix: {gap.need.fix}." for gap in whole)
        raise BlindAgentError(f"{said} To continue anyway: --allow-blind (allow_blind=True).")
