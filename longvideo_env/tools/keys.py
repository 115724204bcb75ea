"""What the reply to a tool call depends on: the key under which it is recorded.

A call is keyed by its content: the agent, and all that its reply can depend on. An agent that
knows better than the request what that is (which model, which prompt, which bytes) is `Keyed`;
for the others the request, the agent's spec and the texts of the video make the key.

The seed belongs to the key only where the agent has read it. So all samples of a question, a second
epoch and another seed share a call, and an agent that draws still draws anew for each seed. What a
`Keyed` agent says is final: no seed is added. For a model behind an endpoint that is meant: what it
said once serves all samples, because a paid reply is worth sharing and no server promises to repeat
itself for a seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from longvideo_env.records.identity import video_digest
from longvideo_env.tools.tool import ToolCall


@runtime_checkable
class Keyed(Protocol):
    """An agent that says itself what its reply to a request depends on."""

    def record_key(self, request: Any, /) -> Mapping[str, Any]:
        """Plain values; equal values must mean that one reply serves for both requests."""
        ...


def call_key(agent: object, spec: str, request: ToolCall) -> Mapping[str, Any]:
    """What the reply to a request depends on, besides the seed."""
    if isinstance(agent, Keyed):
        return agent.record_key(request)
    question = request.question
    record = request.record()
    del record["seed"]
    record["visited"] = sorted(request.visited)  # shown in another order, it is the same set
    return {
        "agent": spec,
        **record,
        "question": question.text,
        "options": list(question.options),
        "video": video_digest(request.video),
    }


def seed_counts(agent: object, call: ToolCall) -> bool:
    """Whether the reply depends on the seed; a `Keyed` agent has said all in its key."""
    return not isinstance(agent, Keyed) and call.seed_was_read
