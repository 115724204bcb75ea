"""A remote policy with recorded replies, so that a run can be repeated without a server.

The key of a reply consists of model, endpoint, messages with frames, generation settings and seed,
so each sample of a question has its own reply. Replies are stored in the recording of the tool
calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from agents.api.agent import parse_api_spec
from agents.api.images import image_part
from agents.generation.settings import GenerationSettings
from longvideo_env.errors import PolicyError, RecordingError, ToolError
from longvideo_env.game.policy import (
    Codec,
    Context,
    FinishReason,
    Message,
    Policy,
    Reply,
    let_see,
)
from longvideo_env.tools.tool import ToolReply
from longvideo_env.tools.toolbox import Recorder

REMOTE = "openai:"
_SPEED = ("max_batch_size", "max_model_len", "tensor_parallel_size", "gpu_memory_utilization")


def recorded(
    policy: Policy, spec: str, settings: GenerationSettings, recording: Recorder | None
) -> Policy:
    """The policy, with recorded replies if it is remote and there is a recording."""
    if recording is None or not spec.startswith(REMOTE):
        return policy
    return RecordedPolicy(policy, spec, settings, recording)


class RecordedPolicy:
    """See the module's docstring.

    Args:
        policy: The policy for replies that are not recorded.
        spec: Its spec, `openai:MODEL[@ENDPOINT][,name=value...]`.
        settings: Generation settings.
        recording: The recording for replies.
    """

    codec: Codec

    def __init__(
        self, policy: Policy, spec: str, settings: GenerationSettings, recording: Recorder
    ) -> None:
        self.codec = policy.codec
        self._spec = spec
        self._resolution = 0
        self._policy = policy
        self._recording = recording
        parsed = parse_api_spec(spec.removeprefix(REMOTE))
        drawn = {key: value for key, value in asdict(settings).items() if key not in _SPEED}
        self._key = {
            "agent": "policy",
            "kind": "policy",
            "model": parsed.model,
            "endpoint": parsed.endpoint,
            "options": dict(parsed.spec.options),
            "sampling": drawn,
        }

    def record_key(self, context: Context) -> Mapping[str, Any]:
        """The key of a reply."""
        protocol = context.game.protocol
        offered: dict[str, Any] = {"tags": protocol.tags.name}
        if context.tools:
            offered = {"protocol": protocol.name, "tools": list(context.tools)}
        return {
            **self._key,
            **offered,
            "messages": [self._keyed(message) for message in context.messages],
            "actions": list(context.game.actions),
            "seed": context.seed,
        }

    def see(self, resolution: int) -> None:
        """Passed on to the policy."""
        let_see(self._policy, self._spec, resolution)
        self._resolution = resolution

    def _keyed(self, message: Message) -> dict[str, Any]:
        """A message with frames replaced by the digests of the bytes sent."""
        keyed: dict[str, Any] = dict(message)
        if frames := message.get("frames", ()):
            keyed["frames"] = [image_part(one.file, self._resolution).digest for one in frames]
        return keyed

    async def act(self, context: Context, /) -> Reply:
        """The recorded reply, or a new one.

        Raises:
            PolicyError: The policy gave no reply, or the reply is missing in a replayed recording.
        """

        async def ask() -> tuple[ToolReply, bool]:
            reply = await self._policy.act(context)
            details = {"finish": reply.finish, "prefix": reply.prefix, "usage": reply.usage}
            return ToolReply(reply.text, details=details), False

        recording = self._recording
        try:
            found = await recording.call(
                self.record_key(context), ask, stats=recording.policy_stats
            )
        except (RecordingError, ToolError) as error:
            raise PolicyError(str(error)) from error
        return Reply(
            found.text,
            prefix=found.details["prefix"],
            finish=cast(FinishReason, found.details["finish"]),
            usage=found.details["usage"],
        )

    async def aclose(self) -> None:
        """Release what the policy holds."""
        await self._policy.aclose()
