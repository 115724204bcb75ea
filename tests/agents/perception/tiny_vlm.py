"""Tiny vision-language models with random weights, made by config.

Their processors are real. Their chat templates are real too, and come with TRL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trl

SPECIAL = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def template_of(kind: str) -> str:
    """The chat template of `qwen2_5_vl` or `qwen3_vl`."""
    return (Path(trl.__file__).parent / "chat_templates" / f"{kind}.jinja").read_text("utf-8")


def make_tiny_vlm(out: Path, kind: str = "qwen2_5_vl") -> Path:
    """Write the model and the files of its processor."""
    import torch
    from transformers import Qwen2VLImageProcessorPil

    from train.tiny_model import make_tokenizer

    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    tokenizer.chat_template = template_of(kind)
    torch.manual_seed(0)
    _model(kind, tokenizer).save_pretrained(out)
    tokenizer.save_pretrained(out)
    patch = 14 if kind == "qwen2_5_vl" else 16
    side = 2 * patch
    Qwen2VLImageProcessorPil(
        patch_size=patch, min_pixels=side * side * 4, max_pixels=side * side * 16
    ).save_pretrained(out)
    return out


def _model(kind: str, tokenizer: Any) -> Any:
    import transformers as hf

    start, end, image, video = tokenizer.convert_tokens_to_ids(SPECIAL)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "head_dim": 32, "rope_parameters": {
            "rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0,
        },
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.3,
    }  # fmt: skip
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {"out_hidden_size": 64}
    ids = {
        "vision_start_token_id": start, "vision_end_token_id": end,
        "image_token_id": image, "video_token_id": video,
    }  # fmt: skip
    if kind == "qwen2_5_vl":
        vision |= {"fullatt_block_indexes": [1], "window_size": 56}
        config: Any = hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
        return hf.Qwen2_5_VLForConditionalGeneration(config)
    text["rope_parameters"] |= {"mrope_interleaved": True}
    vision |= {"deepstack_visual_indexes": [1], "num_position_embeddings": 64}
    config = hf.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
    return hf.Qwen3VLForConditionalGeneration(config)
