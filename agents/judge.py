"""`openai:MODEL[@ENDPOINT]` as judge of free-text answers; see `longvideo_env.game.judging`.

Options: `votes` (an odd number; the majority decides), `temperature` (0 for one vote, otherwise
0.7), `max_tokens`. Vote `i` uses seed `i`, so votes differ and can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.api.agent import ApiAgent, after_thinking, used
from longvideo_env.errors import EndpointError, SpecError, ToolError
from longvideo_env.tools.tool import ToolReply

MOST_VOTES = 15


@dataclass(frozen=True)
class JudgeOptions:
    """Options of a spec."""

    votes: int = 1
    temperature: float = -1.0
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= MOST_VOTES or self.votes % 2 == 0:
            raise SpecError(f"votes must be an odd number up to {MOST_VOTES}, got {self.votes}.")
        if self.max_tokens < 1:
            raise SpecError(f"max_tokens must be at least 1, got {self.max_tokens}.")


class ApiJudge(ApiAgent):
    """See the module's docstring. Spec: `openai:MODEL[@ENDPOINT][,name=value...]`."""

    role = "judge"

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        options = self.options = self._spec.read(JudgeOptions)
        self.votes = options.votes
        several = 0.7 if options.votes > 1 else 0.0
        self.temperature = several if options.temperature < 0 else options.temperature

    async def vote(self, prompt: str, number: int, /) -> ToolReply:
        """Ask for one vote.

        Raises:
            ToolError: The endpoint failed, or the reply is empty.
        """
        try:
            reply = await self._client.chat(
                self.model,
                [{"role": "user", "content": prompt}],
                role=self.role,
                extra=self._sampling(number),
            )
        except EndpointError as error:
            raise ToolError(str(error)) from error
        text = after_thinking(reply.text)
        if not text:
            raise ToolError("the judge's reply is empty.")
        return ToolReply(text, details=used(self.model, reply.usage))

    def record_key(self, prompt: str, number: int, /) -> Mapping[str, Any]:
        """What a vote depends on besides the prompt."""
        return {"agent": "openai", "model": self.model, "sampling": self._sampling(number)}

    def _sampling(self, number: int) -> dict[str, Any]:
        sampling: dict[str, Any] = {
            "temperature": self.temperature,
            "max_tokens": self.options.max_tokens,
        }
        return sampling | ({"seed": number} if self.temperature > 0 else {})
