"""Actions as tags: `<search>what</search>`, `<answer>a0</answer>`.

A tool with one argument takes the text inside its tag. A tool with several takes JSON. Malformed
text gives a typed outcome, never an exception. Reasoning is removed first, so tags inside it are
not actions. The rest must contain exactly one action.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from longvideo_env.errors import SpecError
from longvideo_env.game.protocol.answers import AnswerForm
from longvideo_env.game.protocol.arguments import expected, values_of
from longvideo_env.game.protocol.base import (
    ANSWER,
    TAG_SETS,
    Action,
    Malformed,
    MalformedKind,
    Message,
    Outcome,
    ParsedReply,
    TagSet,
)
from longvideo_env.game.protocol.reasoning import REASONING_TAGS, cut_reasoning
from longvideo_env.tools.tool import Tool


class TagProtocol:
    """Parses and writes actions as tags.

    Args:
        tools: All tools of the game. Their tags are parsed, and escaped in other texts.
        offered: Names of the tools that the master may use.
        tags: The tag set in the prompt.
        answers: How answers are written.

    Raises:
        SpecError: Two tools share a tag, or a tool's tag has another use.
    """

    name = "tags"
    continues = False

    def __init__(
        self,
        tools: Sequence[Tool],
        offered: Sequence[str],
        tags: TagSet = TAG_SETS["reference"],
        answers: AnswerForm | None = None,
    ) -> None:
        self.tags = tags
        self.answers = answers or AnswerForm()
        self.offered = tuple(offered)
        self._tools = {tool.name: tool for tool in tools}
        self._names = self._tag_names(tools)
        self._self_closed = {t for t, name in self._names.items() if self._needs_nothing(name)}
        either = "|".join(re.escape(name) for name in self._names)
        self._action_tag = re.compile(rf"<(/?)({either})\s*(/?)>", re.IGNORECASE | re.ASCII)
        blocks = "|".join((*REASONING_TAGS, tags.reply, tags.view))
        self._any_tag = re.compile(rf"<(?=/?(?:{either}|{blocks})\s*/?>)", re.IGNORECASE | re.ASCII)

    def parse(self, text: str, options: int | Sequence[str]) -> ParsedReply:
        """Parse a reply. Never raises.

        Args:
            text: The full reply, including the part that the chat template wrote.
            options: The options as shown, or their number. Without options, the answer is free
                text.
        """
        rest, has_reasoning, open_tag = cut_reasoning(text)
        found = self._find(rest)
        if isinstance(found, Malformed):
            return ParsedReply(found, has_reasoning)
        if not found and open_tag:
            problem = Malformed(MalformedKind.UNCLOSED, _named(open_tag))
            return ParsedReply(problem, has_reasoning)
        return ParsedReply(self._only(found, options), has_reasoning)

    def complete(self, text: str) -> bool:
        """Whether an unfinished reply contains a closed action outside its reasoning."""
        if ">" not in text:
            return False
        rest = cut_reasoning(text)[0]
        return any(
            tag[1] or (tag[3] and tag[2].lower() in self._self_closed)
            for tag in self._action_tag.finditer(rest)
        )

    @property
    def endings(self) -> list[str]:
        """All endings of a reply: closing tags of every tag set, and self-closing tags."""
        shown = {self.tag(name) for name in (*self._tools, ANSWER)}
        closing = {f"</{tag}>" for tag in {*self._names, *shown}}
        return sorted(closing | {f"<{tag}/>" for tag in self._self_closed})

    @property
    def stop_strings(self) -> list[str]:
        """The closing tags of the offered actions."""
        return [f"</{self.tag(name)}>" for name in (*self.offered, ANSWER)]

    def tag(self, name: str) -> str:
        """The tag of a tool or of the answer, as shown."""
        return self.tags.answer if name == ANSWER else self._tools[name].tag(self.tags.name)

    def said(self, text: str, turn: int) -> Message:
        """A reply as a message of the conversation."""
        return {"role": "assistant", "content": text}

    def heard(self, said: Message, text: str) -> list[Message]:
        """An observation as a user message."""
        return [{"role": "user", "content": text}]

    def schemas(
        self, n_options: int, purpose: str = "", argument: str = ""
    ) -> tuple[dict[str, Any], ...]:
        """Empty: the rules in the prompt name the tools."""
        return ()

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """Write an action after its reasoning: the inverse of `parse`."""
        thought = self.tags.reasoning
        before = "" if reasoning is None else f"<{thought}>{reasoning}</{thought}>"
        tag = self.tag(action.name)
        text = self.answers.written(action) if action.name == ANSWER else action.argument
        if text is None and action.arguments:
            text = self._written(action)
        if not text and self._needs_nothing(action.name):
            return f"{before}<{tag}/>"
        return f"{before}<{tag}>{text or ''}</{tag}>"

    def neutralise(self, text: str) -> str:
        """Escape tags in text from outside: `<answer>` in a subtitle becomes `&lt;answer>`."""
        return self._any_tag.sub("&lt;", text) if "<" in text else text

    def _tag_names(self, tools: Sequence[Tool]) -> dict[str, str]:
        """Tag in lower case -> the action's name."""
        return _by_tag(tools, self.tags)

    def _needs_nothing(self, name: str) -> bool:
        return name != ANSWER and not self._tools[name].required

    def _written(self, action: Action) -> str:
        if len(self._tools[action.name].parameters) == 1:
            (value,) = action.arguments.values()
            plain = value is None or isinstance(value, str | int | float)
            return str("" if value is None else value) if plain else _dump(value)
        return _dump(dict(action.arguments))

    def _find(self, text: str) -> list[tuple[str, str | None]] | Malformed:
        """Tags with their contents: text, or None for a self-closing tag."""
        tags = list(self._action_tag.finditer(text))
        found: list[tuple[str, str | None]] = []
        i = 0
        while i < len(tags):
            tag, name = tags[i], tags[i][2].lower()
            if tag[1]:
                return Malformed(MalformedKind.UNCLOSED, {"tag": f"/{name}"})
            following = tags[i + 1] if i + 1 < len(tags) else None
            if tag[3]:
                found.append((name, None))
            elif following is not None and following[1] and following[2].lower() == name:
                found.append((name, text[tag.end() : following.start()].strip()))
                i += 1
            elif name in self._self_closed:
                found.append((name, None))
            else:
                return Malformed(MalformedKind.UNCLOSED, {"tag": name})
            i += 1
        return found

    def _only(self, found: list[tuple[str, str | None]], options: int | Sequence[str]) -> Outcome:
        if not found:
            return Malformed(MalformedKind.NO_ACTION)
        if len(found) > 1:
            names = [name for name, _ in found[:5]]
            return Malformed(MalformedKind.SEVERAL_ACTIONS, {"n": len(found), "tags": tuple(names)})
        tag, text = found[0]
        name = self._names[tag]
        if name == ANSWER:
            if not text:
                return Malformed(MalformedKind.EMPTY, {"tag": tag})
            return self.answers.read(text, options)
        if name not in self.offered:
            return Malformed(MalformedKind.UNAVAILABLE, {"tag": tag})
        return self._tool_action(self._tools[name], tag, text)

    def _tool_action(self, tool: Tool, tag: str, text: str | None) -> Outcome:
        if not text:
            if tool.required:
                return Malformed(MalformedKind.EMPTY, {"tag": tag})
            return Action(tool.name, None, tool.check({}))  # type: ignore[arg-type]
        if tool.takes_text:
            return Action(tool.name, text, {tool.takes_text: text})
        values = values_of(tool, text)
        checked = values if isinstance(values, str) else tool.check(values)
        if isinstance(checked, str):
            return Malformed(
                MalformedKind.WRONG_ARGUMENTS,
                {"tag": tag, "said": text, "problem": checked, "expected": expected(tool)},
            )
        return Action(tool.name, text, checked)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _named(form: str) -> dict[str, str]:
    """Fields that name a form of reasoning in a message: its tag, or its mark."""
    return {"tag": form} if form[0].isalpha() else {"said": form}


def _by_tag(tools: Sequence[Tool], tags: TagSet) -> dict[str, str]:
    """Tag in lower case -> name, over all tag sets."""
    taken = {*REASONING_TAGS, tags.reply.lower(), tags.view.lower()}
    found: dict[str, str] = {}
    for tool in tools:
        for tag in dict.fromkeys(tool.tag(name).lower() for name in TAG_SETS):
            if found.get(tag, tool.name) != tool.name or tag in taken or tag == tags.answer:
                raise SpecError(
                    f"tool {tool.name!r} ({tool.spec}): its tag <{tag}> is already used. Fix: "
                    "rename the tool, or set @tool(tags=...)."
                )
            found[tag] = tool.name
    return found | {tags.answer: ANSWER}
