"""Make layers of a film or dataset. `ingest` and `describe` share this code.

The batches of frames are fixed beforehand, and each result is saved at once. So a killed run
continues with the missing batches, and its layer has the same bytes as that of an uninterrupted
run, with any number of workers.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import groupby
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from longvideo_env.datasets.jsonfile import read_object
from longvideo_env.datasets.layers import Maker, write_layer
from longvideo_env.datasets.perceiving import (
    FrameReader,
    GroupReader,
    find_reader,
)
from longvideo_env.datasets.tvqa.layout import LAYERS
from longvideo_env.errors import DataError, ToolError
from longvideo_env.media.frames import Frame, frame_problem, list_frames, spread
from longvideo_env.records.files import hold_folder, write_text
from longvideo_env.schema import Clip, Video

LOCK = ".layers.lock"
"""The lock file of a folder while a layer is made."""

_CAUGHT = (ToolError, DataError, OSError, ValueError, RuntimeError)

Texts: TypeAlias = Sequence[Sequence[str]]
AnyReader: TypeAlias = FrameReader | GroupReader


class FrameJob(NamedTuple):
    """One frame to read, or the frames of a stretch.

    Attributes:
        clip_id: The clip.
        paths: The images, in order of time.
        start_s: The time of the first frame in the clip.
        end_s: The start of the next job, or the end of the clip.
    """

    clip_id: str
    paths: tuple[Path, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Made:
    """The outcome of making a layer.

    Attributes:
        maker: The model that made it.
        file: The layer's file.
        n_lines: The number of lines.
        n_frames: The number of frames that were read. 0 for speech.
        failed: Clip id -> why the clip, or part of it, failed.
        note: A remark, such as "no speech found".
    """

    maker: Maker
    file: Path
    n_lines: int
    n_frames: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        """`text: 12 lines from 140 frames (rapidocr)`."""
        what = f"{self.n_lines:,} {'line' if self.n_lines == 1 else 'lines'}"
        seen = f" from {self.n_frames:,} frames" if self.n_frames else ""
        lost = f"; {len(self.failed):,} clips failed" if self.failed else ""
        note = f"; {self.note}" if self.note else ""
        return f"{self.maker.kind}: {what}{seen} ({self.maker.model}){lost}{note}"


def see_frames(
    folder: Path,
    videos: Mapping[str, Video],
    kind: str,
    spec: str,
    *,
    reader: AnyReader | None = None,
    workers: int = 1,
    tick: Callable[[int, int], None] = lambda *_: None,
) -> Made:
    """Make a layer of texts or captions from the frames of a folder.

    An interrupted layer is continued. A complete layer is left unchanged.

    Args:
        folder: The folder of the film or dataset.
        videos: Its videos.
        kind: `text` or `captions`.
        spec: Spec of the model that reads the frames.
        reader: The model itself, if it is loaded already.
        workers: The number of processes. Each loads the model.
        tick: Called with the number of frames done and the number of all frames.

    Raises:
        SpecError: The spec is unknown.
        FolderInUseError: Another process makes layers of the folder.
    """
    reader = find_reader(kind, spec) if reader is None else reader
    together = reader.together if isinstance(reader, GroupReader) else 1
    if made := made_already(folder, reader.maker):
        return made
    jobs = [job for video in videos.values() for job in frame_jobs(video, reader.every_s, together)]
    batches = [jobs[i : i + reader.batch] for i in range(0, len(jobs), reader.batch)]
    with hold_folder(folder, LOCK):
        journal = _Journal(folder, reader.maker, jobs)
        todo = [i for i in range(len(batches)) if i not in journal.done]
        tick(len(jobs) - sum(len(batches[i]) for i in todo), len(jobs))
        at = len(jobs) - sum(len(batches[i]) for i in todo)
        with closing(_results(reader, kind, spec, [batches[i] for i in todo], workers)) as results:
            for i, result in zip(todo, results, strict=True):
                journal.add(i, result)
                at += len(batches[i])
                tick(at, len(jobs))
        return journal.finish(folder, batches)


def frame_jobs(video: Video, every_s: float, together: int = 1) -> Iterator[FrameJob]:
    """Yield the frames of a video that are read, one job per `every_s` seconds of a clip.

    Args:
        video: The video.
        every_s: Seconds from one job to the next.
        together: The most frames of a job. With 1, a job has the first frame of its stretch.
    """
    for clip in video.clips:
        groups: list[list[Frame]] = []
        due = 0.0
        for frame in list_frames(video, clip.clip_id):
            if frame.time_s >= due - 1e-6:
                groups.append([])
                due = frame.time_s + every_s
            groups[-1].append(frame)
        ends = [group[0].time_s for group in groups[1:]]
        last = _end(clip, [group[0] for group in groups[-1:]], every_s)
        for group, end_s in zip(groups, [*ends, last], strict=False):
            paths = tuple(f.path for f in (group[:1] if together == 1 else spread(group, together)))
            yield FrameJob(clip.clip_id, paths, round(group[0].time_s, 3), round(end_s, 3))


def _end(clip: Clip, last: Sequence[Any], every_s: float) -> float:
    if clip.start_s is not None and clip.end_s is not None:
        return clip.end_s - clip.start_s
    return (last[0].time_s if last else 0.0) + every_s


class _Result(NamedTuple):
    """The result of a batch: the texts of each job, and the reason of each failure by index."""

    texts: Texts
    failed: Mapping[str, str]


def _results(
    reader: AnyReader, kind: str, spec: str, batches: list[list[FrameJob]], workers: int
) -> Generator[_Result, None, None]:
    paths = [[job.paths for job in batch] for batch in batches]
    if workers < 2 or len(batches) < 2:
        yield from (_read(reader, batch) for batch in paths)
        return
    with ProcessPoolExecutor(
        min(workers, len(batches)), get_context("spawn"), _start_worker, (kind, spec)
    ) as pool:
        try:
            yield from pool.map(_work, paths)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_worker: list[AnyReader] = []


def _start_worker(kind: str, spec: str) -> None:
    """Give the worker its own reader, and end it together with its parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    _worker.append(find_reader(kind, spec))


