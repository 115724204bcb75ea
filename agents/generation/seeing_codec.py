"""A codec for vision-language models: frames become image tokens and pixels.

The model's chat template renders a message with frames as a list of parts: its text, then its
images. The model's processor gives the number of tokens of each image, and its pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from agents.generation.chat import ChatCodec
from agents.generation.pictures import load_processor, opened
from longvideo_env.config import RESOLUTION
from longvideo_env.errors import InputError, PolicyError, SpecError, ToolError
from longvideo_env.game.protocol.base import ReplyProtocol
from longvideo_env.schema import FrameRef

_KEPT = 64
"""Cache size for pixels of frames. A frame of 448x252 pixels takes 2.7 MB."""

_PROBE = FrameRef("probe", 1, 0.0)


def takes_images(model: str) -> bool:
    """Whether a model on disk or in the hub's cache takes images.

    Raises:
        OSError: There is no configuration.
        ValueError: The library does not know its configuration.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    config = AutoConfig.from_pretrained(model)
    there: Mapping[str, Any] = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return config.model_type in there and "vision_config" in config.sub_configs


class SeeingCodec(ChatCodec):
    """A `ChatCodec` for a model that takes images.

    Args:
        processor: The model's processor with its tokenizer.
        chat_template_kwargs: Further variables of the template.

    Attributes:
        processor: The model's processor.
        resolution: Longest side in pixels. Larger frames are scaled down.

    Raises:
        SpecError: There is no chat template, or it does not support conversations.
    """

    def __init__(
        self, processor: Any, chat_template_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.processor = processor
        self.resolution = RESOLUTION
        tokenizer = processor.tokenizer
        if tokenizer.chat_template is None:
            tokenizer.chat_template = processor.chat_template
        self._pixels = lru_cache(_KEPT)(self._read)
        self._only_parts = False
        try:
            super().__init__(tokenizer, chat_template_kwargs)
        except SpecError:
            self._only_parts = True  # some templates do not accept plain text
            super().__init__(tokenizer, chat_template_kwargs)

    @classmethod
    def of(cls, model: str, chat_template_kwargs: Mapping[str, Any] | None = None) -> SeeingCodec:
        """The codec of a model.

        Raises:
            SpecError: It takes no images, or has no processor or chat template.
        """
        try:
            if takes_images(model):
                return cls(load_processor(model), chat_template_kwargs)
        except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
            raise InputError(
                f"the processor of {model!r} cannot be loaded ({error!s:.200}). Fix: pass the "
                "folder of a vision-language model with its processor, and install pillow."
            ) from error
        raise SpecError(
            f"the model {model!r} takes no images, so it cannot be shown frames. Fix: leave frames "
            "at 0, or use a vision-language model, such as Qwen/Qwen2.5-VL-3B-Instruct."
        )

    @property
    def protocol(self) -> ReplyProtocol:
        """As in `ChatCodec`. With calls, the template must also show images of tool messages.

        Raises:
            SpecError: It does not.
        """
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: ReplyProtocol) -> None:
        super(SeeingCodec, type(self)).protocol.fset(self, protocol)  # type: ignore[attr-defined]
        if self._tools is None:
            return
        result = {"role": "tool", "content": ".", "tool_call_id": "0", "name": "look"}
        shown = self._tools.suffix([{**result, "frames": (_PROBE,)}])  # type: ignore[typeddict-item]
        if self.encode(shown).count(self.image_id) != 1:
            raise SpecError(
                f"the chat template of {self.tokenizer.name_or_path!r} leaves out images of tool "
                "messages. Fix: use protocol=tags, or leave frames at 0."
            )

    @property
    def image_id(self) -> int:
        """The image token."""
        return int(self.processor.image_token_id)

    @property
    def unsayable(self) -> tuple[int, ...]:
        """Tokens that replies must not contain, because they have no pixels."""
        video = getattr(self.processor, "video_token_id", None)  # not every model supports videos
        return (self.image_id, *([] if video is None else [int(video)]))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        generate: bool = True,
    ) -> str:
        """Render messages to text. Each image is one token in it.

        Raises:
            SpecError: The template refuses them.
        """
        return super().render(list(map(self._in_parts, messages)), tools, generate=generate)

    def _in_parts(self, message: Mapping[str, Any]) -> dict[str, Any]:
        parted = dict(message)
        frames = parted.pop("frames", ())
        if frames or self._only_parts:
            text = {"type": "text", "text": parted["content"]}
            parted["content"] = [text, *({"type": "image"} for _ in frames)]
        return parted

    def encode_with(self, text: str, frames: tuple[FrameRef, ...]) -> tuple[int, ...]:
        """Token ids of rendered text, with the processor's number of tokens for each image.

        Raises:
            PolicyError: A frame cannot be decoded, or the template left one out.
        """
        if not frames:
            return self.encode(text)
        try:
            images = [opened(frame.file, self.resolution) for frame in frames]
            out = self.processor(text=[text], images=images, add_special_tokens=False)
        except ToolError as error:
            raise PolicyError(str(error)) from error
        except (IndexError, ValueError) as error:
            raise PolicyError(
                f"the chat template shows other images than the {len(frames)} frames: {error}"
            ) from error
        return tuple(out["input_ids"][0])

    def pictures(self, frames: Sequence[FrameRef]) -> dict[str, Any]:
        """Model inputs for frames, in order: `pixel_values` and related tensors.

        Shape: defined by the processor; images are concatenated in the first dimension.
        """
        import torch

        each = [
            self._pixels(path, self.resolution, path.stat().st_mtime_ns)
            for path in (frame.file for frame in frames)
        ]
        return {key: torch.cat([one[key] for one in each]) for key in (each[0] if each else ())}

    def _read(self, path: Path, resolution: int, _changed: int) -> dict[str, Any]:
        images = [opened(path, resolution)]
        return dict(self.processor.image_processor(images=images, return_tensors="pt"))

    def token_types(self, token_ids: Any) -> dict[str, Any]:
        """Token types that mark image tokens, for models that need them.

        Args:
            token_ids: A tensor. Shape: (batch, tokens).
        """
        if "mm_token_type_ids" not in self.processor.model_input_names:
            return {}
        return {"mm_token_type_ids": (token_ids == self.image_id).int()}
