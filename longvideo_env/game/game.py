"""A game: tools, words, protocol, reward and rules; declared as `GameSpec`, played as `Game`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from longvideo_env.config import NO_JUDGE, WHEN, EnvConfig
from longvideo_env.game.protocol.answers import AnswerForm
from longvideo_env.game.protocol.arguments import expected
from longvideo_env.game.protocol.base import (
    ANSWER,
    TAG_SETS,
    Malformed,
    MalformedKind,
    ReplyProtocol,
    TagSet,
)
from longvideo_env.game.protocol.continuation import ContinuationProtocol
from longvideo_env.game.protocol.functions import FunctionProtocol
from longvideo_env.game.protocol.hermes import HermesProtocol
from longvideo_env.game.protocol.tags import TagProtocol
from longvideo_env.game.reward import Reward, parse_reward
from longvideo_env.game.shown_clips import shown_clip, shown_span
from longvideo_env.game.sight import Sight
from longvideo_env.game.words.fields import Shown, ShownOption, ShownTags, ShownTool
from longvideo_env.game.words.templates import Speaker, Words, load_words
from longvideo_env.schema import Question, Video
from longvideo_env.spans import Span
from longvideo_env.specs import find_part, is_attribute
from longvideo_env.timeline import length_s
from longvideo_env.tools.registry import find_tools
from longvideo_env.tools.tool import Tool, as_tool

_PROTOCOLS: Mapping[str, Callable[..., ReplyProtocol]] = {
    protocol.name: protocol
    for protocol in (TagProtocol, FunctionProtocol, HermesProtocol, ContinuationProtocol)
}

Where: TypeAlias = tuple[str, ...] | Span
"""The view: clips by id, or a stretch of the video in seconds."""

_SENTENCES = 256
"""Cache size for short texts of one kind."""

_VIEWS = 1024
"""Cache size for rendered views. All samples of a question show the same first view."""


@dataclass(frozen=True)
class GameSpec:
    """A named bundle of parts. The option of the same name replaces a part.

    Attributes:
        tools: Names, `module:attribute`, or functions, in the order offered.
        opening: The tool that opens a video: a name in `tools`, or a function that is not offered.
            It names the first clip, or gives the first text. None opens a video at its start.
        protocol: How actions are written.
        prompts: A file of words, or None for the default ones.
        max_turns: Number of turns.
        window: Number of adjacent clips in view.
        tags: The tag set in the prompt.
        instructions: Whether the prompt starts with the rules.
        reward: The reward's terms and weights.
        labels: Labels of the options.
        words: Jinja blocks that replace default ones. A file given by the user replaces these.
        tag_set: The game's own tags, if no set of `tags` fits. Its `answer` names the answer, also
            as a function.
        generation: Default sampling settings: fields of `GenerationSettings`.
    """

    tools: Sequence[Any] = ()
    opening: Any = None
    protocol: str = "tags"
    prompts: str | None = None
    max_turns: int = 5
    window: int = 1
    tags: str = "reference"
    instructions: bool = True
    reward: Any = "paper"
    labels: str = "a0"
    words: str = ""
    tag_set: TagSet | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # As `module:attribute`, so that a run's options can be saved and read back.
        named = (p.spec if isinstance(p, Tool) and is_attribute(p.spec) else p for p in self.tools)
        object.__setattr__(self, "tools", tuple(named))

    @property
    def defaults(self) -> dict[str, Any]:
        """The game's defaults for the options of `EnvConfig`."""
        names = ("tools", "protocol", "prompts", "max_turns", "window", "tags", "instructions")
        return {name: getattr(self, name) for name in (*names, "reward", "labels")}


