"""Captions of frames by a model behind an endpoint, vLLM included: `openai:MODEL[@ENDPOINT]`.

    longvideo-env describe data/films --with openai:gpt-4o,every_s=10

The frames of a batch are sent concurrently. If one request of a batch fails, paid replies of the
others are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.api.agent import after_thinking, parse_api_spec
from agents.api.client import client_for
from agents.api.endpoints import load_endpoint
from agents.api.images import image_part
from agents.perception.local_vlm import CAPTION
from longvideo_env.datasets.layers import CAPTIONS, Maker
from longvideo_env.errors import EndpointError, SpecError, ToolError
from longvideo_env.sync import background_loop


@dataclass(frozen=True)
class ApiCaptionOptions:
    """Options of a spec.

    Attributes:
        every_s: Seconds between captioned frames.
        batch: Number of concurrent requests.
        max_side: Longest side in pixels. Larger frames are scaled down. 0 means no limit.
        detail: The API's `detail`: `low`, `high` or `auto`.
        max_tokens: Maximum tokens of a caption.
    """

    every_s: float = 5.0
    batch: int = 16
    max_side: int = 512
    detail: str = "auto"
    max_tokens: int = 128

    def __post_init__(self) -> None:
        if not 0.01 <= self.every_s <= 3600:
            raise SpecError(f"openai: every_s must be 0.01 to 3600, got {self.every_s}.")
        if min(self.batch, self.max_tokens) < 1 or self.max_side < 0:
            raise SpecError("openai: batch and max_tokens must be at least 1, max_side at least 0.")


class ApiCaptioner:
    """See the module's docstring.

    Args:
        argument: `MODEL[@ENDPOINT][,every_s=5,...]`.

    Raises:
        SpecError: The spec or its endpoint is invalid.
        MissingExtraError: The extra `api` is not installed.
    """

    def __init__(self, argument: str) -> None:
        spec = parse_api_spec(argument)
        self._options = spec.spec.read(ApiCaptionOptions)
        self._model = spec.model
        self._client = client_for(load_endpoint(spec.endpoint))
        self._said: dict[tuple[Path, ...], str] = {}  # a short text for each frame
        self.every_s, self.batch = self._options.every_s, self._options.batch
        settings = {**asdict(self._options), "prompt": CAPTION, "temperature": 0.0}
        self.maker = Maker(CAPTIONS, f"openai:{spec.model}", "", settings)

    def read(self, frames: Sequence[Path], /) -> Sequence[Sequence[str]]:
        """One caption per frame.

        Raises:
            ToolError: A frame cannot be read, or the endpoint failed.
        """
        return [[text] for text in self.answer([[path] for path in frames], CAPTION)]

    def answer(self, groups: Sequence[Sequence[Path]], prompt: str) -> list[str]:
        """The model's reply for each group of frames, requested concurrently.

        Raises:
            ToolError: A frame cannot be read, or the endpoint failed.
        """
        keys = [tuple(group) for group in groups]
        loop = background_loop()  # one loop for all batches, because a client belongs to a loop
        asyncio.run_coroutine_threadsafe(self._ask_all(keys, prompt), loop).result()
        return [self._said[key] for key in keys]

    async def _ask_all(self, keys: Sequence[tuple[Path, ...]], prompt: str) -> None:
        todo = [key for key in dict.fromkeys(keys) if key not in self._said]
        asked = (self._ask(key, prompt) for key in todo)
        given = await asyncio.gather(*asked, return_exceptions=True)
        problems = [one for one in given if isinstance(one, BaseException)]
        if problems:
            raise problems[0]

    async def _ask(self, key: tuple[Path, ...], prompt: str) -> None:
        options = self._options
        pictures = [image_part(path, options.max_side, options.detail).part for path in key]
        content: list[Any] = [{"type": "text", "text": prompt}, *pictures]
        try:
            reply = await self._client.chat(
                self._model,
                [{"role": "user", "content": content}],
                role="captions",
                extra={"temperature": 0.0, "max_tokens": options.max_tokens},
                n_images=len(pictures),
            )
        except EndpointError as error:
            raise ToolError(str(error)) from error
        self._said[key] = " ".join(after_thinking(reply.text).split())