def _work(paths: list[tuple[Path, ...]]) -> _Result:
    return _read(_worker[0], paths)


def _read(reader: AnyReader, groups: Sequence[tuple[Path, ...]]) -> _Result:
    """Read a batch. If it fails as a whole, read each frame or stretch alone."""
    problems = {
        i: f"{path.name}: {problem}"
        for i, paths in enumerate(groups)
        for path in paths
        if (problem := frame_problem(path))
    }
    good = [i for i in range(len(groups)) if i not in problems]
    texts: dict[int, Sequence[str]] = {}
    try:
        texts.update(zip(good, _ask(reader, [groups[i] for i in good]), strict=True))
    except _CAUGHT:
        for i in good:
            try:
                texts[i] = _ask(reader, [groups[i]])[0]
            except _CAUGHT as error:
                problems[i] = f"{groups[i][0].name}: {type(error).__name__}: {error!s:.200}"
    failed = {str(i): problem for i, problem in sorted(problems.items())}
    return _Result([list(texts.get(i, ())) for i in range(len(groups))], failed)


def _ask(reader: AnyReader, groups: Sequence[tuple[Path, ...]]) -> Texts:
    if not groups:
        return []
    if isinstance(reader, GroupReader):
        return reader.read_groups(groups)
    return reader.read([paths[0] for paths in groups])


