"""Describing films on a cluster of Ray, as a pipeline of Ray Data over them.

    with joined_cluster(options) as n_workers:
        for node, outcome in describe_films(folders, maker, options, n_workers):
            ...                                  # as films are done, in any order

A worker loads its model once and takes one film at a time, batch by batch, so no film waits behind
another one and memory stays flat. What is done lies in the film's own folder: a layer that is there
is not made again, and an unfinished one goes on at its next batch, on whichever node. The worker of
a film that dies is replaced; after `TRIES` lost workers the film has failed, and the rest goes on.
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
"""So many workers may be lost over a film."""

_LOST = (
    f"the worker that described it was lost {TRIES} times. Fix: give a worker more memory "
    "(--ray-workers, --cpus-per-worker), or leave this film out."
)


@dataclass(frozen=True)
class FilmRecipe:
    """What a worker is made from.

    Attributes:
        maker: Makes the layers.
        folder: Where the command was started.
        cache: Where vectors lie, the same place on all nodes.
        tries: The actor that counts them.
    """

    maker: LayerMaker
    folder: str
    cache: str
    tries: Any


class _Tries:
    """The body of the actor that counts how often films were begun: Ray would try without end."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, at: int) -> int:
        self._begun[at] += 1
        return self._begun[at]


class _Describer:
    """The body of a worker; rows are plain values, which Ray Data keeps in tables."""

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
        except FolderInUseError as error:  # perhaps by a worker that was taken for lost
            outcome = FilmOutcome("", (f"{folder.name}: {error}",))
        except LongVideoEnvError as error:
            return {**found, "fault": str(error)}
        except Exception as error:  # noqa: BLE001 - such as a reader of the user's that is wrong
            why = f"{folder.name}: {type(error).__name__}: {error!s:.300}"
            outcome = FilmOutcome("", (why,))
        return {**found, "said": outcome.said, "failures": json.dumps(outcome.failures)}


def describe_films(
    folders: Sequence[Path], maker: LayerMaker, options: RayOptions, n_workers: int
) -> Iterator[tuple[str, FilmOutcome]]:
    """Make a layer of each folder; gives the node and what became of a film, as films are done.

    Args:
        folders: Where the films were ingested; all nodes must see them.
        maker: What makes the layer.
        options: What each worker gets.
        n_workers: How many.

    Raises:
        SpecError: What makes the layer has no meaning on a node, or needs a package.
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
        yield "no node", FilmOutcome("", (f"{folder.name}: Ray gave it up; its logs say why.",))


def _ray_data() -> Any:
    try:
        from ray import data
    except ImportError as error:
        raise MissingExtraError(error.name or "pyarrow", "ray") from error
    return data


@contextmanager
def _quiet(data: Any) -> Iterator[None]:
    """Let a lost film be no error of the whole, and Ray Data say nothing of its own."""
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
    """Drop what Ray's core, which knows no Python, writes to this process's standard error.

    It warns of each worker of Ray Data that it could not be started again; no option hinders it.
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
