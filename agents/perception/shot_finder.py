"""Shots of a film, from cut to cut (library scenedetect, as `scenedetect-headless`)."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from longvideo_env.errors import MissingExtraError


def find_shots(film: Path) -> dict[str, Any]:
    """The shots of a film by `AdaptiveDetector`, which compares a frame with its neighbours.

    Returns:
        `version`, and `shots` as `[start_s, end_s]` in order; none where there are no pictures.

    Raises:
        MissingExtraError: scenedetect is not installed.
    """
    try:
        from scenedetect import AdaptiveDetector, VideoOpenFailure, detect
    except ImportError as error:
        raise MissingExtraError(error.name or "scenedetect-headless", "ocr") from error
    try:
        scenes = detect(str(film), AdaptiveDetector(), start_in_scene=True)
    except VideoOpenFailure:  # a film of sound alone
        scenes = []
    shots = [[round(start.seconds, 3), round(end.seconds, 3)] for start, end in scenes]
    return {"version": f"scenedetect {version('scenedetect-headless')}", "shots": shots}
