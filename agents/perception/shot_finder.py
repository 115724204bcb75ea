"""Finds the shots of a film (library scenedetect, as `scenedetect-headless`)."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from longvideo_env.errors import MissingExtraError


def find_shots(film: Path) -> dict[str, Any]:
    """Find the shots of a film with `AdaptiveDetector`, which compares neighbouring frames.

    Returns:
        `version`, and `shots` as `[start_s, end_s]` in order. Empty if there are no pictures.

    Raises:
        MissingExtraError: scenedetect is not installed.
    """
    try:
        from scenedetect import AdaptiveDetector, VideoOpenFailure, detect
    except ImportError as error:
        raise MissingExtraError(error.name or "scenedetect-headless", "ocr") from error
    try:
        scenes = detect(str(film), AdaptiveDetector(), start_in_scene=True)
    except VideoOpenFailure:  # a file with sound only
        scenes = []
    shots = [[round(start.seconds, 3), round(end.seconds, 3)] for start, end in scenes]
    return {"version": f"scenedetect {version('scenedetect-headless')}", "shots": shots}
