"""Layers: what a model heard, read or saw in a film. Each is a file of timed lines.

    films/layers/speech-whisper-tiny.en-3f2a91c0.json
    {"kind": "speech", "model": "whisper:tiny.en", "version": "faster-whisper 1.2.1",
     "settings": {"language": null}, "number": 1, "failed": {},
     "clips": {"film_seg01_clip_00": [{"start_s": 1.2, "end_s": 2.5, "text": "He is here."}]}}

Each model, version and setting writes its own file. For each kind only the layer with the highest
`number` is read; layers are never mixed. To return to an older layer, delete the newer file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from longvideo_env.datasets.jsonfile import is_clean_text, read_object
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.layout import LAYERS
from longvideo_env.datasets.tvqa.texts import RawCaptions, check_captions
from longvideo_env.errors import MalformedFileError
from longvideo_env.records.files import write_text

SPEECH, TEXT, CAPTIONS = KINDS = ("speech", "text", "captions")

_MEND = "make it again with longvideo-env describe, or delete it."


@dataclass(frozen=True, slots=True)
class Maker:
    """The model that makes a layer. Equal makers make equal layers.

    Attributes:
        kind: One of `KINDS`.
        model: Such as `whisper:tiny.en`.
        version: Library version, such as `faster-whisper 1.2.1`.
        settings: Settings that change the lines; plain values.
    """

    kind: str
    model: str
    version: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The layer's file name: kind, model and a digest of the maker."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", self.model).strip("-.")[-40:]
        return f"{self.kind}-{slug}-{sha256(text.encode()).hexdigest()[:8]}.json"


@dataclass(frozen=True, slots=True)
class RawLayer:
    """A layer, as read from its file.

    Attributes:
        kind: One of `KINDS`.
        model: What made it.
        number: Of two layers of the same kind, the later one has the higher number.
        lines: Clip id -> checked lines.
    """

    kind: str
    model: str
    number: int
    lines: RawCaptions


def read_layers(files: Sequence[Path], rejects: Rejects) -> tuple[RawLayer, ...]:
    """Read the newest layer of each kind.

    Raises:
        MalformedFileError: A file has another shape.
        InvalidRowError: A clip's lines are wrong, and invalid rows are not skipped.
    """
    newest: dict[str, RawLayer] = {}
    for file in files:
        layer = _read(file, rejects)
        known = newest.get(layer.kind)
        if known is None or layer.number > known.number:
            newest[layer.kind] = layer
    return tuple(newest[kind] for kind in KINDS if kind in newest)


def _read(file: Path, rejects: Rejects) -> RawLayer:
    value = read_object(file)
    kind, model, number, clips = (value.get(k) for k in ("kind", "model", "number", "clips"))
    if kind not in KINDS or not is_clean_text(model) or type(number) is not int:
        raise MalformedFileError(
            f"expected a layer with 'kind' ({', '.join(KINDS)}), 'model' and 'number', got "
            f"{kind!r:.40}, {model!r:.40} and {number!r:.40}.",
            file,
            None,
            _MEND,
        )
    if not isinstance(clips, dict):
        raise MalformedFileError("expected 'clips' as an object.", file, None, _MEND)
    return RawLayer(str(kind), model, number, check_captions(clips, file, rejects))


def write_layer(
    folder: Path,
    maker: Maker,
    clips: Mapping[str, Iterable[Mapping[str, Any]]],
    failed: Mapping[str, str] | None = None,
) -> Path:
    """Write a layer into the folder of a dataset or film. Replaces a layer of the same maker.

    Args:
        folder: Of the dataset or film.
        maker: What made it.
        clips: Clip id -> `{start_s, end_s, text}`, in seconds of the clip.
        failed: Clip id -> reason why the clip has no lines.

    Returns:
        The file.
    """
    file = folder / LAYERS / maker.file_name
    file.parent.mkdir(exist_ok=True)
    value = {
        **asdict(maker),
        "number": _number(file),
        "failed": dict(failed or {}),
        "clips": {clip_id: list(lines) for clip_id, lines in clips.items()},
    }
    write_text(file, json.dumps(value, indent=0, ensure_ascii=False) + "\n")
    return file


def _number(file: Path) -> int:
    """The number of the file's layer. A new layer gets the highest number plus 1."""
    numbers = {}
    for path in file.parent.glob("*.json"):
        number = read_object(path).get("number")
        numbers[path] = number if type(number) is int else 0
    return numbers.get(file, max(numbers.values(), default=0) + 1)
