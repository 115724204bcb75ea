"""Loads the videos of a folder, such as one that `longvideo-env ingest` made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from longvideo_env.datasets.dataset import LazyVideos
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.layout import Sources, find_texts
from longvideo_env.datasets.tvqa.material import Texts, read_texts
from longvideo_env.ids import group_by_video
from longvideo_env.schema import Video


def load_videos(folder: str | Path, frames_root: str | Path | None = None) -> Mapping[str, Video]:
    """The videos of a folder, with or without questions about them.

    Raises:
        DataError: There are no videos, or a file is invalid.
    """
    sources = find_texts(folder, frames_root)
    texts = read_texts(sources, Rejects(skip_invalid=False))
    return lazy_videos(group_by_video(texts.clip_ids), texts, sources)


def lazy_videos(
    by_video: Mapping[str, tuple[str, ...]], texts: Texts, sources: Sources
) -> LazyVideos:
    """Videos built from the texts of their clips."""
    return LazyVideos(
        by_video,
        texts.subtitles,
        texts.captions,
        sources.frames_root,
        timed=texts.timed,
        times=texts.times,
        layers=texts.layers,
    )
