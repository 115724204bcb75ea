"""The file of a bundle: a zip of runs, and a manifest with the hash of each file in it.

    manifest.json            versions, commands, and the SHA-256 of every other file
    runs/NAME/...            a run's episodes, configuration, questions' hashes and summary
    words/DIGEST.jinja       the environment's prompts
    recording.jsonl          tool calls, and the replies of policies behind an endpoint
    table.md, table.tex      the figures as tables for a paper

The same runs give the same bytes. `digest` in the manifest is the hash of the manifest, and so of
the whole bundle. A paper can print it to identify the bundle.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from longvideo_env.errors import InputError, SpecError

FORMAT = 1
MANIFEST = "manifest.json"
RECORDING_MEMBER = "recording.jsonl"
TABLE_MD, TABLE_TEX = "table.md", "table.tex"
LARGEST = 4 * 1024**3
"""The most bytes of all unpacked files. A larger bundle is not read."""

# Errors that a changed byte can cause in zipfile and json.
_BROKEN = (
    *(OSError, ValueError, TypeError, AttributeError, EOFError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error, RecursionError),
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        path: Its path.
        manifest: Its manifest.
        files: The other files by name.
    """

    path: Path
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        """The manifest's entries of the runs."""
        return list(self.manifest["runs"])


def hash_of(content: bytes) -> str:
    """SHA-256, in hex."""
    return sha256(content).hexdigest()


def seal(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """Add the hashes of the files and its own digest to a manifest."""
    listed = {
        name: {"sha256": hash_of(files[name]), "bytes": len(files[name])} for name in sorted(files)
    }
    whole = {**manifest, "format": FORMAT, "files": listed}
    return {**whole, "digest": digest_of(whole)}


def digest_of(manifest: Mapping[str, Any]) -> str:
    """The hash of a manifest without its own digest."""
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    text = json.dumps(rest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hash_of(text.encode("utf-8", "surrogatepass"))


def write_bundle(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a bundle. Equal contents give equal bytes.

    Args:
        path: The file. It is replaced at once or not at all.
        manifest: The sealed manifest.
        files: All other files.
    """
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in {MANIFEST: text.encode(), **dict(sorted(files.items()))}.items():
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle into memory. Nothing is unpacked onto the disk.

    Raises:
        InputError: The file is not a bundle, or is broken.
        SpecError: It is too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if sum(entry.file_size for entry in entries) > LARGEST:
                raise SpecError(
                    f"{path} unpacks to more than {LARGEST:,} bytes, so it is not read."
                )
            if len(set(names)) < len(names):
                raise InputError(f"{path} holds a file twice, so it was changed after it was made.")
            files = {name: archive.read(name) for name in names}
        manifest = json.loads(files.pop(MANIFEST))
        known = manifest["format"] == FORMAT and isinstance(manifest["files"], dict)
        if not known or not all(isinstance(run["name"], str) for run in manifest["runs"]):
            raise ValueError(f"format {manifest.get('format')!r}, not {FORMAT}")
    except SpecError:
        raise
    except KeyError as error:
        raise InputError(f"{path} is not a bundle: {error} is missing. {_FIX}") from error
    except _BROKEN as error:
        raise InputError(f"{path} cannot be read as a bundle ({error}). {_FIX}") from error
    return Bundle(path, manifest, files)


_FIX = "Fix: give a complete file that `longvideo-env bundle` wrote."
