"""A tool is a plain function. Its signature and docstring give the description for models.

    from longvideo_env import tool

    @tool
    def transcribe(request, minute: int) -> str:
        \"\"\"Gives the subtitles of one minute of the video.

Args:
            minute: which minute, from 0
        \"\"\"
        ...

The first parameter is the request: question, video, view, visited clips and seed, never gold. The
model writes the other arguments. The function may be sync or async. It returns text or a
`ToolReply`. The toolbox handles recording, deadlines and checks.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias, get_type_hints, overload

from docstring_parser import parse as parse_docstring
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from longvideo_env.errors import SpecError
from longvideo_env.schema import Question, Video
from longvideo_env.spans import Span
from longvideo_env.specs import load_attribute
from longvideo_env.timeline import clips_at
from longvideo_env.tools.calls import ToolCall as ToolCall  # used to write tools
from longvideo_env.tools.calls import ToolReply as ToolReply
from longvideo_env.tools.calls import ToolResult as ToolResult

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


ToolFunction: TypeAlias = Callable[..., "str | ToolReply | Awaitable[str | ToolReply]"]
Refuse: TypeAlias = Callable[[ToolCall], "str | None"]
AskedSpans: TypeAlias = Callable[[Mapping[str, Any], float], Sequence[Span]]
"""Arguments and the video's length in seconds -> the requested stretches.

It raises ValueError with a message for times that cannot be parsed.
"""


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that the master may call.

    Attributes:
        name: Name of the tool.
        function: The implementation: `(request, **arguments) -> str | ToolReply`, or a coroutine
            function.
        purpose: Description in one sentence, from the docstring.
        arguments: A pydantic model of the arguments.
        spec: Its origin, such as `my_tools:transcribe`.
        tags: Its tag by tag set. For other sets, its name is the tag.
        role: The option of `EnvConfig` that names the agent behind it, or None.
        moves: Whether it may move the view.
        refuse: Returns a reason if it has nothing to give now (the turn still counts), or None.
        spans: Returns the stretches that a call asks for. A reversed or out-of-bounds stretch makes
            the turn malformed.
        query: The argument with the query. A tool for stretches without such an argument uses the
            question.
        in_place: Whether a sync function is fast enough to run on the event loop. Others run in a
            thread.
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
    spans: AskedSpans | None = None
    query: str = "query"
    in_place: bool = False

    def __reduce__(self) -> tuple[Callable[[str], Tool], tuple[str]]:
        # By its path: a decorated function has no importable name of its own.
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
        """Names of the required arguments."""
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
        """The only argument, if it is unchecked text; otherwise None."""
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
        """Description of an argument, from the docstring."""
        return self.arguments.model_fields[name].description or name

    def check(self, values: Mapping[str, Any]) -> Mapping[str, Any] | str:
        """The checked arguments, or what is wrong with them."""
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

    def asked_spans(self, values: Mapping[str, Any], length_s: float) -> tuple[Span, ...] | str:
        """The stretches that the arguments ask for, or what is wrong with them.

        Args:
            values: The arguments from `check`.
            length_s: Length of the video in seconds.
        """
        if self.spans is None:
            return ()
        try:
            spans = tuple(self.spans(values, length_s))
        except ValueError as error:
            return str(error)
        for start, end in spans:
            if not 0 <= start < end <= length_s:
                order = "ends before it starts" if start >= end else "lies outside the video"
                return f"{start:g} s to {end:g} s {order}"
        return spans

    def call(
        self,
        question: Question,
        video: Video,
        arguments: Mapping[str, Any],
        spans: tuple[Span, ...] = (),
        *,
        view: tuple[str, ...] = (),
        visited: tuple[str, ...] = (),
        seed: int | tuple[int | str, ...] = 0,
    ) -> ToolCall:
        """Make a call of this tool.

        Args:
            question: The question.
            video: Its video.
            arguments: The result of `check`.
            spans: The result of `asked_spans`.
            view: Clips in view.
            visited: Clips shown so far.
            seed: See `ToolCall`.
        """
        query = None
        if self.spans is not None:
            view, query = clips_at(video, spans), arguments.get(self.query) or question.text
        return ToolCall(
            question, video, self.name, arguments, view, visited, seed, spans=spans, query=query
        )

    def _may_be_bool(self, name: str) -> bool:
        """Whether an argument accepts true and false. Numbers do not."""
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
    spans: AskedSpans | None = None,
    query: str = "query",
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
    spans: AskedSpans | None = None,
    query: str = "query",
    in_place: bool = False,
) -> Tool | Callable[[ToolFunction], Tool]:
    """Declare a function as a tool. The optional arguments are the fields of `Tool`.

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
            spans=spans,
            query=query,
            in_place=in_place,
        )

    return declare if function is None else declare(function)


def as_tool(part: Any) -> Tool:
    """Convert a `Tool` or a plain function to a `Tool`."""
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
        function = getattr(function, "__call__")  # noqa: B004, B009 - `__call__` has the type hints
    if not doc.short_description:
        raise SpecError(
            f"tool {spec}: it has no docstring. Fix: add one that says what the tool does."
        )
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
        purpose += " " + doc.long_description.split("\n\n")[0]  # the sentence continues
    purpose = " ".join(purpose.split())
    return Tool(name, function, purpose, model, spec)


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"a tool's name may have only letters, digits and _, got {name!r}. Fix: set name=."
        )
    return name
