"""A small `mini` dataset on disk with frames, for tests of vision masters."""

from pathlib import Path

from longvideo_env.datasets.mini.generator import write_mini


def make_seen_world(folder: Path) -> Path:
    """Six frames per clip."""
    return write_mini(folder, videos=4, seed=3, frame_step=30)
