"""The interface of a policy, or master agent: text and tokens in, a reply out.

A policy never sees a `Gold`. A policy that works on tokens has a `Codec`. It encodes each message
once, when it is appended. Sampled tokens are never decoded and encoded again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import Action, ReplyProtocol
from longvideo_env.game.protocol.base import Message as Message  # policies read them
from longvideo_env.game.sight import Sight
from longvideo_env.records.trajectory import Segment, written_as
from longvideo_env.schema import FrameRef, Question, TimedText
from longvideo_env.spans import Span

FinishReason: TypeAlias = Literal["stop", "end_of_turn", "length", "context"]
"""Why a reply ended: an action's closing tag, the model's end-of-turn token, the token limit per
turn, or a full context (the reply is then empty)."""


class Observation(NamedTuple):
    """What the master agent reads next: fields, and the text rendered from them.

    Attributes:
        text: The text that the master reads.
        kind: `opening`, `reply` (of a tool), `refused`, or `malformed`.
        turns_left: Number of turns left.
        view: Ids of the clips in view.
        moved: Whether the view is new, so that its lines are shown.
        lines: Lines of dialogue in this observation, per clip.
        options: The options, in the opening.
        tool: The tool that replied or refused.
        reply: The tool's text.
        problem: What was wrong with the previous reply.
        length_s: Seconds of the whole video, in the opening.
        times: Start and end of each clip of the view, in seconds of the video, if the question asks
            "when".
        sight: The frames shown with it, if the master sees frames.
    """

    text: str
    kind: str
    turns_left: int
    view: tuple[str, ...]
    moved: bool = False
    lines: tuple[TimedText, ...] = ()
    options: tuple[str, ...] = ()
    tool: str | None = None
    reply: str | None = None
    problem: str | None = None
    length_s: float | None = None
    times: tuple[Span, ...] = ()
    sight: Sight | None = None

    @property
    def frames(self) -> tuple[FrameRef, ...]:
        """The frames shown with it."""
        return () if self.sight is None else self.sight.frames


@dataclass(frozen=True, slots=True)
class Reply:
    """The policy's reply in one turn.

    Attributes:
        text: The text as sampled.
        token_ids: The sampled tokens, or None for a policy without tokens.
        logprobs: Log-probability of each sampled token at the sampling temperature (at 1 for greedy
            decoding), before top-k and top-p; or None.
        prefix: What the chat template wrote before the reply, such as `<think>`. It is parsed as
            part of the reply.
        finish: Why the reply ended.
        usage: Tokens, requests and money used, if the policy counts them.
        message: The reply as an assistant message, if function calls were parsed from the tokens
            (see `game.protocol.functions`).
    """

    text: str
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    prefix: str = ""
    finish: FinishReason = "end_of_turn"
    usage: Mapping[str, Any] | None = None
    message: Mapping[str, Any] | None = None

    @property
    def written(self) -> str:
        """The text that the protocol parses."""
        return written_as(self.message, self.prefix + self.text)


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a policy may use to reply.

    Attributes:
        question: The question; no gold.
        game: The game, with its tools and protocol.
        messages: The conversation so far, as chat messages.
        observations: All observations so far, as fields; the last one is new.
        segments: The conversation as rendered by the policy's codec.
        turn: This turn, from 1.
        seed: Seed for the policy's random draws in this turn.
    """

    question: Question
    game: Game
    messages: Sequence[Message]
    observations: Sequence[Observation]
    segments: Sequence[Segment]
    turn: int
    seed: int

    @property
    def token_ids(self) -> list[int]:
        """The whole conversation as token ids. Empty for a policy without tokens."""
        return [i for segment in self.segments for i in segment.token_ids or ()]

    @property
    def frames(self) -> tuple[FrameRef, ...]:
        """All frames shown so far, in order."""
        return tuple(frame for segment in self.segments for frame in segment.frames)

    @property
    def is_last(self) -> bool:
        """Whether this turn is the last one."""
        return self.turn >= self.game.max_turns

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """Write an action in the game's protocol, after the reasoning."""
        return self.game.protocol.write(action, reasoning)

    @property
    def tools(self) -> tuple[dict[str, Any], ...]:
        """JSON schemas of the tools sent beside the messages.

        Empty if the prompt names the tools.
        """
        return self.game.schemas(len(self.question.options))


