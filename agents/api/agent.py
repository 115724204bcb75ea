"""Shared parts of agents behind an endpoint: spec, client and usage reports.

A spec is `openai:MODEL[@ENDPOINT][,name=value...]`, such as `openai:gpt-4o`,
`openai:Qwen/Qwen2.5-VL-7B-Instruct@http://localhost:8000/v1,frames=8` or `openai:grok-4@xai`.
`agents.api.endpoints` explains endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from agents.api.client import ChatClient, client_for
from agents.api.endpoints import load_endpoint
from agents.api.usage import Usage
from longvideo_env.errors import SpecError
from longvideo_env.game.protocol.reasoning import cut_reasoning
from longvideo_env.specs import Spec, parse_spec


@dataclass(frozen=True)
class ApiSpec:
    """A parsed spec.

    Attributes:
        model: The model's name.
        endpoint: Name or address of the endpoint; empty for the default one.
        spec: The whole spec. `spec.read(CLS)` gives its options.
    """

    model: str
    endpoint: str
    spec: Spec


def parse_api_spec(argument: str) -> ApiSpec:
    """Parse the text after `openai:` in a spec.

    Raises:
        SpecError: No model is named, or an option is not `name=value`.
    """
    spec = parse_spec(f"openai:{argument}")
    head, comma, rest = spec.argument.partition(",")
    model, _, endpoint = head.partition("@")
    if not model.strip():
        raise SpecError(f"expected openai:MODEL[@ENDPOINT][,name=value], got {spec.text!r}.")
    if comma:
        raise SpecError(f"expected name=value after openai:{head},... got {rest!r}.")
    return ApiSpec(model.strip(), endpoint.strip(), spec)


class ApiAgent:
    """A grounding or vision agent behind an endpoint. Pickled as its spec.

    Args:
        argument: The text after `openai:` in the spec.

    Raises:
        SpecError: The spec or its endpoint is invalid.
        MissingExtraError: The extra `api` is not installed.
    """

    immediate = False
    role: ClassVar[str]

    def __init__(self, argument: str) -> None:
        self._argument = argument
        spec = parse_api_spec(argument)
        self.model = spec.model
        self._spec = spec.spec
        self._client: ChatClient = client_for(load_endpoint(spec.endpoint))

    def __reduce__(self) -> tuple[type[ApiAgent], tuple[str]]:
        return type(self), (self._argument,)


def used(model: str, usage: Usage) -> dict[str, Any]:
    """Usage of a call, for the details of a tool's result or of a turn."""
    return {"model": model, **usage.record()}


def after_thinking(text: str) -> str:
    """A reply without the reasoning at its start, in any form."""
    return cut_reasoning(text)[0].strip()
