"""Sessions of a server. Each player has its own environment. The number of sessions is limited."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, fields
from typing import Any

from longvideo_env.drivers.env import LongTVQAEnv
from longvideo_env.errors import EpisodeStateError, LongVideoEnvError, SpecError
from longvideo_env.integrations.serve.wire import ENV_NAME, LongTVQAState, ResetData, observation


@dataclass(frozen=True)
class ServerLimits:
    """Limits of a server.

    Raises:
        SpecError: A limit is not above 0.
    """

    max_sessions: int = field(
        default=1024, metadata={"help": "Sessions at once. One more is refused."}
    )
    max_message_kb: int = field(
        default=256, metadata={"help": "Size of a client's message. A larger one is refused."}
    )
    idle_s: float = field(
        default=600.0, metadata={"help": "Seconds after which a session that is not used ends."}
    )
    max_in_flight: int = field(
        default=256,
        metadata={
            "help": "Requests worked on at once. Sessions wait for a place; an HTTP request "
            "without one is refused."
        },
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) > 0:
                given = getattr(self, item.name)
                raise SpecError(f"{item.name} must be above 0, got {given}.")


class SessionLimitError(LongVideoEnvError):
    """The maximum number of sessions is reached."""


class UnknownSessionError(LongVideoEnvError):
    """No session has this id, or another connection uses it."""


class PlayerSession:
    """A player with an environment and its state.

    Attributes:
        id: Secret id, known only to its client.
        used_at: Time of last use on the monotonic clock.
        attached: Whether a WebSocket holds the session and controls its lifetime.
        closing: Whether the session ends when that WebSocket releases it.
    """

    def __init__(self, env: LongTVQAEnv, counts: Counter[str]) -> None:
        self.id = uuid.uuid4().hex
        self.used_at = time.monotonic()
        self.attached = False
        self.closing = False
        self.env = env
        self._counts = counts
        self._turn = asyncio.Lock()
        self._episode_id: str | None = None
        self._info: dict[str, Any] | None = None
        self._done = False

    async def reset(self, data: ResetData) -> dict[str, Any]:
        """Open a question.

        Raises:
            SpecError: No question has this id.
            ToolError: The first clip could not be chosen.
        """
        options = {} if (qid := self._qid(data)) is None else {"qid": qid}
        async with self._turn:
            self._info, self._done = None, False
            shown, self._info = await self.env.reset_async(seed=data.seed, options=options)
            self._episode_id = data.episode_id or uuid.uuid4().hex
            self._counts["episodes"] += 1
            return observation(shown, self._info, None, False)

    async def step(self, text: str) -> dict[str, Any]:
        """Take a turn.

        Raises:
            EpisodeStateError: There is no episode, or it is over.
        """
        async with self._turn:
            if self._info is None or self._done:
                what = "the episode is over" if self._done else "no episode was started"
                raise EpisodeStateError(f"{what}. Fix: reset first.")
            shown, reward, terminated, truncated, info = await self.env.step_async(text)
            self._info, self._done = info, terminated or truncated
            self._counts["steps"] += 1
            if not self._done:
                return observation(shown, info, reward, False)
            self._counts["ended" if info["reward_valid"] else "ended without reward"] += 1
            return observation(shown, info, reward if info["reward_valid"] else None, True)

    def state(self) -> dict[str, Any]:
        """The state of the session. Contains no gold, even after the episode."""
        info = self._info
        if info is None:
            return LongTVQAState().model_dump()
        return {
            "episode_id": self._episode_id,
            "step_count": info["turn"],
            "qid": info["qid"],
            "video_id": info["video_id"],
            "turns_left": info["turns_left"],
            "done": self._done,
        }

    def _qid(self, data: ResetData) -> int | str | None:
        dataset = self.env.dataset
        if data.split not in (None, dataset.split):
            raise SpecError(f"no split {data.split!r}: this server plays {dataset.split}.")
        if data.index is None:
            return data.qid
        if data.qid is not None:
            raise SpecError("both qid and index were given. Fix: give one of them.")
        if data.index >= len(dataset):
            raise SpecError(f"no question {data.index}: there are {len(dataset)}, from 0.")
        return dataset.tasks[data.index].qid


class Sessions:
    """All sessions of a server.

    Args:
        env: The environment. Each session gets its own twin.
        limits: Maximum number of sessions and their idle time.

    Attributes:
        counts: Counts of events so far, by name.
    """

    def __init__(self, env: LongTVQAEnv, limits: ServerLimits) -> None:
        self.env = env
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self._all: OrderedDict[str, PlayerSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def open(self, *, attached: bool = False) -> PlayerSession:
        """A new session.

        Raises:
            SessionLimitError: The maximum number of sessions is reached.
        """
        self.drop_idle()
        if len(self._all) >= self.limits.max_sessions:
            self.counts["sessions refused"] += 1
            raise SessionLimitError(
                f"all {self.limits.max_sessions} sessions are in use. Fix: close a session, wait, "
                "or start the server with a higher --max-sessions."
            )
        session = PlayerSession(self.env.twin(), self.counts)
        session.attached = attached
        self._all[session.id] = session
        self.counts["sessions"] += 1
        return session

    def find(self, session_id: object) -> PlayerSession:
        """Find a session by its id. This counts as use.

        Raises:
            UnknownSessionError: There is no such session, or it has ended.
        """
        self.drop_idle()
        session = self._all.get(session_id) if isinstance(session_id, str) else None
        if session is None:
            raise UnknownSessionError(
                f"unknown session {session_id!r:.80}. Fix: open a new one. Sessions end after "
                f"{self.limits.idle_s:g} s without use."
            )
        session.used_at = time.monotonic()
        self._all.move_to_end(session.id)
        return session

    def attach(self, session_id: str) -> PlayerSession:
        """Give a session to a WebSocket, which holds it until `release`.

        Raises:
            UnknownSessionError: There is no such session, or another WebSocket holds it.
        """
        session = self.find(session_id)
        if session.attached:
            raise UnknownSessionError(
                f"session {session_id!r:.80} is already in use by another WebSocket."
            )
        session.attached = True
        return session

    def release(self, session: PlayerSession) -> None:
        """Release a session from its WebSocket. It lives on until it is closed or idle."""
        session.attached = False
        session.used_at = time.monotonic()
        if session.closing:
            self.close(session)
        elif session.id in self._all:
            self._all.move_to_end(session.id)

    def close(self, session: PlayerSession) -> None:
        """End a session."""
        self._all.pop(session.id, None)

    def drop_idle(self) -> None:
        """End idle sessions that no WebSocket holds."""
        oldest = time.monotonic() - self.limits.idle_s
        idle = []
        for session in self._all.values():
            if session.used_at > oldest:
                break
            if not session.attached:
                idle.append(session)
        for session in idle:
            self.close(session)
            self.counts["sessions ended idle"] += 1


def splits(env: LongTVQAEnv) -> list[dict[str, str]]:
    """The split of this server, in the format of OpenEnv's task routes."""
    name = env.dataset.split
    return [{"name": name, "type": name if name in ("train", "test") else "validation"}]


def tasks(env: LongTVQAEnv, start: int, stop: int) -> list[dict[str, Any]]:
    """Questions by position, without gold."""
    return [
        {
            "id": f"{ENV_NAME}-{task.qid}",
            "index": index,
            "qid": task.qid,
            "video_id": task.question.video_id,
        }
        for index, task in enumerate(env.dataset.tasks[start:stop], start)
    ]
