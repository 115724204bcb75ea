"""Captions and answers by a local vision-language model (library transformers).

    --captions vlm:FOLDER               # captions of frames, as a layer
    --vision vlm:FOLDER,frames=8        # answers about the clips in view

FOLDER is a model with its processor, such as Qwen2.5-VL or Qwen3-VL, or its name on the hub.
Decoding is greedy: the same images give the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents.generation.hf import MicroBatcher
from agents.generation.pictures import load_processor, opened
from agents.vision.picking import PlacedFrame, frames_in_view
from longvideo_env.datasets.layers import CAPTIONS, Maker
from longvideo_env.errors import InputError, MissingExtraError, SpecError
from longvideo_env.records.identity import digest_file, digest_folder, short_hash
from longvideo_env.specs import Spec, parse_spec
from longvideo_env.tools.tool import ToolCall, ToolReply

CAPTION = "Describe what this frame of a film shows, in one plain sentence."
LOOK = (
    "These are {n} frames of a film, in order of time. Say what they show that bears on the "
    "request, in plain sentences. Say so if they do not show it. Request: {query}"
)


@dataclass(frozen=True)
class CaptionOptions:
    """Options of a spec.

    Attributes:
        every_s: Seconds between captioned frames.
        batch: Frames per batch.
        max_side: Longest side in pixels. Larger frames are scaled down.
        max_tokens: Maximum tokens of a caption.
    """

    every_s: float = 5.0
    batch: int = 8
    max_side: int = 448
    max_tokens: int = 64

    def __post_init__(self) -> None:
        _check(self.batch, self.max_side, self.max_tokens)
        if not 0.01 <= self.every_s <= 3600:
            raise SpecError(f"vlm: every_s must be 0.01 to 3600, got {self.every_s}.")


@dataclass(frozen=True)
class LookOptions:
    """Options of a spec.

    Attributes:
        frames: Number of frames of the view to show.
        batch: Requests per batch.
        max_side: Longest side in pixels. Larger frames are scaled down.
        max_tokens: Maximum tokens of an answer.
    """

    frames: int = 8
    batch: int = 4
    max_side: int = 448
    max_tokens: int = 256

    def __post_init__(self) -> None:
        _check(self.batch, self.max_side, self.max_tokens, self.frames)


class FrameCaptioner:
    """Captions frames. Spec: `vlm:MODEL[,every_s=5,batch=8,...]`.

    Raises:
        SpecError: An option is invalid, or there is no such model.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, argument: str) -> None:
        spec = _spec(argument)
        self._options = spec.read(CaptionOptions)
        self._name = spec.argument
        self.every_s, self.batch = self._options.every_s, self._options.batch
        self.maker = Maker(
            CAPTIONS,
            f"vlm:{Path(spec.argument).name}",
            f"transformers {_library_version()}",
            {**asdict(self._options), "prompt": CAPTION, "weights": _digest(spec.argument)},
        )

    def read(self, frames: Sequence[Path], /) -> Sequence[Sequence[str]]:
        """One caption per frame.

        Raises:
            ToolError: A frame cannot be decoded.
        """
        return [[text] for text in self.answer([([path], CAPTION) for path in frames])]

    def answer(self, asked: Sequence[tuple[Sequence[Path], str]]) -> list[str]:
        """The model's answer to each question about frames, in one batch."""
        model = open_vlm(self._name)
        return model.answer(asked, self._options.max_side, self._options.max_tokens)


class VlmVision:
    """Describes frames of the view. Spec: `vlm:MODEL[,frames=8,...]`.

    Raises:
        SpecError: An option is invalid, or there is no such model.
        MissingExtraError: transformers is not installed.
    """

    immediate = False

    def __init__(self, argument: str) -> None:
        spec = _spec(argument)
        self._options = spec.read(LookOptions)
        self._name = spec.argument
        self._digest = _digest(spec.argument)
        self._batcher = MicroBatcher(self._answer, self._options.batch)

    async def look(self, request: ToolCall, /) -> ToolReply:
        """Return the model's description of the frames, and the number shown.

        Raises:
            ToolError: There are no frames, or one cannot be decoded.
        """
        frames = frames_in_view(request, self._options.frames)
        text = await self._batcher.submit((frames, request.query or ""))
        return ToolReply(text or "(the model said nothing)", details={"n_frames": len(frames)})

    def record_key(self, request: ToolCall, /) -> Mapping[str, Any]:
        """The key of the reply."""
        frames = frames_in_view(request, self._options.frames)
        return {
            "agent": "vlm",
            "model": self._digest,
            "prompt": LOOK,
            "options": asdict(self._options),
            "frames": [digest_file(one.frame.path) for one in frames],
            "query": request.query,
        }

    def _answer(self, requests: list[tuple[tuple[PlacedFrame, ...], str]]) -> Sequence[str]:
        asked = [
            ([one.frame.path for one in frames], LOOK.format(n=len(frames), query=query))
            for frames, query in requests
        ]
        model = open_vlm(self._name)
        return model.answer(asked, self._options.max_side, self._options.max_tokens)


class LocalVlm:
    """A model with its processor.

    Raises:
        SpecError: There is no such model.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, name: str) -> None:
        try:
            import torch
            from transformers import AutoModelForImageTextToText
        except ImportError as error:
            raise MissingExtraError(error.name or "transformers", "train") from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype: Any = "auto" if device == "cuda" else torch.float32
        try:
            self._processor: Any = load_processor(name)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                name, dtype=dtype, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise InputError(
                f"vlm: the model {name!r} cannot be loaded ({error!s:.200}). "
                "Fix: pass the folder of a vision-language model with its processor."
            ) from error
        self._model = model.to(device).eval()
        self._processor.tokenizer.padding_side = "left"

    @cached_property
    def _torch(self) -> Any:
        import torch

        return torch

    def answer(
        self, asked: Sequence[tuple[Sequence[Path], str]], max_side: int, max_tokens: int
    ) -> list[str]:
        """An answer to each question about images, in one batch.

        Raises:
            ToolError: An image cannot be decoded.
        """
        images = [[opened(path, max_side) for path in paths] for paths, _ in asked]
        messages = [
            [{"role": "user", "content": [
                *({"type": "image"} for _ in paths), {"type": "text", "text": text}]}]
            for paths, text in asked
        ]  # fmt: skip
        prompts = [
            self._processor.apply_chat_template(one, add_generation_prompt=True, tokenize=False)
            for one in messages
        ]
        inputs = self._processor(text=prompts, images=images, return_tensors="pt", padding=True)
        inputs = inputs.to(self._model.device)
        with self._torch.inference_mode():
            out = self._model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        said = self._processor.batch_decode(new, skip_special_tokens=True)
        return [" ".join(text.split()) for text in said]


@lru_cache(maxsize=1)
def open_vlm(name: str) -> LocalVlm:
    """Load the model of a folder or name, once."""
    return LocalVlm(name)


def _spec(argument: str) -> Spec:
    spec = parse_spec(f"vlm:{argument}")
    if not spec.argument:
        raise SpecError("expected vlm:MODEL, with the folder of a vision-language model.")
    return spec


def _check(*at_least_one: int) -> None:
    if min(at_least_one) < 1:
        raise SpecError("vlm: batch, max_side, max_tokens and frames must be at least 1.")


def _digest(name: str) -> str:
    return digest_folder(name) if Path(name).is_dir() else short_hash(name)


def _library_version() -> str:
    try:
        return version("transformers")
    except ImportError as error:
        raise MissingExtraError("transformers", "train") from error
