"""Base of all protocols: a reply is parsed into an action, or into what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypedDict

from longvideo_env.schema import FrameRef

ANSWER = "answer"
"""Name of the action that ends an episode. No tool may have this name."""

_OPTION = re.compile(r"a([0-9]{1,2})")


class MalformedKind(str, Enum):
    """The ways in which a reply can be malformed. Each has a block in the words file."""

    NO_ACTION = "no_action"
    SEVERAL_ACTIONS = "several_actions"
    UNCLOSED = "unclosed"
    EMPTY = "empty"
    UNKNOWN_OPTION = "unknown_option"
    NOT_A_LABEL = "not_a_label"
    UNAVAILABLE = "unavailable"
    WRONG_ARGUMENTS = "wrong_arguments"
    BROKEN_CALL = "broken_call"
    UNKNOWN_TOOL = "unknown_tool"


class _Said(TypedDict):
    role: str
    content: str


class Message(_Said, total=False):
    """A chat message in the OpenAI format.

    Attributes:
        role: `system`, `user`, `assistant`, or `tool`.
        content: Its text.
        reasoning_content: The assistant's reasoning, if it was written separately.
        tool_calls: The assistant's calls: `{"id", "type", "function": {"name", "arguments"}}`,
            with the arguments as JSON text.
        tool_call_id: Id of the call that a tool message answers.
        name: Name of that tool.
        frames: The frames shown with it, for a master that sees.
    """

    reasoning_content: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str
    name: str
    frames: tuple[FrameRef, ...]


@dataclass(frozen=True, slots=True)
class TagSet:
    """The tags in a prompt. The parser understands the tags of every set.

    Attributes:
        name: `reference` (the published code and checkpoints) or `paper`.
        reasoning: Tag of the reasoning block.
        answer: Tag of the answer.
        reply: Tag around a tool's text.
        view: Tag around clips.
    """

    name: str
    reasoning: str = "reasoning"
    answer: str = ANSWER
    reply: str = "information"
    view: str = "New_clip"


TAG_SETS = {name: TagSet(name) for name in ("reference", "paper")}


@dataclass(frozen=True, slots=True)
class Action:
    """One action.

    Attributes:
        name: A tool's name, or `answer`.
        argument: The text written for it: a query, an option's label such as `a3`, a free-text
            answer, or JSON. None if empty.
        arguments: The tool's arguments, checked.
    """

    name: str
    argument: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def choice(self) -> int | None:
        """Index of the option if the action is an answer that names one."""
        if self.name != ANSWER or self.argument is None:
            return None
        match = _OPTION.fullmatch(self.argument)
        return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Malformed:
    """A reply that is not exactly one action.

    Attributes:
        kind: What is wrong.
        details: Fields for the message about it: `tag`, `said`, `n`, ...
    """

    kind: MalformedKind
    details: Mapping[str, Any] = field(default_factory=dict)


Outcome: TypeAlias = Action | Malformed


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A parsed reply.

    Attributes:
        outcome: Its action, or what is wrong with it.
        has_reasoning: Whether it has a closed, non-empty block of reasoning.
    """

    outcome: Outcome
    has_reasoning: bool


class Answers(Protocol):
    """How answers are written in a game. Implemented by `answers.AnswerForm`."""

    @property
    def ask(self) -> str:
        """As `EnvConfig.ask`."""
        ...

    @property
    def labels(self) -> str:
        """As `EnvConfig.labels`."""
        ...

    def label(self, index: int) -> str:
        """The label of an option, as shown."""
        ...

    def shown(self, options: Sequence[str]) -> tuple[str, ...]:
        """Options as shown."""
        ...


class ReplyProtocol(Protocol):
    """How tools are offered, and how actions are written and parsed.

    Attributes:
        name: As in `EnvConfig.protocol`.
        tags: The tag set for the prompt.
        continues: Whether the whole episode is one assistant turn, to which observations are
            appended unchanged.
    """

    name: str
    tags: TagSet
    continues: bool

    @property
    def answers(self) -> Answers:
        """How answers are written."""
        ...

    def parse(self, text: str, options: int | Sequence[str]) -> ParsedReply:
        """Parse a reply, including the part that the chat template wrote. Never raises."""
        ...

    def said(self, text: str, turn: int) -> Message:
        """A reply as a message of the conversation."""
        ...

    def heard(self, said: Message, text: str) -> list[Message]:
        """An observation as the messages after a reply."""
        ...

    def schemas(
        self, n_options: int, purpose: str = "", argument: str = ""
    ) -> tuple[dict[str, Any], ...]:
        """The tools as JSON schemas, if they are sent beside the messages; otherwise empty.

        Args:
            n_options: Number of options of the question.
            purpose: Description of the tool `answer`.
            argument: Description of its argument.
        """
        ...

    def complete(self, text: str) -> bool:
        """Whether an unfinished reply already contains its action, so that generation can stop."""
        ...

    @property
    def endings(self) -> list[str]:
        """All texts that can end a reply. Empty if only the model ends it."""
        ...

    @property
    def stop_strings(self) -> list[str]:
        """The endings of the offered actions."""
        ...

    def tag(self, name: str) -> str:
        """The name under which a tool or the answer is shown."""
        ...

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """Write an action after its reasoning: the inverse of `parse`."""
        ...

    def neutralise(self, text: str) -> str:
        """Escape text from outside, so that it cannot be parsed as an action."""
        ...


def option_label(index: int) -> str:
    """The label of an option inside the library, `a0` onward; see `answers.AnswerForm`."""
    return f"a{index}"
