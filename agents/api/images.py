"""Frames as parts of a chat message. Each file is read and encoded once.

A JPEG or PNG is sent unchanged. It is decoded only if it must be scaled down.
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
"""Cache size for encoded images: about 100 MB at 640x360. Clips are looked at repeatedly."""

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class ImagePart:
    """An encoded image, ready to send.

    Attributes:
        part: The message part, as JSON.
        digest: Hash of the bytes sent.
        n_bytes: Number of bytes sent.
    """

    part: Fragment
    digest: str
    n_bytes: int


def image_part(path: Path, max_side: int = 0, detail: str = "auto") -> ImagePart:
    """Encode an image file as a message part.

    Args:
        path: The file.
        max_side: Longest side in pixels. Larger images are scaled down. 0 means no limit.
        detail: The API's `detail`: `low`, `high` or `auto`.

    Raises:
        ToolError: The file cannot be read, or is neither JPEG nor PNG.
        MissingExtraError: The image must be scaled, and Pillow is not installed.
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
    """The image, scaled down to a limit. Unchanged bytes if it is small enough."""
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
