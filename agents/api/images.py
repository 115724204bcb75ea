"""Frames as parts of a chat message: the file's own bytes, read and encoded once.

A JPEG or PNG goes out as it lies on disk; it is decoded only where a limit on its size asks for it.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvideo_env.errors import MissingExtraError, ToolError

if TYPE_CHECKING:
    from orjson import Fragment

_KEPT = 2048
"""Images kept encoded; of 640x360 they take some 100 MB. A clip is looked at again and again."""

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class ImagePart:
    """An image that is ready to be sent.

    Attributes:
        part: The part of the message, as JSON.
        digest: Of the bytes that are sent.
        n_bytes: How many there are.
    """

    part: Fragment
    digest: str
    n_bytes: int


def image_part(path: Path, max_side: int = 0, detail: str = "auto") -> ImagePart:
    """An image file as a part of a message.

    Args:
        path: The file.
        max_side: Longest side in pixels; a larger image is scaled down. 0 is no limit.
        detail: What the model is asked to see: `low`, `high` or `auto`.

    Raises:
        ToolError: The file cannot be read, or is neither JPEG nor PNG.
        MissingExtraError: There is a limit, and Pillow is not installed.
    """
    try:
        state = path.stat()
        return _encode(path, max_side, detail, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise ToolError(f"frame {path.name} cannot be read: {error.strerror}.") from error


@lru_cache(maxsize=_KEPT)
def _encode(path: Path, max_side: int, detail: str, _changed: int, _size: int) -> ImagePart:
    from orjson import Fragment

    data = path.read_bytes()
    kind = _kind(data, path)
    if max_side:
        data, kind = _fit(data, kind, max_side, path)
    head = b'{"type":"image_url","image_url":{"url":"data:image/%b;base64,' % kind.encode()
    part = head + b64encode(data) + b'","detail":"%b"}}' % detail.encode()
    return ImagePart(Fragment(part), blake2b(data, digest_size=16).hexdigest(), len(data))


def _kind(data: bytes, path: Path) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    raise ToolError(f"frame {path.name} is neither a JPEG nor a PNG file.")


def _fit(data: bytes, kind: str, max_side: int, path: Path) -> tuple[bytes, str]:
    """The image within a limit; its own bytes if it is."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError("pillow", "video") from error
    try:
        with Image.open(BytesIO(data)) as image:
            if max(image.size) <= max_side:
                return data, kind
            small: Any = image.convert("RGB")
            small.thumbnail((max_side, max_side))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ToolError(f"frame {path.name} cannot be decoded: {error}") from error
    out = BytesIO()
    small.save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue(), "jpeg"
