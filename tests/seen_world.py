"""A small world of mini on disk, with frames, for tests of masters that see."""

from pathlib import Path

from longvideo_env.datasets.mini.generator import write_mini


def make_seen_world(folder: Path) -> Path:
    """Six frames a clip."""
    return write_mini(folder, videos=4, seed=3, frame_step=30)