@dataclass(frozen=True, eq=False)
class Game:
    """The rules of a configured game, ready to play.

    Attributes:
        config: The configuration that it was made from.
        tools: All tools, including those that are not offered.
        offered: The tools that the master may use.
        opening: The tool that names the first clip, or None.
        max_turns: Number of turns.
        window: Number of adjacent clips in view.
        instructions: Whether the prompt starts with the rules.
        protocol: Reads and writes replies.
        words: The templates of all texts.
        reward: The reward's terms and weights.
    """

    config: EnvConfig
    tools: tuple[Tool, ...]
    offered: tuple[Tool, ...]
    opening: Tool | None
    max_turns: int
    window: int
    instructions: bool
    protocol: ReplyProtocol
    words: Words
    reward: Reward

    @classmethod
    def from_config(cls, config: EnvConfig) -> Game:
        """The game that a configuration describes.

        Raises:
            SpecError: A part does not exist or is invalid.
        """
        spec: GameSpec = find_part("games", config.game)
        tools = find_tools(config.tools, spec.tools)
        agents = {"grounding": config.grounding, "vision": config.vision}
        there = [tool for tool in tools if agents.get(tool.role or "") != "none"]
        offered = tuple(tool for tool in there if tool.role != "grounding" or config.ground_action)
        opening = _opening_tool(spec, there, agents)
        tags = spec.tag_set or TAG_SETS[config.tags]
        answers = AnswerForm(config.ask, config.labels)
        return cls(
            config=config,
            tools=tools,
            offered=offered,
            opening=opening,
            max_turns=config.max_turns,
            window=config.window,
            instructions=config.instructions,
            protocol=_PROTOCOLS[config.protocol](
                tools, [tool.name for tool in offered], tags, answers
            ),
            words=load_words(config.prompts, config.protocol, extra_words(config), spec.words),
            reward=parse_reward(config.reward),
        )

    def __reduce__(self) -> tuple[Callable[[EnvConfig], Game], tuple[EnvConfig]]:
        return Game.from_config, (self.config,)

    @cached_property
    def actions(self) -> tuple[str, ...]:
        """Names of the offered actions; `answer` is last."""
        return (*(tool.name for tool in self.offered), ANSWER)

    def tool(self, name: str) -> Tool:
        """The tool of a name."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Tool]:
        opening = () if self.opening is None else (self.opening,)
        return {tool.name: tool for tool in (*opening, *self.tools)}

    def tool_tagged(self, tag: str) -> Tool | None:
        """The tool with a tag. None for other tags."""
        return next((tool for tool in self.tools if self.protocol.tag(tool.name) == tag), None)

    @cached_property
    def schemas(self) -> Callable[[int], tuple[dict[str, Any], ...]]:
        """`n_options -> JSON schemas` of the tools that are sent beside the messages.

        Empty if the rules in the prompt name the tools. The schemas are shared; do not change them.
        """
        return lru_cache(maxsize=16)(self._schemas)

    def _schemas(self, n_options: int) -> tuple[dict[str, Any], ...]:
        if self.protocol.name != FunctionProtocol.name:
            return ()
        fields = self._fields(self.max_turns, n_options)
        purpose, argument = (
            str.__str__(self._speaker.say(name, fields)) for name in ("answer_tool", "answer_says")
        )
        return self.protocol.schemas(n_options, purpose, argument)

    # Texts for the master agent, rendered.

    @cached_property
    def rules_text(self) -> Callable[[int], Shown]:
        """`n_options -> text`: the rules, for the offered actions."""
        return lru_cache(maxsize=16)(
            lambda n_options: self._speaker.say("rules", self._fields(self.max_turns, n_options))
        )

    @cached_property
    def opening_text(self) -> Callable[..., Shown]:
        """`(question, video, view, what the opening tool said) -> text`: the first user message."""
        return lru_cache(maxsize=_VIEWS)(self._opening)

    def _opening(self, question: Question, video: Video, view: Where, reply: str = "") -> Shown:
        answers = self.protocol.answers
        options = tuple(
            ShownOption(answers.label(i), text)
            for i, text in enumerate(answers.shown(question.options))
        )
        fields = self._fields(self.max_turns, len(options)) | {
            "question": question.text,
            "options": options,
            "video_id": video.video_id,
            "n_clips": len(video.clips),
            "view": self.view_text(video, view) if view else "",
            "reply": reply.strip(),
            "length_s": f"{length_s(video):g}",
            "turns": self._turns(self.max_turns),
        }
        return self._speaker.say("opening", fields)

    def reply_text(self, tool: str, text: str, view: str, turns_left: int, n_options: int) -> str:
        """The observation after a tool call: its text, and the view if it moved."""
        fields = self._fields(turns_left, n_options) | {
            "tool": tool,
            "reply": text.strip(),
            "view": view,
            "turns": self._turns(turns_left),
        }
        return self._speaker.say("reply", fields)

    def frames_text(self, video: Video, sight: Sight) -> str:
        """The text that lists the frames of a message."""
        return self._speaker.say("frames", self._fields(0, 0) | sight.fields(video))

    def refused_text(self, tool: str, reason: str, turns_left: int, n_options: int) -> str:
        """The observation after a refused tool call."""
        turns = self._turns(turns_left)
        own = {"tool": tool, "reason": reason, "turns": turns}
        fields = self._fields(turns_left, n_options) | own
        return self._speaker.say("refused", fields)

    def malformed_text(self, problem: Malformed, turns_left: int, n_options: int) -> str:
        """The observation after a malformed reply."""
        return self._malformed(problem.kind, tuple(problem.details.items()), turns_left, n_options)

    @cached_property
    def _malformed(self) -> Callable[..., Shown]:
        def render(
            kind: MalformedKind, details: tuple[tuple[str, Any], ...], left: int, n_options: int
        ) -> Shown:
            problem = self.problem_text(Malformed(kind, dict(details)))
            own = {"problem": problem, "turns": self._turns(left)}
            fields = self._fields(left, n_options) | own
            return self._speaker.say("malformed", fields)

        return lru_cache(maxsize=_SENTENCES)(render)

    def problem_text(self, problem: Malformed) -> Shown:
        """The reason why a reply is malformed."""
        details: dict[str, Any] = {"tag": "", "n": 0, "said": "", "expected": "", "problem": ""}
        details |= problem.details
        details["tags_found"] = details.pop("tags", ())
        labels = {"last_label": details.pop("last", ""), "first_label": self._first_label}
        return self._speaker.say(problem.kind.value, self._fields(0, 0) | details | labels)

    def judge_text(self, question: str, right: str, said: str) -> str:
        """The judge's prompt for a free-text answer. It contains the right answer."""
        fields = {"question": question, "right": right, "said": said}
        return str.__str__(self._speaker.say("judge", fields))

    @cached_property
    def ended_text(self) -> Callable[[int | None, str], Shown]:
        """`(choice, status) -> text`: the text after the end of an episode."""

        def render(choice: int | None, status: str) -> Shown:
            label = "" if choice is None else self.protocol.answers.label(choice)
            fields = self._fields(0, 0) | {"choice": label, "status": status}
            return self._speaker.say("ended", fields)

        return lru_cache(maxsize=_SENTENCES)(render)

    @cached_property
    def view_text(self) -> Callable[[Video, Where], Shown]:
        """`(video, view) -> text`: clips, or a stretch, with their subtitles."""
        return lru_cache(maxsize=_VIEWS)(self._view)

    def _view(self, video: Video, view: Where) -> Shown:
        if isinstance(view[0], str):
            when = self.protocol.answers.ask == WHEN
            clips = tuple(shown_clip(video, str(clip_id), seconds=when) for clip_id in view)
        else:
            clips = (shown_span(video, (float(view[0]), float(view[1]))),)
        return self._speaker.say("view", self._fields(0, 0) | {"clips": clips})

    @cached_property
    def _turns(self) -> Callable[[int], Shown]:
        return lru_cache(maxsize=64)(
            lambda turns_left: self._speaker.say("turns", self._fields(turns_left, 0))
        )

    @cached_property
    def _speaker(self) -> Speaker:
        return self.words.speaker(self.protocol.neutralise)

    @property
    def _first_label(self) -> str:
        return self.protocol.answers.label(0)

    @cached_property
    def _constant_fields(self) -> dict[str, Any]:
        tags = self.protocol.tags
        return {
            "tags": ShownTags(tags.reasoning, tags.answer, tags.reply, tags.view),
            "tools": tuple(
                ShownTool(
                    self.protocol.tag(tool.name),
                    tool.name,
                    tool.purpose,
                    expected(tool),
                    tool.moves,
                )
                for tool in self.offered
            ),
            "max_turns": self.max_turns,
        }

    @cached_property
    def _fields(self) -> Callable[[int, int], dict[str, Any]]:
        """`(turns_left, n_options) -> fields` of every block. They are shared: copy, then add."""
        answers = self.protocol.answers

        def fields(turns_left: int, n_options: int) -> dict[str, Any]:
            return {
                **self._constant_fields,
                "turns_left": turns_left,
                "n_options": n_options,
                "first_label": answers.label(0) if n_options else "",
                "last_label": answers.label(n_options - 1) if n_options else "",
                "ask": answers.ask,
            }

        return lru_cache(maxsize=_SENTENCES)(fields)


def _opening_tool(spec: GameSpec, there: Sequence[Tool], agents: Mapping[str, str]) -> Tool | None:
    if spec.opening is None or isinstance(spec.opening, str):
        return next((tool for tool in there if tool.name == spec.opening), None)
    tool = as_tool(spec.opening)
    return None if agents.get(tool.role or "") == "none" else tool


def extra_words(config: EnvConfig) -> tuple[str, ...]:
    """Names of the word files in `LAID_OVER` that a configuration adds."""
    other = config.labels != "a0" or config.ask == WHEN
    judged = config.judge != NO_JUDGE
    over = {"answers": other, "judge": judged, "frames": config.frames > 0}
    return tuple(name for name, is_on in over.items() if is_on)


@lru_cache(maxsize=1)
def default_game() -> Game:
    """The default game, for parsing replies when no game is known."""
    return Game.from_config(EnvConfig())
