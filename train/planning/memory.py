"""Estimate the memory of training on a GPU from a model's `config.json` alone.

This module estimates the model's memory. `activations.py` traces the memory of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GIB = 2**30
BF16, ADAM = 2, 12
"""Bytes per weight: in bfloat16, and for Adam's two moments with the float32 copy."""


@dataclass(frozen=True)
class Shape:
    """The numbers that decide a model's memory.

    Attributes:
        name: Its architecture.
        weights: Number of weights.
        trained: Number of weights with a gradient.
        context: Its context length in tokens.
        layers: Number of layers.
        hidden: Width.
        vocabulary: Number of tokens.
        cache_per_token: Bytes of keys and values for one token, in bfloat16.
        largest_layer: Weights of the largest layer that ZeRO-3 gathers in one piece.
    """

    name: str
    weights: int
    trained: int
    context: int
    layers: int
    hidden: int
    vocabulary: int
    cache_per_token: int
    largest_layer: int


@dataclass(frozen=True)
class Sharding:
    """How a run is spread over GPUs.

    Attributes:
        processes: Number of processes, one per GPU.
        zero_stage: DeepSpeed's ZeRO stage. 0 without DeepSpeed.
        offload_optimizer: Whether the optimizer's state is in the host's memory.
        offload_parameters: Whether the weights are in the host's memory.
    """

    processes: int = 1
    zero_stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False


def read_shape(config: Any, *, lora_r: int | None = None) -> Shape:
    """Build the model without its weights, and count them.

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
        largest_layer=max(
            sum(weight.numel() for weight in module.parameters(recurse=False))
            for module in model.modules()
        ),
    )


def states_bytes(
    shape: Shape, sharding: Sharding, *, lora: bool, reference: bool
) -> dict[str, float]:
    """Bytes on each GPU for weights, gradients and the optimizer's state.

    For ZeRO-2 and ZeRO-3, DeepSpeed's own estimators give the memory of trained weights. They do
    not know frozen weights, which are added in bfloat16. Without ZeRO and for ZeRO-1 they have no
    estimate. A trained weight then takes 20 bytes: 16 (Rajbhandari et al., arXiv 1910.02054), and
    4 for its gradient in float32. ZeRO-1 divides the optimizer's 12 bytes among the GPUs.

    Args:
        shape: The model's.
        sharding: How the run is spread.
        lora: Whether the trained weights are an adapter's, beside the frozen ones.
        reference: Whether a second model is held for the KL term.
    """
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    stage, n = sharding.zero_stage, sharding.processes
    frozen = (shape.weights if lora else 0) + (shape.weights if reference else 0)
    held = float(frozen * BF16)
    if stage >= 3:
        _, trained, _ = estimate_zero3_model_states_mem_needs(
            shape.trained,
            shape.largest_layer,
            num_gpus_per_node=n,
            cpu_offload=sharding.offload_optimizer,
            cpu_offload_params=sharding.offload_parameters,
        )
        held = 0.0 if sharding.offload_parameters else held / n
    elif stage == 2:
        _, trained = estimate_zero2_model_states_mem_needs(
            shape.trained, num_gpus_per_node=n, cpu_offload=sharding.offload_optimizer
        )
    else:
        optimizer = 0.0 if sharding.offload_optimizer else ADAM / (n if stage == 1 else 1)
        trained = shape.trained * (BF16 + BF16 + 4 + optimizer)
    return {"trained weights with gradients and optimizer": float(trained), "frozen weights": held}


def activations_bytes(shape: Shape, batch: int, tokens: int, *, checkpointing: bool) -> float:
    """Bytes for one forward and backward pass of `batch` rows of `tokens`.

    This is arithmetic, for models that `activations.traced_bytes` cannot run. With checkpointing
    each layer's input is kept. Without it about 34 bytes per token, layer and unit of width are
    kept (Korthikanti et al., arXiv 2205.05198, without attention's scores). TRL's head makes no
    logits. It makes float32 chunks of at most 4,096 tokens by 32,768 words, six at once.
    """
    a_layer = batch * tokens * shape.hidden * BF16
    kept = shape.layers * a_layer * (1 if checkpointing else 17) + 17 * a_layer
    return kept + 6 * min(batch * tokens, 4096) * min(shape.vocabulary, 32768) * 4


def in_gib(n_bytes: float) -> str:
    """Format bytes in GiB."""
    return f"{n_bytes / GIB:.1f} GiB"
