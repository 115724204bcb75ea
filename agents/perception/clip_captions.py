"""Captions of stretches of a film: who is visible, and what happens.

    longvideo-env describe data/films --with vlm-clips:FOLDER
    longvideo-env describe data/films --with openai-clips:gpt-4o,every_s=10,frames=8

A model sees some frames of a stretch of ten seconds and is asked for JSON with `subjects` and
`events`, as in DeepVideoDiscovery (arXiv 2505.18079). They become two lines. A reply in another
form is kept as one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agents.perception.api_captions import ApiCaptioner
from agents.perception.local_vlm import FrameCaptioner
from longvideo_env.datasets.layers import Maker
from longvideo_env.errors import SpecError
from longvideo_env.specs import parse_spec

PROMPT = (
    "These frames are from one short stretch of a film, in order of time. Reply with JSON alone: "
    '{"subjects": ["each person, animal or important object, with what tells it apart"], '
    '"events": "what happens, in one or two plain sentences"}'
)
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_MOST = 20


@dataclass(frozen=True)
class StretchOptions:
    """Options of a spec besides those of the captioner.

    Attributes:
        frames: Maximum number of frames of a stretch.
    """

    frames: int = 8

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise SpecError(f"frames must be at least 2, got {self.frames}.")

    def of(self, captioner: Maker) -> Maker:
        """The maker of captions of stretches, from a captioner of frames."""
        settings = {**captioner.settings, **asdict(self), "prompt": PROMPT}
        return replace(captioner, settings=settings)


def stretch_lines(reply: str) -> list[str]:
    """The lines of a reply: subjects and events, or the reply itself if it is not JSON."""
    match = _OBJECT.search(reply)
    try:
        value: Any = json.loads(match[0]) if match else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return [reply.strip()] if reply.strip() else []
    subjects = value.get("subjects")
    names = [_words(one) for one in subjects[:_MOST]] if isinstance(subjects, list) else []
    lines = [f"Subjects: {'; '.join(filter(None, names))}" if any(names) else ""]
    lines.append(_words(value.get("events")))
    return [line for line in lines if line] or [reply.strip()]


def _words(value: object) -> str:
    """Text of a value: a text, or the texts in an object, since some models write subjects so."""
    if isinstance(value, dict):
        return ", ".join(filter(None, (_words(one) for one in value.values())))
    return " ".join(value.split()) if isinstance(value, str) else ""


def _split(argument: str) -> tuple[str, StretchOptions]:
    """Split the argument into that of the frame captioner and the options for stretches."""
    spec = parse_spec(f"clips:{argument}")
    options = {"every_s": "10", **spec.options}
    own = {"frames": options.pop("frames")} if "frames" in options else {}
    rest = ",".join([spec.argument, *(f"{key}={value}" for key, value in options.items())])
    return rest, replace(spec, options=own).read(StretchOptions)


class VlmStretchCaptioner(FrameCaptioner):
    """Captions stretches with a local model. Spec: `vlm-clips:MODEL[,frames=8,every_s=10,...]`."""

    def __init__(self, argument: str) -> None:
        rest, own = _split(argument)
        super().__init__(rest)
        self.together, self.maker = own.frames, own.of(self.maker)

    def read_groups(self, groups: Sequence[Sequence[Path]], /) -> Sequence[Sequence[str]]:
        """The lines of each stretch.

        Raises:
            ToolError: A frame cannot be decoded.
        """
        return [stretch_lines(text) for text in self.answer([(g, PROMPT) for g in groups])]


class ApiStretchCaptioner(ApiCaptioner):
    """Captions stretches with a model behind an endpoint.

    Spec: `openai-clips:MODEL[@ENDPOINT][,frames=8]`.
    """

    def __init__(self, argument: str) -> None:
        rest, own = _split(argument)
        super().__init__(rest)
        self.together, self.maker = own.frames, own.of(self.maker)

    def read_groups(self, groups: Sequence[Sequence[Path]], /) -> Sequence[Sequence[str]]:
        """The lines of each stretch.

        Raises:
            ToolError: A frame cannot be read, or the endpoint failed.
        """
        return [stretch_lines(text) for text in self.answer(groups, PROMPT)]
