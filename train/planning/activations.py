"""Trace the memory of one forward and backward pass of the real loss, without a GPU.

The model is built without weights and wrapped as in TRL: LoRA, checkpointing, and the fused head
that makes no logits. It runs on fake tensors, which have a shape and no data. A dispatch mode
counts the bytes of all live storages. PyTorch's `MemTracker` cannot do this, because it refuses
models with frozen weights.

The trace runs the CPU's kernels. As on a GPU, their attention keeps no matrix of scores. The head's
chunks are a little larger than those of TRL's Triton kernel. Memory inside kernels is not counted.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longvideo_env.errors import SpecError


@dataclass(frozen=True)
class Rows:
    """The shape of one micro-batch.

    Attributes:
        batch: Number of rows.
        tokens: Tokens per row.
        checkpointing: Whether activations are computed again in the backward pass.
        lora_r: Rank of LoRA on every linear layer, or None for full fine-tuning.
    """

    batch: int
    tokens: int
    checkpointing: bool
    lora_r: int | None = None


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of live storages that were made inside this context.

    Attributes:
        live: Bytes now.
        peak: The most bytes so far.
    """

    def __init__(self, known: list[torch.Tensor]) -> None:
        """`known` are the tensors from before. They do not count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        # Kept alive, so that no new storage gets one of their addresses.
        self._before = [tensor.untyped_storage() for tensor in known]
        self._sizes = {storage._cdata: 0 for storage in self._before}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count its new storages."""
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor):
                self._count(made.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def traced_bytes(config: Any, rows: Rows) -> int:
    """The peak bytes of activations on one GPU, without the gradients of weights.

    If all layers are alike, the peak grows linearly with their number. Then only two shallow models
    are run.

    Args:
        config: A transformers config.
        rows: The micro-batch to run.

    Raises:
        SpecError: The model cannot be run on fake tensors.
    """
    return _traced(config.to_json_string(use_diff=False), _Config(config), rows)


@dataclass(frozen=True)
class _Config:
    """A config that the cache does not compare. The cache compares its JSON text."""

    of: Any = field(compare=False)


@lru_cache(maxsize=32)
def _traced(_: str, config: _Config, rows: Rows) -> int:
    return _by_depth(config.of, rows)


def _by_depth(config: Any, rows: Rows) -> int:
    text = config.get_text_config()
    depth: int = text.num_hidden_layers
    kinds = set(getattr(text, "layer_types", None) or ())
    try:
        if depth <= SHALLOW + 1 or len(kinds) > 1:
            return _trace(config, depth, rows)
        less, more = (_trace(config, n, rows) for n in (SHALLOW, SHALLOW + 1))
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SpecError(f"{type(error).__name__}: {reason}") from error
    return less + (depth - SHALLOW) * (more - less)


SHALLOW = 2
"""Number of layers of the smaller of the two traced models."""


def _trace(config: Any, depth: int, rows: Rows) -> int:
    model = build(config, depth, rows)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        model.get_base_model().tie_weights() if rows.lora_r else model.tie_weights()
        ids = torch.zeros(rows.batch, rows.tokens, dtype=torch.long)
        for weight in model.parameters():
            if weight.requires_grad:
                # DeepSpeed's estimate counts gradients. Here they would count twice.
                weight.register_post_accumulate_grad_hook(_drop_gradient)
        peak = PeakBytes([*model.parameters(), *model.buffers(), ids])
        with peak:
            grpo_loss(model, ids).backward()
    most: int = peak.peak
    return most


def grpo_loss(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The clipped loss of GRPO over all tokens, with advantages of 1.

    Args:
        model: The model from `build`, with weights.
        ids: Tokens. Shape: (batch, tokens).
    """
    mask = torch.ones_like(ids)
    found = model(input_ids=ids, attention_mask=mask, labels=ids, fused_lm_head=True)
    ratio = torch.exp(found.log_probs - found.log_probs.detach())
    return torch.min(ratio, ratio.clamp(0.8, 1.2)).mean().neg()


def _drop_gradient(weight: torch.Tensor) -> None:
    weight.grad = None


def build(config: Any, depth: int, rows: Rows) -> Any:
    """The model as TRL trains it, with `depth` layers and without weights."""
    from copy import deepcopy

    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    config = deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = depth
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:depth]
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        if rows.lora_r is not None:
            adapter = LoraConfig(r=rows.lora_r, target_modules="all-linear", task_type="CAUSAL_LM")
            model = get_peft_model(model, adapter).to(torch.bfloat16)
    if rows.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train()
