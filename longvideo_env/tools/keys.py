"""Keys of recorded tool calls: everything that a reply depends on.

A `Keyed` agent defines the key itself, for example from its model, its prompt and the image bytes.
For other agents, the key consists of the request, the agent's spec and the video's texts.

The seed is part of the key only if the agent read it. So all samples of a question, other epochs
and other seeds share a call, while an agent that draws at random still draws for each seed. The
seed is never added to the key of a `Keyed` agent. This is intended for models behind an endpoint:
one paid reply serves all samples, and servers do not guarantee the same reply for the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from longvideo_env.records.identity import video_digest
from longvideo_env.tools.tool import ToolCall


@runtime_checkable
class Keyed(Protocol):
    """An agent that defines the key of its replies."""

    def record_key(self, request: Any, /) -> Mapping[str, Any]:
        """Plain values. If they are equal for two requests, one reply must serve both."""
        ...


def call_key(agent: object, spec: str, request: ToolCall) -> Mapping[str, Any]:
    """The key of a request, without the seed."""
    if isinstance(agent, Keyed):
        return agent.record_key(request)
    question = request.question
    record = request.record()
    del record["seed"]
    record["visited"] = sorted(request.visited)  # the order does not matter
    return {
        "agent": spec,
        **record,
        "question": question.text,
        "options": list(question.options),
        "video": video_digest(request.video),
    }


def seed_counts(agent: object, call: ToolCall) -> bool:
    """Whether the reply depends on the seed. Never for a `Keyed` agent."""
    return not isinstance(agent, Keyed) and call.seed_was_read
