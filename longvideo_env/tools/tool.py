"""A tool is a plain function; what models read about it comes from its signature and docstring.

    from longvideo_env import tool

    @tool
    def transcribe(request, minute: int) -> str:
        \"\"\"Gives the subtitles of one minute of the video.

Args:
            minute: which minute, from 0
        \"\"\"
        ...

The first parameter is the request: question, video, view, visited clips, seed, never gold. The
others are what the model writes. The function may be sync or async, and returns text or a
`ToolReply`. Recording, deadline and checks are the toolbox's work.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias, get_type_hints, overload

from docstring_parser import parse as parse_docstring
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from longvideo_env.errors import SpecError
from longvideo_env.schema import Question, Video
from longvideo_env.seeding import derive_seed
from longvideo_env.specs import load_attribute

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class ToolCall:
    """What a tool is asked for. It holds no gold.

    Args:
        question: The question.
        video: Its video.
        tool: The tool's name.
        arguments: What the model wrote, checked against the tool's schema.
        view: Ids of the clips that the master sees now; empty before the first.
        visited: Ids of every clip shown so far, in order.
        seed: For tools that draw at random: a number, or what it is derived from when it is read.

    Attributes:
        agent: The agent behind the tool, if it has one.
        boxes: Labels of boxes; empty unless `unsafe_boxes` is set, because they name words of the
            right answer.
        seed_was_read: Whether the tool took the seed: its reply then depends on it.
    """

    __slots__ = (
        *("question", "video", "tool", "arguments", "view", "visited", "_seed"),
        *("agent", "boxes", "seed_was_read"),
    )

    def __init__(
        self,
        question: Question,
        video: Video,
        tool: str = "",
        arguments: Mapping[str, Any] | None = None,
        view: tuple[str, ...] = (),
        visited: tuple[str, ...] = (),
        seed: int | tuple[int | str, ...] = 0,
    ) -> None:
        self.question = question
        self.video = video
        self.tool = tool
        self.arguments: Mapping[str, Any] = arguments or {}
        self.view = view
        self.visited = visited
        self._seed = seed
        self.agent: Any = None
        self.boxes: tuple[str, ...] = ()
        self.seed_was_read = False

    @property
    def seed(self) -> int:
        """For tools that draw at random."""
        self.seed_was_read = True
        return self.given_seed

    @property
    def given_seed(self) -> int:
        """The same, for whoever only notes it down."""
        if not isinstance(self._seed, int):
            self._seed = derive_seed(*self._seed)
        return self._seed

    @property
    def query(self) -> str | None:
        """The argument `query`, which most tools have; None where the model wrote none."""
        return self.arguments.get("query")

    @property
    def unvisited(self) -> tuple[str, ...]:
        """Ids of the clips not shown yet, in order."""
        visited = set(self.visited)
        return tuple(clip_id for clip_id in self.video.clip_ids if clip_id not in visited)

    def record(self) -> dict[str, Any]:
        """Plain values that identify the call; the seed only where the tool took it."""
        return {
            "tool": self.tool,
            "qid": self.question.qid,
            "video_id": self.video.video_id,
            "arguments": dict(self.arguments),
            "view": list(self.view),
            "visited": list(self.visited),
            "seed": self.seed if self.seed_was_read else None,
            **({"boxes": list(self.boxes), "leaky": True} if self.boxes else {}),
        }


@dataclass(frozen=True, slots=True)
class ToolReply:
    """What a tool gives back: text, a new view, or both.

    Attributes:
        text: Words for the master to read.
        view: Id of the clip around which the view is moved, or None to leave it.
        details: Plain values worth keeping: scores, tokens used, frames sent.
    """

    text: str = ""
    view: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The outcome of a call: a reply, or an error.

    Attributes:
        tool: The tool's name.
        agent: Spec of what did the work.
        reply: What it gave; None if it failed.
        error: Why it failed; None if it did not.
        latency_s: Wall-clock seconds that the call took.
    """

    tool: str
    agent: str
    reply: ToolReply | None = None
    error: str | None = None
    latency_s: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the tool did its work."""
        return self.error is None

    def record(self) -> dict[str, Any]:
        """Plain values for the trajectory."""
        reply = self.reply or ToolReply()
        return {
            "agent": self.agent,
            "text": reply.text,
            "view": reply.view,
            "error": self.error,
            "details": dict(reply.details),
        }


ToolFunction: TypeAlias = Callable[..., "str | ToolReply | Awaitable[str | ToolReply]"]
Refuse: TypeAlias = Callable[[ToolCall], "str | None"]


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that the master may call.

    Attributes:
        name: Its name.
        function: What does the work: `(request, **arguments) -> str | ToolReply`, or a coroutine.
        purpose: What it does, in a sentence, from its docstring.
        arguments: A pydantic model of what the master writes.
        spec: Where it came from, such as `my_tools:transcribe`.
        tags: Its tag by tag set; its name where a set has none of its own.
        role: The option of `EnvConfig` that names the agent behind it, or None.
        moves: Whether it may change the view.
        refuse: Says why it has nothing to give now, which costs the turn, or None.
        in_place: Whether a sync function is quick enough to run on the event loop. Others run in
            a thread.
    """

    name: str
    function: ToolFunction
    purpose: str
    arguments: type[BaseModel]
    spec: str
    tags: Mapping[str, str] = field(default_factory=dict)
    role: str | None = None
    moves: bool = False
    refuse: Refuse | None = None
    in_place: bool = False

    def __reduce__(self) -> tuple[Callable[[str], Tool], tuple[str]]:
        # By its place: where a decorator stands, the function itself has no name any more.
        return _at, (self.spec,)

    def tag(self, tag_set: str) -> str:
        """Its tag in a tag set."""
        return self.tags.get(tag_set, self.name)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the arguments."""
        return tuple(self.arguments.model_fields)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the arguments that must be given."""
        return tuple(n for n, f in self.arguments.model_fields.items() if f.is_required())

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Its arguments as a JSON schema (an object)."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        for item in schema.get("properties", {}).values():
            item.pop("title", None)
        return schema

    @cached_property
    def takes_text(self) -> str | None:
        """The only argument, if it is plain text that needs no check; else None."""
        if len(self.parameters) != 1:
            return None
        (name,) = self.parameters
        item = self.arguments.model_fields[name]
        plain = item.annotation in (str, str | None) and not item.metadata
        return name if plain else None

    @cached_property
    def is_async(self) -> bool:
        """Whether its function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    def described(self, name: str) -> str:
        """What an argument means, from the docstring."""
        return self.arguments.model_fields[name].description or name

    def check(self, values: Mapping[str, Any]) -> Mapping[str, Any] | str:
        """The arguments, checked; or what is wrong with them."""
        for name, value in values.items():
            if isinstance(value, bool) and not self._may_be_bool(name):
                return f"{name}: input should not be {str(value).lower()}"
        try:
            checked = self.arguments.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}" if where else "wrong"
        return {name: getattr(checked, name) for name in self.parameters}

    def _may_be_bool(self, name: str) -> bool:
        """Whether an argument that was given as true or false may be meant so: not for a number."""
        item = self.schema.get("properties", {}).get(name, {})
        kinds = {kind.get("type") for kind in (item, *item.get("anyOf", ()))}
        return "boolean" in kinds or not kinds & {"integer", "number"}


@overload
def tool(function: ToolFunction, /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    role: str | None = None,
    moves: bool = False,
    refuse: Refuse | None = None,
    in_place: bool = False,
) -> Callable[[ToolFunction], Tool]: ...
def tool(
    function: ToolFunction | None = None,
    /,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    role: str | None = None,
    moves: bool = False,
    refuse: Refuse | None = None,
    in_place: bool = False,
) -> Tool | Callable[[ToolFunction], Tool]:
    """Declare a function as a tool; all further values are those of `Tool`, and all are optional.

    Raises:
        SpecError: The function has no request parameter, no docstring, or a type that has no JSON
            schema.
    """

    def declare(function: ToolFunction) -> Tool:
        read = _read(function)
        return replace(
            read,
            name=_checked_name(name or read.name),
            tags=tags or {},
            role=role,
            moves=moves,
            refuse=refuse,
            in_place=in_place,
        )

    return declare if function is None else declare(function)


def as_tool(part: Any) -> Tool:
    """A tool from a `Tool` or a plain function."""
    if isinstance(part, Tool):
        return part
    if not callable(part):
        raise SpecError(f"expected a tool or a function, got {type(part).__name__}: {part!r:.80}")
    read = _read(part)
    return replace(read, name=_checked_name(read.name))


def _at(spec: str) -> Tool:
    return as_tool(load_attribute(spec))


def _read(function: ToolFunction) -> Tool:
    name = getattr(function, "__name__", type(function).__name__)
    spec = f"{function.__module__}:{getattr(function, '__qualname__', name)}"
    doc = parse_docstring(inspect.getdoc(function) or "")
    if not inspect.isroutine(function):
        function = getattr(function, "__call__")  # noqa: B004, B009 - it has the type hints
    if not doc.short_description:
        raise SpecError(f"tool {spec}: it has no docstring. Fix: say in it what the tool does.")
    told = {item.arg_name: item.description for item in doc.params}
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise SpecError(f"tool {spec}: its first parameter must be the request. Fix: add one.")
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise SpecError(f"tool {spec}: a type hint cannot be read ({error}).") from error
    fields_: dict[str, Any] = {}
    for item in parameters[1:]:
        if item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD) or item.name not in hints:
            raise SpecError(f"tool {spec}: parameter {item.name!r} needs a name and a type hint.")
        default = ... if item.default is item.empty else item.default
        text = told.get(item.name)
        fields_[item.name] = (hints[item.name], Field(default, description=text))
    try:
        model = create_model(
            name, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields_
        )
        model.model_json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        raise SpecError(f"tool {spec}: a type has no JSON schema ({_line(error)}).") from error
    purpose = doc.short_description
    if doc.long_description and not doc.blank_after_short_description:
        purpose += " " + doc.long_description.split("\n\n")[0]  # the sentence goes on
    purpose = " ".join(purpose.split())
    return Tool(name, function, purpose, model, spec)


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"a tool's name holds letters, digits and _ only, got {name!r}. Fix: give name=."
        )
    return name
