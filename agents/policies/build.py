"""Builds a policy from a spec or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.generation.model_files import check_model
from agents.generation.settings import GenerationSettings
from agents.policies.function import FunctionPolicy, takes
from agents.policies.scripted import RandomPolicy, ScriptedPolicy
from agents.policies.teacher import MiniTeacher
from longvideo_env.config import spec_of
from longvideo_env.errors import MissingExtraError, SpecError
from longvideo_env.game.policy import Policy, SeeingPolicy, reads_only
from longvideo_env.game.protocol.continuation import ContinuationProtocol
from longvideo_env.specs import Spec, entry_point_names, is_attribute, load_attribute, parse_spec

DEFAULT_GAME, RELEASED = "longvideoagent", "longvideoagent-released"

POLICY_SPECS = (
    "random",
    "scripted:answer",
    "scripted:ground-look-answer",
    "teacher:mini",
    "hf:mini-starter",
    "hf:PATH",
    "hf:FILE.gguf",
    "hf:BASE+ADAPTER",
    "vllm:PATH",
    "vllm:BASE+ADAPTER",
    "openai:MODEL[@ENDPOINT]",
    "MODULE:FUNCTION",
)


def check_policy_spec(spec: Any) -> None:
    """Check the spec of a policy early, without loading a model.

    Raises:
        SpecError: There is no such policy.
        InputError: Its model does not exist.
    """
    if callable(spec) or hasattr(spec, "act"):
        return
    parsed = parse_spec(spec)
    if parsed.name in _BUILDERS:
        if bool(parsed.argument) == (parsed.name != "random"):
            if parsed.name in ("scripted", "teacher"):  # building is cheap and checks the argument
                _BUILDERS[parsed.name](spec.partition(":")[2], GenerationSettings())
            elif parsed.name in ("hf", "vllm"):
                check_model(spec.partition(":")[2])
            return
    elif parsed.name in entry_point_names("policies"):
        return
    elif is_attribute(spec):
        if not callable(load_attribute(spec)):
            raise SpecError(f"{spec!r} is not a function.")
        return
    raise SpecError(f"unknown policy {spec!r}; expected one of: {', '.join(POLICY_SPECS)}.")


def build_policy(spec: Any, settings: GenerationSettings | None = None) -> Policy:
    """Build the policy of a spec. Also takes a function `messages -> str` or a `Policy`.

    Args:
        spec: One of `POLICY_SPECS`, a function, or a policy.
        settings: Generation settings. Policies without a model ignore them.

    Raises:
        SpecError: There is no such policy, or its model cannot be loaded.
        MissingExtraError: Its libraries are not installed.
    """
    check_policy_spec(spec)
    if not isinstance(spec, str):
        policy: Policy = spec if hasattr(spec, "act") else FunctionPolicy(spec)
        return policy
    parsed = parse_spec(spec)
    if parsed.name in _BUILDERS:
        builder = _BUILDERS[parsed.name]
        return builder(spec.partition(":")[2], settings or GenerationSettings())
    points: Mapping[str, Any] = entry_point_names("policies")
    if parsed.name in points:
        return build_policy(_part(points[parsed.name].load(), parsed))
    return build_policy(load_attribute(spec))


def policy_name(spec: Any) -> str:
    """Name of a policy in tables and folders."""
    return str(spec_of(spec)) if callable(spec) or isinstance(spec, str) else type(spec).__name__


def game_of(policies: Sequence[Any]) -> str:
    """The game of the policies if none was named.

    The released checkpoints of LongVideoAgent play the game of their training.

    Raises:
        SpecError: The policies play different games.
    """
    found = {RELEASED if _is_released(spec) else DEFAULT_GAME for spec in policies}
    if len(found) > 1:
        raise SpecError(
            "released checkpoints (hf:longvideoagent/...) play another game than other policies. "
            f"Fix: evaluate them separately, or set --game, such as --game {DEFAULT_GAME}."
        )
    return found.pop() if found else DEFAULT_GAME


def check_protocol(spec: Any, protocol: str) -> None:
    """Check that a policy can use a protocol.

    Raises:
        SpecError: It cannot use it.
    """
    if protocol == ContinuationProtocol.name and policy_name(spec).startswith("openai:"):
        raise SpecError(
            "a chat server cannot continue one long reply (protocol=continuation). Fix: load the "
            "model with hf: or vllm:, or choose another game."
        )


def check_frames(spec: Any, frames: int) -> None:
    """Check that a policy can see, if frames are requested.

    Raises:
        SpecError: It reads text only.
    """
    if not frames:
        return
    name = policy_name(spec)
    if isinstance(spec, str):
        parsed = parse_spec(spec)
        if parsed.name == "hf":
            from agents.generation.hf import split_adapter  # its libraries are an extra
            from agents.generation.seeing_codec import takes_images

            base, _ = split_adapter(spec.partition(":")[2])
            try:
                sees = takes_images(base)
            except (OSError, ValueError, ImportError):
                return  # building it reports the error
            if not sees:
                raise reads_only(name)
        elif parsed.name in _BUILDERS and parsed.name != "openai":
            raise reads_only(name)
        if parsed.name in _BUILDERS or not is_attribute(spec):
            return
        spec = load_attribute(spec)
    if not isinstance(spec, SeeingPolicy) and not takes(spec, "frames"):
        raise reads_only(name)


def _is_released(spec: Any) -> bool:
    models = ("hf:longvideoagent/", "vllm:longvideoagent/")
    return isinstance(spec, str) and spec.lower().startswith(models)


def _part(part: Any, spec: Spec) -> Any:
    """The object of an entry point: a policy, or a class that takes the spec's argument."""
    return part(spec.argument) if isinstance(part, type) else part


def _teacher(argument: str, settings: GenerationSettings) -> Policy:
    name, _, rest = argument.partition(":")
    if name != "mini":
        raise SpecError(f"unknown teacher {name!r}; expected teacher:mini.")
    return MiniTeacher(rest)


def _vllm(argument: str, settings: GenerationSettings) -> Policy:
    try:
        from agents.generation.vllm_engine import VLLMPolicy  # so is torch
    except ImportError as error:
        raise MissingExtraError("torch", "vllm") from error
    return VLLMPolicy(argument, settings)


def _openai(argument: str, settings: GenerationSettings) -> Policy:
    from agents.policies.api_policy import ApiPolicy  # its client is an extra

    return ApiPolicy(argument, settings)


def _hf(argument: str, settings: GenerationSettings) -> Policy:
    from agents.generation.hf import HFPolicy  # torch and transformers are an extra

    return HFPolicy(argument, settings)


_BUILDERS: Mapping[str, Callable[[str, GenerationSettings], Policy]] = {
    "random": lambda argument, settings: RandomPolicy(),
    "scripted": lambda argument, settings: ScriptedPolicy(argument),
    "teacher": _teacher,
    "vllm": _vllm,
    "openai": _openai,
    "hf": _hf,
}

POLICY_KINDS = frozenset(_BUILDERS)
"""Names of the built-in policies in specs."""
