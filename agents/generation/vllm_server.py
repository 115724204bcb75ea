"""Replies from a vLLM server: token ids in, token ids and log-probs out. Imports torch.

Used in training with `--vllm-mode server`. Each reply is one request, so the server batches all
unfinished ones. A reply stops at an action's closing tag if the server takes enough stop sequences;
otherwise the text after the tag is cut off. If the tag was inside the reasoning and so closes no
action, another request continues the reply.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.generation.batches import Generated
from agents.generation.chat import ChatCodec
from agents.generation.settings import STOPS_TAKEN, GenerationSettings
from longvideo_env.errors import EndpointError, MissingExtraError, PolicyError
from longvideo_env.game.policy import FinishReason
from longvideo_env.seeding import derive_seed

if TYPE_CHECKING:
    from openai import AsyncOpenAI

REQUEST_TIMEOUT_S = 600.0
MAX_RETRIES = 3
MAX_REPLY_BYTES = 32_000_000


class VLLMServer:
    """A client of `vllm serve` for coroutines on one event loop.

    Args:
        base_url: Such as `http://host:8000`.
        codec: The model's codec.
        settings: Generation settings.
        eos_token_id: End of sequence in the checkpoint's generation config.

    Attributes:
        busy_s: Seconds during which at least one request was unfinished.
        adapter: Name of the LoRA adapter that replies; None is the model itself.

    Raises:
        MissingExtraError: openai is not installed.
    """

    def __init__(
        self,
        base_url: str,
        codec: ChatCodec,
        settings: GenerationSettings,
        eos_token_id: int | Sequence[int] | None = None,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("openai", "api") from error
        self.busy_s = 0.0
        self.adapter: str | None = None
        self._base_url = base_url.rstrip("/")
        self._codec = codec
        self._settings = settings
        self._eos = eos_token_id
        self._client: AsyncOpenAI = openai.AsyncOpenAI(
            base_url=f"{self._base_url}/v1",
            api_key="none",
            timeout=REQUEST_TIMEOUT_S,
            max_retries=MAX_RETRIES,
        )
        from agents.api.limits import limit_replies

        limit_replies(self._client._client, self._base_url, MAX_REPLY_BYTES)
        self._model: tuple[str, int] | None = None
        self._lock = asyncio.Lock()
        self._under_way = 0
        self._busy_since = 0.0

    async def generate(self, prompt: Sequence[int], seed: int) -> Generated:
        """Generate a reply.

        Raises:
            PolicyError: The server did not reply, or sent no tokens.
        """
        if self._under_way == 0:
            self._busy_since = time.perf_counter()
        self._under_way += 1
        try:
            return await self._generate(prompt, seed)
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self.busy_s += time.perf_counter() - self._busy_since

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _generate(self, prompt: Sequence[int], seed: int) -> Generated:
        model, context = await self._describe()
        limit = min(self._settings.max_turn_tokens, context - len(prompt))
        if limit < 1:
            return Generated((), (), "context")
        ids: list[int] = []
        logprobs: list[float] = []
        while True:
            part = derive_seed(seed, len(ids)) if ids else seed
            more = await self._complete(
                self.adapter or model, [*prompt, *ids], limit - len(ids), part
            )
            for token, logprob in zip(*more, strict=True):
                ids.append(token)
                logprobs.append(logprob)
                finish = self._reason(ids, limit)
                if finish is not None:
                    return Generated(tuple(ids), tuple(logprobs), finish)
            if not more[0]:
                raise PolicyError(f"the vLLM server at {self._base_url} sent an empty reply.")

    async def _complete(
        self, model: str, prompt: list[int], limit: int, seed: int
    ) -> tuple[list[int], list[float]]:
        import openai

        extra = {
            "top_k": self._settings.top_k,
            "stop_token_ids": sorted(self._codec.stop_ids(self._eos)),
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
        try:
            completion = await self._client.completions.create(
                model=model,
                prompt=prompt,
                max_tokens=limit,
                temperature=self._settings.temperature,
                top_p=self._settings.top_p,
                seed=seed,
                stop=self._codec.protocol.stop_strings[-STOPS_TAKEN:] or None,
                logprobs=0,
                extra_body=extra,
            )
        except (openai.OpenAIError, EndpointError) as error:
            raise PolicyError(
                f"the vLLM server at {self._base_url} failed: {type(error).__name__}: {error}"
            ) from error
        return self._tokens(completion.choices[0])

    def _tokens(self, choice: Any) -> tuple[list[int], list[float]]:
        ids = (choice.model_extra or {}).get("token_ids")
        found = None if choice.logprobs is None else choice.logprobs.token_logprobs
        if ids is None or found is None or len(found) != len(ids):
            raise PolicyError(
                f"the vLLM server at {self._base_url} sent no token ids with log-probs. Fix: use "
                "`vllm serve` of vLLM 0.22 or later."
            )
        return list(ids), [float(value) for value in found]

    def _reason(self, ids: list[int], limit: int) -> FinishReason | None:
        if ids[-1] in self._codec.stop_ids(self._eos):
            return "end_of_turn"
        if self._codec.closes_action(ids):
            return "stop"
        return "length" if len(ids) >= limit else None

    async def _describe(self) -> tuple[str, int]:
        """The served model's name and the size of its context in tokens."""
        import openai

        async with self._lock:
            if self._model is None:
                try:
                    models = await self._client.models.list()
                except (openai.OpenAIError, EndpointError) as error:
                    raise PolicyError(f"no vLLM server at {self._base_url}: {error}") from error
                served = models.data[0]
                held = (served.model_extra or {}).get("max_model_len") or 1 << 40
                bound = self._settings.max_context_tokens or 1 << 40
                self._model = served.id, min(int(held), bound)
            return self._model
