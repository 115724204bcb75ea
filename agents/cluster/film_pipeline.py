"""Describes films on a Ray cluster, as a Ray Data pipeline.

    with joined_cluster(options) as n_workers:
        for node, outcome in describe_films(folders, maker, options, n_workers):
            ...                                  # in order of completion

A worker loads its model once and processes one film at a time, batch by batch, so memory stays
constant. Results are stored in the film's folder. An existing layer is not made again, and an
unfinished one continues at its next batch, on any node. If a worker dies, it is replaced. After
`TRIES` lost workers the film has failed, and the other films continue.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.cluster.joining import RayOptions, here, load_ray, work_in
from agents.perception.layer_maker import FilmOutcome, LayerMaker
from longvideo_env.errors import FolderInUseError, LongVideoEnvError, MissingExtraError, SpecError
from longvideo_env.records.files import cache_root

TRIES = 3
"""Number of workers that may be lost on one film."""

_LOST = (
    f"the worker that described it was lost {TRIES} times. Fix: give each worker more memory "
    "(--ray-workers, --cpus-per-worker), or leave this film out."
)


@dataclass(frozen=True)
class FilmRecipe:
    """Settings of a worker.

    Attributes:
        maker: Makes the layers.
        folder: Working folder of the command.
        cache: Folder of cached vectors, the same on all nodes.
        tries: The actor that counts attempts.
    """

    maker: LayerMaker
    folder: str
    cache: str
    tries: Any


class _Tries:
    """Actor that counts the attempts per film, because Ray would retry forever."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, at: int) -> int:
        self._begun[at] += 1
        return self._begun[at]


class _Describer:
    """A worker. Rows are plain values, as Ray Data requires."""

    def __init__(self, recipe: FilmRecipe) -> None:
        work_in(recipe.folder)
        os.environ["LONGVIDEO_ENV_CACHE"] = recipe.cache
        self._maker, self._tries = recipe.maker, recipe.tries

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        found = {"at": row["at"], "said": "", "failures": "[]", "fault": ""}
        context = ray.get_runtime_context()
        found["node"] = f"{ray.util.get_node_ip_address()}#{context.get_node_id()[:6]}"
        folder = Path(row["folder"])
        try:
            if ray.get(self._tries.begin.remote(row["at"])) > TRIES:
                outcome = FilmOutcome("", (f"{folder.name}: {_LOST}",))
            else:
                outcome = self._maker.attempt(folder)
        except FolderInUseError as error:  # perhaps by a worker that was wrongly taken for lost
            outcome = FilmOutcome("", (f"{folder.name}: {error}",))
        except LongVideoEnvError as error:
            return {**found, "fault": str(error)}
        except Exception as error:  # noqa: BLE001 - such as an error in a user's reader
            why = f"{folder.name}: {type(error).__name__}: {error!s:.300}"
            outcome = FilmOutcome("", (why,))
        return {**found, "said": outcome.said, "failures": json.dumps(outcome.failures)}


def describe_films(
    folders: Sequence[Path], maker: LayerMaker, options: RayOptions, n_workers: int
) -> Iterator[tuple[str, FilmOutcome]]:
    """Make a layer for each folder. Yields node and outcome in order of completion.

    Args:
        folders: Folders of ingested films. All nodes must see them.
        maker: What makes the layer.
        options: Resources of each worker.
        n_workers: Number of workers.

    Raises:
        SpecError: The maker is invalid on a node, or needs a package there.
    """
    ray, data = load_ray(), _ray_data()
    tries = ray.remote(_Tries).options(**here(ray)).remote()
    recipe = FilmRecipe(maker, os.getcwd(), str(cache_root().absolute()), tries)
    rows = [{"at": i, "folder": os.path.abspath(path)} for i, path in enumerate(folders)]
    waiting = dict(enumerate(folders))
    with _quiet(data):
        films = data.from_items(rows, override_num_blocks=len(rows)).map(
            _Describer,
            fn_constructor_args=(recipe,),
            compute=data.ActorPoolStrategy(
                size=min(n_workers, len(rows)), max_tasks_in_flight_per_actor=1
            ),
            **options.resources,
        )
        for row in films.iter_rows():
            if row["fault"]:
                raise SpecError(f"{row['node']}: {row['fault']}")
            del waiting[row["at"]]
            yield row["node"], FilmOutcome(row["said"], tuple(json.loads(row["failures"])))
    for folder in waiting.values():
        yield (
            "no node",
            FilmOutcome("", (f"{folder.name}: Ray gave up on this film. Fix: see Ray's logs.",)),
        )


def _ray_data() -> Any:
    try:
        from ray import data
    except ImportError as error:
        raise MissingExtraError(error.name or "pyarrow", "ray") from error
    return data


@contextmanager
def _quiet(data: Any) -> Iterator[None]:
    """A lost film does not fail the whole run, and Ray Data prints nothing."""
    context = data.DataContext.get_current()
    wanted = {
        "max_errored_blocks": -1,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
    }
    earlier = {name: getattr(context, name) for name in wanted}
    logger = logging.getLogger("ray.data")
    level = logger.level
    for name, value in wanted.items():
        setattr(context, name, value)
    logger.setLevel(logging.CRITICAL)
    try:
        with _core_silenced():
            yield
    finally:
        logger.setLevel(level)
        for name, value in earlier.items():
            setattr(context, name, value)


@contextmanager
def _core_silenced() -> Iterator[None]:
    """Suppress what Ray's C++ core writes to this process's standard error.

    It warns about each Ray Data worker that could not be restarted. No option disables this.
    """
    sys.stderr.flush()
    ours, earlier = os.dup(2), sys.stderr
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        with open(ours, "w", buffering=1, encoding="utf-8", errors="backslashreplace",
                  closefd=False) as sys.stderr:  # fmt: skip
            yield
    finally:
        sys.stderr = earlier
        os.dup2(ours, 2)
        os.close(ours)
