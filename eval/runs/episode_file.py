"""`episodes.jsonl` as a mapping. Episodes stay on disk, and only their positions are in memory.

    with EpisodeFile(folder / "episodes.jsonl") as episodes:
        episodes.add(trajectory)
        episodes[("17", 0)]              # read back from the file
        episodes.rewrite(order)          # the file, in this order

So a run of a million episodes needs only some hundred bytes of memory for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from longvideo_env.errors import TrajectoryError
from longvideo_env.records.files import ESCAPED, storage_error, write_chunks
from longvideo_env.records.trajectory import Timings, Trajectory

EpisodeKey: TypeAlias = tuple[str, int]
"""`str(qid)` and the sample."""


class EpisodeFile(Mapping[EpisodeKey, Trajectory]):
    """The episodes of one file, by question and sample, in the order of adding.

    Args:
        path: The file. It is created if it does not exist.
        timings: Whether the file has timings. If not, this session's are kept in memory.
        drops: Whether an episode in the file is left out.

    Attributes:
        untidy: Whether the file holds left-out episodes or an incomplete line. `rewrite` removes
            them.

    Raises:
        TrajectoryError: A line cannot be read.
        OSError: The file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        timings: bool = True,
        drops: Callable[[Trajectory], bool] = lambda _: False,
    ) -> None:
        self._path, self._timings = path, timings
        self._places: dict[EpisodeKey, int] = {}
        self._timed: dict[EpisodeKey, Timings] = {}
        self._open()
        try:
            self.untidy = self._load(drops)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, key: EpisodeKey) -> Trajectory:
        found = Trajectory.from_json(self._line_at(self._places[key]).decode())
        timed = self._timed.get(key)
        return found if timed is None else replace(found, timings=timed)

    def __iter__(self) -> Iterator[EpisodeKey]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def add(self, trajectory: Trajectory) -> None:
        """Append an episode and flush the file.

        Raises:
            StorageError: It cannot be written.
        """
        line = self._line(trajectory)
        try:
            self._writer.write(line)
            self._writer.flush()
        except OSError as error:
            raise storage_error(self._path, error) from error
        key = key_of(trajectory)
        self._places[key] = self._end
        self._end += len(line)
        if not self._timings:
            self._timed[key] = trajectory.timings

    def clear(self) -> None:
        """Drop all episodes. The next `rewrite` removes them from the file."""
        self._places.clear()

    def rewrite(self, order: Iterable[EpisodeKey]) -> None:
        """Write the file again: first the episodes of `order`, then all others.

        Raises:
            StorageError: The file cannot be written. The old file is unchanged.
        """
        places: dict[EpisodeKey, int] = {}

        def lines() -> Iterator[bytes]:
            end = 0
            for key in (key for keys in (order, self._places) for key in keys):
                if key in self._places and key not in places:
                    line = self._line_at(self._places[key])
                    if not self._timings:  # an earlier session may have written timings
                        line = self._line(Trajectory.from_json(line.decode()))
                    places[key] = end
                    end += len(line)
                    yield line

        write_chunks(self._path, lines())
        self.close()
        self._places, self.untidy = places, False
        self._open()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # `add` has already reported write errors
            self._files.close()

    def _open(self) -> None:
        with ExitStack() as files:
            self._writer = files.enter_context(open(self._path, "ab"))
            self._reader = files.enter_context(open(self._path, "rb"))
            self._files = files.pop_all()
        self._end = self._writer.tell()

    def _load(self, drops: Callable[[Trajectory], bool]) -> bool:
        """Find the episodes in the file. Returns whether some of the file is left out."""
        dropped, place = False, 0
        for number, line in enumerate(self._reader, start=1):
            if not line.endswith(b"\n"):
                return True  # incomplete
            try:
                trajectory = Trajectory.from_json(line.decode())
            except (TrajectoryError, UnicodeDecodeError) as error:
                raise TrajectoryError(f"{self._path}, line {number}: {error}") from error
            if drops(trajectory):
                dropped = True
            else:
                self._places[key_of(trajectory)] = place
            place += len(line)
        return dropped

    def _line_at(self, place: int) -> bytes:
        self._reader.seek(place)
        return self._reader.readline()

    def _line(self, trajectory: Trajectory) -> bytes:
        line = trajectory.to_json(timings=self._timings) + "\n"
        return line.encode("utf-8", ESCAPED)


def key_of(trajectory: Trajectory) -> EpisodeKey:
    """The question, as text, and the sample."""
    return str(trajectory.qid), trajectory.sample
