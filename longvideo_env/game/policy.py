"""What a master agent, or policy, is: text and tokens in, a reply out.

A policy never sees a `Gold`. A policy that works on tokens brings a `Codec`, which turns messages
into token ids once, when they are appended: what was sampled is never decoded and encoded again.
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
"""Why a reply ended: an action's closing tag, the model's end-of-turn token, the limit of tokens
a turn, or no room left in the model's context (the reply is then empty)."""


class Observation(NamedTuple):
    """What the master agent gets to read next: fields, and the text that was made of them once.

    Attributes:
        text: As the master reads it.
        kind: `opening`, `reply` (of a tool), `refused`, or `malformed`.
        turns_left: Turns that it still has.
        view: Ids of the clips before it.
        moved: Whether these clips are new, so that their lines are shown.
        lines: Lines of dialogue that this observation shows, clip by clip.
        options: The options, in the opening.
        tool: The tool that replied or refused.
        reply: The tool's text.
        problem: What was wrong with the reply before.
        length_s: Seconds of the whole video, in the opening.
        times: Start and end of each clip of the view, in seconds of the video, where the question
            asks when.
        sight: The frames that come with it, where the master sees and there is a view to see.
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
        """The frames that come with it."""
        return () if self.sight is None else self.sight.frames


@dataclass(frozen=True, slots=True)
class Reply:
    """What the policy wrote in one turn.

    Attributes:
        text: Its words, as sampled.
        token_ids: The sampled tokens, or None for a policy without tokens.
        logprobs: Log-probability of each sampled token among all tokens at the sampling
            temperature (at temperature 1 where decoding is greedy), before top-k and top-p; or
            None.
        prefix: What the chat template put at the head of the reply, such as `<think>`; belongs
            to the reply when it is parsed.
        finish: Why it ended.
        usage: What it used, for policies that count: tokens, requests, money.
        message: The same as an assistant's message, where calls of functions are read off the
            tokens (see `game.protocol.functions`).
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
        """What the protocol reads."""
        return written_as(self.message, self.prefix + self.text)


@dataclass(frozen=True, slots=True)
class Context:
    """All that a policy may know when it replies.

    Attributes:
        question: The question; no gold.
        game: The game: which tools there are, and how actions are written.
        messages: The conversation so far, as chat messages.
        observations: What the master was shown, as fields; the last one is new.
        segments: The same as the policy's codec rendered it.
        turn: This turn, counted from 1.
        seed: Seeds whatever the policy draws in this turn.
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
        """Everything so far as token ids; empty for a policy without tokens."""
        return [i for segment in self.segments for i in segment.token_ids or ()]

    @property
    def frames(self) -> tuple[FrameRef, ...]:
        """Every frame that was shown so far, in order."""
        return tuple(frame for segment in self.segments for frame in segment.frames)

    @property
    def is_last(self) -> bool:
        """Whether this turn is the last one."""
        return self.turn >= self.game.max_turns

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """An action as the game's protocol has it, behind reasoning."""
        return self.game.protocol.write(action, reasoning)

    @property
    def tools(self) -> tuple[dict[str, Any], ...]:
        """The JSON schemas that are sent beside the messages; empty where the rules name them."""
        return self.game.schemas(len(self.question.options))


class Codec(Protocol):
    """Renders messages into segments. What it renders is never sampled (masked 0).

    Attributes:
        protocol: Says when a reply is complete; the engine sets it.
    """

    protocol: ReplyProtocol

    def open(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Segment]:
        """The segments of the first prompt, up to where the reply begins.

        Args:
            messages: The messages.
            tools: JSON schemas; given only where the protocol offers tools beside the messages.
        """
        ...

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        """What ends the assistant's turn, if the reply did not: the end-of-turn token."""
        ...

    def observe(self, text: str, turn: int, frames: tuple[FrameRef, ...] = ()) -> list[Segment]:
        """The segments of an observation, up to where the next reply begins.

        Args:
            text: The observation.
            turn: The turn.
            frames: What comes with it; given only to policies that see, where there are some.
        """
        ...

    def answer(self, messages: Sequence[Message], turn: int) -> list[Segment]:
        """The same for the results of calls; only protocols with calls ask for it.

        Args:
            messages: The tools' messages, one for each call of the reply.
            turn: The turn.
        """
        ...


class TextCodec:
    """For policies that read messages and write text: one segment a message, no tokens."""

    protocol: ReplyProtocol  # set by the engine; text needs none

    def open(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Segment]:
        """One segment a message, behind one for the tools if there are some."""
        offered = [Segment("tools", json.dumps(list(tools), ensure_ascii=False))] if tools else []
        return offered + [
            Segment(m["role"], m["content"], turn=0, frames=m.get("frames", ())) for m in messages
        ]

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        """Nothing: text needs no end-of-turn token."""
        return []

    def observe(self, text: str, turn: int, frames: tuple[FrameRef, ...] = ()) -> list[Segment]:
        """The observation as a user's message."""
        return [Segment("user", text, turn=turn, frames=frames)]

    def answer(self, messages: Sequence[Message], turn: int) -> list[Segment]:
        """The results as one message: all of a reply's calls get the same."""
        frames = messages[-1].get("frames", ())
        return [Segment("tool", messages[0]["content"], turn=turn, frames=frames)]


class Policy(Protocol):
    """The master agent.

    Attributes:
        codec: How it wants messages rendered.
    """

    codec: Codec

    async def act(self, context: Context, /) -> Reply:
        """Write the reply of one turn. Many may be unfinished at once; a policy may batch them.

        Raises:
            PolicyError: No reply could be had. The episode counts as failed.
        """
        ...

    async def aclose(self) -> None:
        """Let go of whatever the policy holds (a model, connections)."""
        ...


@runtime_checkable
class SeeingPolicy(Protocol):
    """A policy whose model takes images: it is told so before anything is played."""

    def see(self, resolution: int) -> None:
        """Take the frames of messages (`Message.frames`, `Segment.frames`) as pictures.

        Args:
            resolution: Longest side in pixels; larger frames are made smaller.

        Raises:
            SpecError: The model takes no images.
        """
        ...


def let_see(policy: Policy, spec: str, resolution: int) -> None:
    """Tell a policy to look at frames.

    Raises:
        SpecError: It cannot.
    """
    if not isinstance(policy, SeeingPolicy):
        raise reads_only(spec)
    policy.see(resolution)


def reads_only(spec: str) -> SpecError:
    """That a policy cannot see."""
    return SpecError(
        f"the policy {spec} reads text: it cannot be shown frames. Fix: leave frames at 0, or take "
        "a model that takes images (openai:MODEL, or hf:PATH of a vision-language model), or a "
        "function with a parameter `frames`."
    )
