"""How much memory training takes on a GPU, estimated from a model's `config.json` alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GIB = 2**30
BF16, ADAM = 2, 12
"""Bytes a weight: in bfloat16; for Adam's two moments and the float32 master copy."""


@dataclass(frozen=True)
class Shape:
    """What a model's size follows from.

    Attributes:
        name: Its architecture.
        weights: Number of weights.
        trained: Number of weights with a gradient.
        context: The most tokens that it can hold.
        layers: Number of layers.
        hidden: Width.
        vocabulary: Number of tokens.
        cache_per_token: Bytes of keys and values for one token, in bfloat16.
    """

    name: str
    weights: int
    trained: int
    context: int
    layers: int
    hidden: int
    vocabulary: int
    cache_per_token: int


@dataclass(frozen=True)
class Sharding:
    """How a run is spread.

    Attributes:
        processes: GPUs.
        zero_stage: DeepSpeed's, 0 without it.
        offload_optimizer: Whether its state lies in the host's memory.
        offload_parameters: Whether the weights do.
    """

    processes: int = 1
    zero_stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False


def read_shape(config: Any, *, lora_r: int | None = None) -> Shape:
    """Build the model without its weights, and count.

    Args:
        config: A transformers config.
        lora_r: Rank of LoRA on every linear layer, or None for full fine-tuning.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    weights = sum(parameter.numel() for parameter in model.parameters())
    text = config.get_text_config()
    trained = weights
    if lora_r is not None:
        linear = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
        head = model.get_output_embeddings()
        trained = sum(
            lora_r * (layer.in_features + layer.out_features)
            for layer in linear
            if layer is not head
        )
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        name=config.architectures[0] if config.architectures else config.model_type,
        weights=weights,
        trained=trained,
        context=text.max_position_embeddings,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
        cache_per_token=2 * text.num_hidden_layers * text.num_key_value_heads * head_size * BF16,
    )


def states_bytes(shape: Shape, sharding: Sharding, reference: bool) -> dict[str, float]:
    """Bytes on each GPU for weights, gradients and the optimizer's state.

    ZeRO-1 divides the optimizer's state by the number of processes, ZeRO-2 the gradients as well,
    ZeRO-3 the weights as well.

    Args:
        shape: The model's.
        sharding: How the run is spread.
        reference: Whether a second model is held for the KL term.
    """
    stage, n = sharding.zero_stage, sharding.processes
    copies = 2 if reference else 1
    weights = copies * shape.weights * BF16 / (n if stage >= 3 else 1)
    return {
        "weights": 0.0 if sharding.offload_parameters else weights,
        "gradients": shape.trained * BF16 / (n if stage >= 2 else 1),
        "optimizer": 0.0
        if sharding.offload_optimizer
        else shape.trained * ADAM / (n if stage >= 1 else 1),
    }


def activations_bytes(shape: Shape, batch: int, tokens: int, *, checkpointing: bool) -> float:
    """Bytes for one forward and backward of `batch` rows of `tokens`.

    Checkpointing keeps each layer's input; without it about 34 numbers a token, layer and unit of
    width are kept (Korthikanti et al., arXiv 2205.05198, without attention's own). The logits come
    on top, in float32 with their gradient.
    """
    a_layer = batch * tokens * shape.hidden * BF16
    kept = shape.layers * a_layer * (1 if checkpointing else 17) + 17 * a_layer
    return kept + batch * tokens * shape.vocabulary * 4 * 2


def in_gib(n_bytes: float) -> str:
    """Bytes for people."""
    return f"{n_bytes / GIB:.1f} GiB"
