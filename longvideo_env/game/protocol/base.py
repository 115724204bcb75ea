"""What every protocol shares: a reply's text becomes an action, or says what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypedDict

from longvideo_env.schema import FrameRef

ANSWER = "answer"
"""Name of the action that ends an episode. No tool may have it."""

_OPTION = re.compile(r"a([0-9]{1,2})")


class MalformedKind(str, Enum):
    """The ways in which a reply can fail to be one action. Each has a block in the words file."""

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
    """A chat message, in the OpenAI form.

    Attributes:
        role: `system`, `user`, `assistant`, or `tool`.
        content: Its text.
        reasoning_content: The assistant's reasoning, where it was written apart.
        tool_calls: The assistant's calls: `{"id", "type", "function": {"name", "arguments"}}`,
            with the arguments as JSON text.
        tool_call_id: The call that a tool's message answers.
        name: That tool.
        frames: The frames that come with it, for a master who sees.
    """

    reasoning_content: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str
    name: str
    frames: tuple[FrameRef, ...]


@dataclass(frozen=True, slots=True)
class TagSet:
    """The tags that a prompt shows. The parser of tags understands every set.

    Attributes:
        name: `reference` (the published code and checkpoints) or `paper`.
        reasoning: Tag of the reasoning block.
        answer: Tag of the answer.
        reply: Block in which a tool's text is shown.
        view: Block in which clips are shown.
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
        argument: What was written: a query, the option's label such as `a3`, the answer in words
            where there are no options, or JSON; None where nothing was.
        arguments: The tool's arguments, checked.
    """

    name: str
    argument: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def choice(self) -> int | None:
        """Index of the option, for an answer that names one."""
        if self.name != ANSWER or self.argument is None:
            return None
        match = _OPTION.fullmatch(self.argument)
        return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Malformed:
    """A reply that is not exactly one action.

    Attributes:
        kind: What is wrong.
        details: Fields for the sentence that says so: `tag`, `said`, `n`, ...
    """

    kind: MalformedKind
    details: Mapping[str, Any] = field(default_factory=dict)


Outcome: TypeAlias = Action | Malformed


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A reply, understood.

    Attributes:
        outcome: Its action, or what is wrong with it.
        has_reasoning: Whether it holds a closed block of reasoning that is not empty.
    """

    outcome: Outcome
    has_reasoning: bool


class Answers(Protocol):
    """How answers are written in a game; `answers.AnswerForm` is it."""

    @property
    def ask(self) -> str:
        """As `EnvConfig.ask`."""
        ...

    @property
    def labels(self) -> str:
        """As `EnvConfig.labels`."""
        ...

    def label(self, index: int) -> str:
        """The label of an option, as it is shown."""
        ...

    def shown(self, options: Sequence[str]) -> tuple[str, ...]:
        """Options as they are shown."""
        ...


class ReplyProtocol(Protocol):
    """How tools are offered, and how actions are written and read.

    Attributes:
        name: As in `EnvConfig.protocol`.
        tags: The tag set that the words may show.
        continues: Whether the whole episode is one turn of the assistant, in which observations
            are appended as they are.
    """

    name: str
    tags: TagSet
    continues: bool

    @property
    def answers(self) -> Answers:
        """How answers are written."""
        ...

    def parse(self, text: str, options: int | Sequence[str]) -> ParsedReply:
        """Understand a reply, with what the chat template opened it with. Never raises."""
        ...

    def said(self, text: str, turn: int) -> Message:
        """A reply as the message that stays in the conversation."""
        ...

    def heard(self, said: Message, text: str) -> list[Message]:
        """An observation as the messages that follow a reply."""
        ...

    def schemas(
        self, n_options: int, purpose: str = "", argument: str = ""
    ) -> tuple[dict[str, Any], ...]:
        """The tools as JSON schemas, where they are offered beside the messages; else nothing.

        Args:
            n_options: How many options the question has.
            purpose: What the tool `answer` does.
            argument: What its argument is.
        """
        ...

    def complete(self, text: str) -> bool:
        """Whether an unfinished reply holds its action already, so that it can end here."""
        ...

    @property
    def endings(self) -> list[str]:
        """All texts that can end a reply; empty where only the model ends it."""
        ...

    @property
    def stop_strings(self) -> list[str]:
        """Those of the actions on offer."""
        ...

    def tag(self, name: str) -> str:
        """What a tool, or the answer, is called when it is shown."""
        ...

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """Write an action down, behind reasoning: the inverse of `parse`."""
        ...

    def neutralise(self, text: str) -> str:
        """Make text from outside harmless, so that it cannot pass for an action."""
        ...


def option_label(index: int) -> str:
    """The label of an option inside the library, `a0` onward; see `answers.AnswerForm`."""
    return f"a{index}"