class _Journal:
    """The finished batches of a layer, saved to disk one by one.

    Args:
        folder: The folder of the film or dataset.
        maker: The model that makes the layer.
        jobs: All jobs. The results of other jobs on disk are dropped.
    """

    def __init__(self, folder: Path, maker: Maker, jobs: Sequence[FrameJob]) -> None:
        self._maker = maker
        self._file = folder / LAYERS / f"{maker.file_name}.partial.jsonl"
        self._file.parent.mkdir(exist_ok=True)
        known = [(j.clip_id, [p.name for p in j.paths], j.start_s, j.end_s) for j in jobs]
        frames = sha256(repr(known).encode("utf-8", "backslashreplace")).hexdigest()[:16]
        header = json.dumps({"maker": asdict(maker), "frames": frames}, default=str)
        self.done: dict[int, _Result] = {}
        kept = self._kept(header)
        write_text(self._file, "".join(f"{line}\n" for line in [header, *kept]))

    def _kept(self, header: str) -> list[str]:
        """The lines of batches without failures."""
        kept = []
        for number, texts, failed in kept_lines(self._file, header):
            if not failed:
                self.done[number] = _Result(texts, failed)
                kept.append(json.dumps([number, texts, failed], ensure_ascii=False))
        return kept

    def add(self, number: int, result: _Result) -> None:
        """Save the result of a batch."""
        self.done[number] = result
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(json.dumps([number, *result], ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self, folder: Path, batches: Sequence[Sequence[FrameJob]]) -> Made:
        """Write the layer, with its failures. The same command tries the failures again."""
        pairs: list[tuple[FrameJob, Sequence[str]]] = []
        failed: dict[str, str] = {}
        for number, batch in enumerate(batches):
            result = self.done[number]
            pairs += zip(batch, result.texts, strict=True)
            for place, reason in result.failed.items():
                failed.setdefault(batch[int(place)].clip_id, reason)
        clips = {
            clip_id: lines
            for clip_id, group in groupby(pairs, key=lambda pair: pair[0].clip_id)
            if (lines := merge(list(group)))
        }
        # A layer with failures only would hide an older, good one.
        file = folder / LAYERS / self._maker.file_name
        if clips or not failed:
            write_layer(folder, self._maker, clips, failed)
        if not failed:
            self._file.unlink()
        n_lines = sum(map(len, clips.values()))
        n_frames = sum(len(job.paths) for job, _ in pairs)
        return Made(self._maker, file, n_lines, n_frames, failed)


def kept_lines(journal: Path, header: str) -> list[list[Any]]:
    """The lines of a journal. Empty if its header differs.

    A line that a killed process left half-written ends the list.
    """
    if not journal.is_file():
        return []
    first, *lines = journal.read_text(encoding="utf-8").splitlines() or [""]
    kept: list[list[Any]] = []
    for line in lines if first == header else []:
        try:
            kept.append(json.loads(line))
        except ValueError:
            break
    return kept


def merge(pairs: Sequence[tuple[FrameJob, Sequence[str]]]) -> list[dict[str, Any]]:
    """Turn the texts of a clip's frames into lines.

    The same text in consecutive frames becomes one line.

    Returns:
        `{start_s, end_s, text}`, in order of their starts.
    """
    lines: list[dict[str, Any]] = []
    standing: dict[str, dict[str, Any]] = {}
    for job, texts in pairs:
        now: dict[str, dict[str, Any]] = {}
        for text in dict.fromkeys(filter(None, map(str.strip, texts))):
            line = standing.get(text)
            if line is None:
                line = {"start_s": job.start_s, "end_s": job.end_s, "text": text}
                lines.append(line)
            line["end_s"] = job.end_s
            now[text] = line
        standing = now
    return lines


def made_already(folder: Path, maker: Maker) -> Made | None:
    """The outcome of an existing layer. None if there is none, or if a part of it failed."""
    file = folder / LAYERS / maker.file_name
    if not file.is_file():
        return None
    value: dict[str, Any] = dict(read_object(file))
    if value.get("failed"):
        return None
    n_lines = sum(len(lines) for lines in value.get("clips", {}).values())
    return Made(maker, file, n_lines, note="already exists")
