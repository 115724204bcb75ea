"""A worker of a cluster. It has a policy and the tools, and plays the episodes that it is given."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from agents.cluster.joining import work_in
from agents.generation.settings import GenerationSettings
from eval.cluster.shared_recording import RemoteRecording
from eval.runs.identify import identify
from eval.runs.run_options import RunOptions
from eval.runs.session import Session, build_engine, open_session
from longvideo_env import EnvConfig
from longvideo_env.errors import LongVideoEnvError, PolicyError, SpecError
from longvideo_env.records.identity import Identity
from longvideo_env.records.trajectory import Trajectory

Key: TypeAlias = tuple[str, int]
"""`str(qid)` and the sample of an episode."""

LINGER_S = 0.02
"""Seconds that a worker waits for further results after the first, to send fewer messages."""

_HERE = ("code", "endpoint")
"""Parts of an identity that depend on the process. The driver has checked them."""


@dataclass(frozen=True)
class Recipe:
    """Everything that a worker needs to start.

    Attributes:
        spec: The policy.
        run: The options of the run.
        config: The environment.
        settings: The generation settings of a model.
        folder: The folder that the command was started in, for relative paths and user parts.
        identity: Hashes of the driver's material. A worker with other material is refused.
    """

    spec: Any
    run: RunOptions
    config: EnvConfig
    settings: GenerationSettings
    folder: str
    identity: Mapping[str, str]


class EpisodeWorker:
    """The body of the actor.

    Args:
        packed: The pickled recipe. If it cannot be read, `start` returns the error.
        server: The actor with the recording, or None.
        name: This worker's name.
    """

    def __init__(self, packed: bytes, server: Any, name: str) -> None:
        self._packed, self._server, self._name = packed, server, name
        self._finished: list[tuple[Key, Trajectory]] = []
        self._fault: Exception | None = None
        self._some = asyncio.Event()
        self._playing: set[asyncio.Task[None]] = set()

    async def start(self) -> str | Exception:
        """Load the dataset and the policy. Returns the node, or an error."""
        try:
            return self._start()
        except LongVideoEnvError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the driver reports it in one line
            return PolicyError(f"a worker cannot start: {type(error).__name__}: {error!s:.300}")

    async def exchange(
        self, keys: Sequence[Key]
    ) -> tuple[list[tuple[Key, Trajectory]], Exception | None]:
        """Take further episodes, wait for a finished one, and return all finished ones.

        Returns:
            Finished episodes with their keys, and an error of this worker. After an error it plays
            nothing more.
        """
        for key in keys:
            playing = asyncio.ensure_future(self._play(key))
            self._playing.add(playing)
            playing.add_done_callback(self._playing.discard)
        if self._fault is None:
            await self._some.wait()
        if self._playing:
            await asyncio.wait(self._playing, timeout=LINGER_S)
        self._some.clear()
        finished, self._finished = self._finished, []
        return finished, self._fault

    def _start(self) -> str:
        import ray
        from ray import cloudpickle

        context = ray.get_runtime_context()
        recipe: Recipe = cloudpickle.loads(self._packed)
        work_in(recipe.folder)
        config = recipe.config
        session = open_session(recipe.run, replace(config, recording="off"), recipe.settings)
        if self._server is not None:
            recording = RemoteRecording(self._server, self._name, config.recording)
            session = replace(session, toolbox=replace(session.toolbox, recording=recording))
        self._check(recipe, session)
        self._engine = build_engine(recipe.spec, replace(session, config=config))
        self._places = asyncio.Semaphore(recipe.run.concurrency)
        return f"{ray.util.get_node_ip_address()}#{context.get_node_id()[:6]}"

    def _check(self, recipe: Recipe, session: Session) -> None:
        mine = identify(recipe.spec, recipe.config, session.dataset).parts
        shared = {name: value for name, value in mine.items() if name not in _HERE}
        theirs = {name: recipe.identity.get(name) for name in shared}
        if different := Identity(shared).difference(theirs):
            raise SpecError(
                f"node {os.uname().nodename} has other material than the driver: "
                f"{', '.join(different)}. Fix: put the same dataset, model and release on all "
                "nodes."
            )

    async def _play(self, key: Key) -> None:
        qid, sample = key
        try:
            async with self._places:
                task = self._engine.dataset.task(qid)
                played = await self._engine.play(task, sample)
            self._finished.append((key, played))
        except Exception as error:  # noqa: BLE001 - such as a recording that cannot be written
            ours = isinstance(error, LongVideoEnvError)
            self._fault = error if ours else PolicyError(f"{type(error).__name__}: {error!s:.300}")
        self._some.set()