class Codec(Protocol):
    """Renders messages into segments. These are not sampled, so the loss mask is 0.

    Attributes:
        protocol: Decides when a reply is complete. Set by the engine.
    """

    protocol: ReplyProtocol

    def open(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Segment]:
        """The segments of the first prompt, up to the start of the reply.

        Args:
            messages: The messages.
            tools: JSON schemas. Only given if the protocol sends tools beside the messages.
        """
        ...

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        """The end-of-turn token, if the reply did not end with it."""
        ...

    def observe(self, text: str, turn: int, frames: tuple[FrameRef, ...] = ()) -> list[Segment]:
        """The segments of an observation, up to the start of the next reply.

        Args:
            text: The observation.
            turn: The turn.
            frames: Its frames. Only given to policies that see.
        """
        ...

    def answer(self, messages: Sequence[Message], turn: int) -> list[Segment]:
        """The segments of tool results. Only used by protocols with function calls.

        Args:
            messages: The tools' messages, one for each call of the reply.
            turn: The turn.
        """
        ...


class TextCodec:
    """For policies that read messages and write text: one segment per message, no tokens."""

    protocol: ReplyProtocol  # set by the engine; not used for text

    def open(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Segment]:
        """One segment per message, after one for the tools if there are any."""
        offered = [Segment("tools", json.dumps(list(tools), ensure_ascii=False))] if tools else []
        return offered + [
            Segment(m["role"], m["content"], turn=0, frames=m.get("frames", ())) for m in messages
        ]

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        """Empty: text needs no end-of-turn token."""
        return []

    def observe(self, text: str, turn: int, frames: tuple[FrameRef, ...] = ()) -> list[Segment]:
        """The observation as a user message."""
        return [Segment("user", text, turn=turn, frames=frames)]

    def answer(self, messages: Sequence[Message], turn: int) -> list[Segment]:
        """The results as one message. All calls of a reply get the same result."""
        frames = messages[-1].get("frames", ())
        return [Segment("tool", messages[0]["content"], turn=turn, frames=frames)]


class Policy(Protocol):
    """The master agent.

    Attributes:
        codec: Renders the messages for it.
    """

    codec: Codec

    async def act(self, context: Context, /) -> Reply:
        """Write the reply of one turn.

        Called concurrently for many episodes; a policy may batch them.

        Raises:
            PolicyError: No reply could be produced. The episode counts as failed.
        """
        ...

    async def aclose(self) -> None:
        """Release what the policy holds: a model, connections."""
        ...


@runtime_checkable
class SeeingPolicy(Protocol):
    """A policy whose model takes images. `see` is called before the first episode."""

    def see(self, resolution: int) -> None:
        """Send the frames of messages (`Message.frames`, `Segment.frames`) to the model as images.

        Args:
            resolution: Longest side in pixels. Larger frames are scaled down.

        Raises:
            SpecError: The model takes no images.
        """
        ...


def let_see(policy: Policy, spec: str, resolution: int) -> None:
    """Switch a policy to seeing frames.

    Raises:
        SpecError: The policy takes no images.
    """
    if not isinstance(policy, SeeingPolicy):
        raise reads_only(spec)
    policy.see(resolution)


def reads_only(spec: str) -> SpecError:
    """The error for a policy that cannot see frames."""
    return SpecError(
        f"the policy {spec} reads text: it cannot be shown frames. Fix: leave frames at 0, or use "
        "a model that takes images (openai:MODEL, or hf:PATH of a vision-language model), or a "
        "function with a parameter `frames`."
    )
