"""What agents behind an endpoint share: their spec, their client, and what they report.

A spec is `openai:MODEL[@ENDPOINT][,name=value...]`, such as `openai:gpt-4o`,
`openai:Qwen/Qwen2.5-VL-7B-Instruct@http://localhost:8000/v1,frames=8` or `openai:grok-4@xai`.
See `agents.api.endpoints` for what an endpoint is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, cast

from agents.api.client import ChatClient, client_for
from agents.api.endpoints import load_endpoint
from agents.api.usage import Usage
from longvideo_env.errors import SpecError

_T = TypeVar("_T")


@dataclass(frozen=True)
class ApiSpec:
    """A spec, taken apart.

    Attributes:
        model: The model's name.
        endpoint: Name or address of its endpoint; empty for the default one.
        options: What follows, as text.
    """

    model: str
    endpoint: str
    options: Mapping[str, str]


def parse_api_spec(argument: str) -> ApiSpec:
    """Take apart what follows `openai:` in a spec.

    Raises:
        SpecError: No model is named, or an option is not `name=value`.
    """
    head, *rest = argument.split(",")
    model, _, endpoint = head.partition("@")
    if not model.strip():
        raise SpecError(f"expected openai:MODEL[@ENDPOINT][,name=value], got 'openai:{argument}'.")
    options = {}
    for part in rest:
        name, equals, value = part.partition("=")
        if not equals or not value.strip():
            raise SpecError(f"expected name=value after openai:{head},... got {part!r}.")
        options[name.strip()] = value.strip()
    return ApiSpec(model.strip(), endpoint.strip(), options)


def read_api_options(cls: Callable[..., _T], options: Mapping[str, str]) -> _T:
    """The options of a spec as a dataclass whose defaults say what type each has.

    Raises:
        SpecError: No such option, or a value of another type.
    """
    defaults = {item.name: item.default for item in fields(cast(Any, cls))}
    values: dict[str, Any] = {}
    for name, text in options.items():
        if name not in defaults:
            raise SpecError(
                f"unknown option {name!r} in a spec openai:MODEL,...; options here: "
                f"{', '.join(defaults)}."
            )
        values[name] = _typed(name, text, defaults[name])
    return cls(**values)


def _typed(name: str, text: str, default: object) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        return cast(Any, type(default))(text)
    except (ValueError, KeyError) as error:
        kind = type(default).__name__
        raise SpecError(f"option {name} of openai:MODEL,... is a {kind}, got {text!r}.") from error


class ApiAgent:
    """A grounding or vision agent behind an endpoint. It is carried along as its spec.

    Args:
        argument: What follows `openai:` in its spec.

    Raises:
        SpecError: The spec or its endpoint has no meaning.
        MissingExtraError: The extra `api` is not installed.
    """

    immediate = False
    role: ClassVar[str]

    def __init__(self, argument: str) -> None:
        self._argument = argument
        spec = parse_api_spec(argument)
        self.model = spec.model
        self._options = spec.options
        self._client: ChatClient = client_for(load_endpoint(spec.endpoint))

    def __reduce__(self) -> tuple[type[ApiAgent], tuple[str]]:
        return type(self), (self._argument,)


def used(model: str, usage: Usage) -> dict[str, Any]:
    """What a call used, for the details of a tool's result or of a turn."""
    return {"model": model, **usage.record()}


def after_thinking(text: str) -> str:
    """A reply without the `<think>` block that reasoning models open it with."""
    return text.rpartition("</think>")[2].strip()
