"""The language of the game: tags, and how a reply's text becomes an action or a malformed turn.

What a model writes badly is a typed outcome, never an exception. Reasoning is cut out first: tags
inside `<reasoning>` or `<think>` are not actions. What is left must hold exactly one action.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from longvideo_env.game.rules import TAG_SETS, ActionKind, TagSet

_KINDS = {
    "search": ActionKind.LOOK,
    "visual_query": ActionKind.LOOK,
    "request_grounding": ActionKind.GROUND,
    "answer": ActionKind.ANSWER,
}
_REASONING_TAG = re.compile(r"<(/?)(reasoning|think)\s*>", re.IGNORECASE)
_ACTION_TAG = re.compile(rf"<(/?)({'|'.join(_KINDS)})\s*(/?)>", re.IGNORECASE)
_LABEL = re.compile(r"""[\s"'(\[]*a([0-9]+)[\s"')\].:]*""", re.IGNORECASE)
_OPTION = re.compile(r"a([0-9]{1,2})")
_ANY_TAG = re.compile(
    rf"<(?=/?(?:{'|'.join(_KINDS)}|reasoning|think|information|new_clip)\s*/?>)", re.IGNORECASE
)


class MalformedKind(str, Enum):
    """The ways in which a reply can fail to be one action."""

    NO_ACTION = "no_action"
    SEVERAL_ACTIONS = "several_actions"
    UNCLOSED = "unclosed"
    EMPTY = "empty"
    UNKNOWN_OPTION = "unknown_option"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Action:
    """One action.

    Attributes:
        kind: What to do.
        argument: The query, the option's label such as `a3`, or the answer in words where there are
            no options; None for grounding without one.
    """

    kind: ActionKind
    argument: str | None = None

    @property
    def choice(self) -> int | None:
        """Index of the option, for an answer that names one."""
        if self.kind is not ActionKind.ANSWER or self.argument is None:
            return None
        match = _OPTION.fullmatch(self.argument)
        return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Malformed:
    """A reply that is not exactly one action.

    Attributes:
        kind: What is wrong.
        message: The same for the master agent to read.
    """

    kind: MalformedKind
    message: str


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


def parse(text: str, n_options: int, actions: tuple[ActionKind, ...]) -> ParsedReply:
    """Understand a reply. Never raises, whatever the text.

    Args:
        text: The whole reply, together with what the chat template opened it with.
        n_options: How many options the question has; 0 asks for an answer in words.
        actions: The actions on offer.
    """
    rest, has_reasoning, open_tag = cut_reasoning(text)
    found = _find_actions(rest)
    if isinstance(found, Malformed):
        return ParsedReply(found, has_reasoning)
    if not found and open_tag:
        problem = Malformed(MalformedKind.UNCLOSED, f"<{open_tag}> is not closed.")
        return ParsedReply(problem, has_reasoning)
    return ParsedReply(_only_action(found, n_options, actions), has_reasoning)


def cut_reasoning(text: str) -> tuple[str, bool, str | None]:
    """Take the reasoning out of a reply.

    A closing tag that nothing opened ends reasoning that the chat template opened: all before it
    is reasoning.

    Returns:
        The rest; whether there was a closed, non-empty block; the tag left open, or None.
    """
    rest: list[str] = []
    inside: str | None = None
    start, seen = 0, False
    for tag in _REASONING_TAG.finditer(text):
        name, closing = tag[2].lower(), bool(tag[1])
        if inside is None:
            chunk = text[start : tag.start()]
            if closing:
                seen = seen or bool("".join([*rest, chunk]).strip())
                rest = []
            else:
                rest.append(chunk)
                inside = name
            start = tag.end()
        elif closing and name == inside:
            seen = seen or bool(text[start : tag.start()].strip())
            inside, start = None, tag.end()
    if inside is None:
        rest.append(text[start:])
    return "".join(rest), seen, inside


def action_closed(text: str) -> bool:
    """Whether a reply under way has closed an action, so that nothing more need be generated."""
    if ">" not in text:
        return False
    rest = cut_reasoning(text)[0]
    return any(tag[1] or _is_self_closed_grounding(tag) for tag in _ACTION_TAG.finditer(rest))


def format_action(action: Action, tags: TagSet = TAG_SETS["reference"]) -> str:
    """Write an action down as a tag set has it: the inverse of `parse`."""
    name = {
        ActionKind.LOOK: tags.look,
        ActionKind.GROUND: tags.ground,
        ActionKind.ANSWER: tags.answer,
    }[action.kind]
    if action.kind is ActionKind.GROUND and not action.argument:
        return f"<{name}/>"
    return f"<{name}>{action.argument or ''}</{name}>"


def option_label(index: int) -> str:
    """The label of an option, `a0` onward."""
    return f"a{index}"


def neutralise(text: str) -> str:
    """Make tags in text from outside harmless: `<answer>` in a subtitle becomes `&lt;answer>`."""
    return _ANY_TAG.sub("&lt;", text) if "<" in text else text


def _is_self_closed_grounding(tag: re.Match[str]) -> bool:
    return bool(tag[3]) and _KINDS[tag[2].lower()] is ActionKind.GROUND


def _find_actions(text: str) -> list[tuple[str, str | None]] | Malformed:
    """Tag names with what stands inside: text, or None for one that stands by itself."""
    tags = list(_ACTION_TAG.finditer(text))
    found: list[tuple[str, str | None]] = []
    i = 0
    while i < len(tags):
        tag, name = tags[i], tags[i][2].lower()
        if tag[1]:
            return Malformed(MalformedKind.UNCLOSED, f"</{name}> closes nothing.")
        following = tags[i + 1] if i + 1 < len(tags) else None
        if tag[3]:
            found.append((name, None))
        elif following is not None and following[1] and following[2].lower() == name:
            found.append((name, text[tag.end() : following.start()].strip()))
            i += 1
        elif _KINDS[name] is ActionKind.GROUND:
            found.append((name, None))
        else:
            return Malformed(MalformedKind.UNCLOSED, f"<{name}> is not closed.")
        i += 1
    return found


def _only_action(
    found: list[tuple[str, str | None]], n_options: int, actions: tuple[ActionKind, ...]
) -> Outcome:
    if not found:
        return Malformed(MalformedKind.NO_ACTION, "there is no action in it.")
    if len(found) > 1:
        names = ", ".join(f"<{name}>" for name, _ in found[:5])
        return Malformed(
            MalformedKind.SEVERAL_ACTIONS, f"there are {len(found)} actions in it ({names})."
        )
    name, argument = found[0]
    kind = _KINDS[name]
    if kind not in actions:
        return Malformed(MalformedKind.UNAVAILABLE, f"<{name}> is not available here.")
    if kind is ActionKind.GROUND:
        return Action(kind, argument or None)
    if not argument:
        return Malformed(MalformedKind.EMPTY, f"<{name}> is empty.")
    return _answer(argument, n_options) if kind is ActionKind.ANSWER else Action(kind, argument)


def _answer(argument: str, n_options: int) -> Outcome:
    if n_options == 0:
        return Action(ActionKind.ANSWER, argument)
    match = _LABEL.fullmatch(argument)
    # Long runs of digits cannot name an option, and int() refuses the longest.
    choice = int(match[1]) if match and len(match[1]) <= 2 else n_options
    if choice >= n_options:
        return Malformed(
            MalformedKind.UNKNOWN_OPTION,
            f"{neutralise(argument)[:40]!r} is not one of the options a0 to a{n_options - 1}.",
        )
    return Action(ActionKind.ANSWER, option_label(choice))
