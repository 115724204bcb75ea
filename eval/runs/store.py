"""A run's folder: `config.json`, `episodes.jsonl` as episodes finish, `summary.json`.

A run can be interrupted at any moment and started again: finished episodes are kept, failed ones
are played again, a last line torn by the interruption is dropped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from longvideo_env.errors import SpecError, TrajectoryError
from longvideo_env.records.trajectory import Trajectory

EPISODES = "episodes.jsonl"
SUMMARY = "summary.json"
CONFIG = "config.json"


def shard_folder(folder: Path, index: int, count: int) -> Path:
    """The folder of one shard of a run."""
    return folder.with_name(f"{folder.name}.shard-{index}-of-{count}")


def run_folder(out: Path, policy: str, others: Iterable[str] = ()) -> Path:
    """The folder of a policy's run: a readable name, with a digest where two would share one."""
    name = _slug(policy)
    if any(other != policy and _slug(other) == name for other in others):
        name += "-" + blake2b(policy.encode(), digest_size=3).hexdigest()
    return out / name


def _slug(policy: str) -> str:
    kind, _, rest = policy.partition(":")
    if "/" in rest:
        rest = "-".join(Path(rest).parts[-2:])
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{kind}-{rest}" if rest else kind).strip("-.") or "run"


class RunStore:
    """Keeps one run on disk.

    Args:
        folder: Made if it is not there.
        config: What makes episodes comparable; a run is only resumed with an equal one.
        overwrite: Throw away what is there instead of resuming.
        timings: False leaves them out of the episodes, which a replay then repeats byte by byte.

    Raises:
        SpecError: The folder holds a run with another configuration.
        TrajectoryError: Its episodes cannot be read back.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        overwrite: bool = False,
        timings: bool = True,
    ) -> None:
        self.folder = folder
        self._timings = timings
        self.episodes: dict[tuple[str, int], Trajectory] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for name in (EPISODES, SUMMARY, CONFIG):
                (folder / name).unlink(missing_ok=True)
        self._check_config(config)
        self._resume()
        self._file: IO[str] = open(folder / EPISODES, "a", encoding="utf-8")  # noqa: SIM115

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def earlier_wall_s(self) -> float:
        """Seconds that earlier sessions of this run took."""
        try:
            summary = json.loads((self.folder / SUMMARY).read_text(encoding="utf-8"))
            return float(summary["wall_s"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0  # a first session, or one that was killed before it could sum up

    def add(self, trajectory: Trajectory) -> None:
        """Keep a finished episode. It is on its way to disk when this returns."""
        self._file.write(self._line(trajectory))
        self._file.flush()
        self.episodes[_key(trajectory)] = trajectory

    def finish(self, summary: Mapping[str, Any], order: Iterable[tuple[str, int]]) -> None:
        """Write the summary, and put the episodes in order of the dataset.

        Args:
            summary: Plain values.
            order: `(str(qid), sample)` of all episodes asked for.
        """
        self._file.close()
        rank = {key: i for i, key in enumerate(order)}
        ordered = sorted(self.episodes.values(), key=lambda t: rank.get(_key(t), len(rank)))
        self._rewrite(ordered)
        write_json(self.folder / SUMMARY, summary)

    def _check_config(self, config: Mapping[str, Any]) -> None:
        path = self.folder / CONFIG
        if not path.exists():
            write_json(path, config)
            return
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SpecError(f"{path} cannot be read ({error}). {_ELSEWHERE}") from error
        now = json.loads(json.dumps(config))
        for key in sorted({*earlier, *now}):
            if earlier.get(key) != now.get(key):
                raise SpecError(
                    f"{self.folder} holds a run with {key}={earlier.get(key)!r}, not "
                    f"{now.get(key)!r}. {_ELSEWHERE}"
                )

    def _resume(self) -> None:
        path = self.folder / EPISODES
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        torn = lines.pop()  # empty, unless the last line was cut off before its end
        dropped = bool(torn)
        for number, line in enumerate(lines, start=1):
            try:
                trajectory = Trajectory.from_json(line.decode())
            except (TrajectoryError, UnicodeDecodeError) as error:
                raise TrajectoryError(f"{path}, line {number}: {error} {_ELSEWHERE}") from error
            if trajectory.status == "failed":
                dropped = True
            else:
                self.episodes[_key(trajectory)] = trajectory
        if dropped:
            self._rewrite(self.episodes.values())

    def _rewrite(self, trajectories: Iterable[Trajectory]) -> None:
        write_text(self.folder / EPISODES, "".join(map(self._line, trajectories)))

    def _line(self, trajectory: Trajectory) -> str:
        return trajectory.to_json(timings=self._timings) + "\n"


_ELSEWHERE = "To mend it: give another --out, or --overwrite."


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that a reader never sees half of it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader never sees half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _key(trajectory: Trajectory) -> tuple[str, int]:
    return str(trajectory.qid), trajectory.sample
