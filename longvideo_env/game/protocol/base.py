"""What every protocol shares: a reply's text becomes an action, or says what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias

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


class ReplyProtocol(Protocol):
    """How actions are written and read."""

    def parse(self, text: str, options: int | Sequence[str]) -> ParsedReply:
        """Understand a reply, with what the chat template opened it with. Never raises."""
        ...

    def complete(self, text: str) -> bool:
        """Whether an unfinished reply holds its action already, so that it can end here."""
        ...

    @property
    def endings(self) -> list[str]:
        """All texts that can end a reply."""
        ...

    def write(self, action: Action) -> str:
        """Write an action down: the inverse of `parse`."""
        ...

    def think(self, text: str) -> str:
        """Write reasoning down."""
        ...

    def neutralise(self, text: str) -> str:
        """Make text from outside harmless, so that it cannot pass for an action."""
        ...


def option_label(index: int) -> str:
    """The label of an option, `a0` onward."""
    return f"a{index}"
