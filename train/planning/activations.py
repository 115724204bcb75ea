"""How much memory one forward and backward of the real loss takes, traced without a GPU.

The model is built without weights, wrapped as TRL wraps it (LoRA, checkpointing, the fused head
that makes no logits), and run on fake tensors, which have a shape and no data. A dispatch mode
counts the bytes of all storages that are alive. PyTorch's own `MemTracker` cannot do it: it refuses
models with frozen weights.

The trace runs the CPU's kernels: attention there keeps no matrix of scores either, as on a GPU. The
head's chunks are a little larger than those of TRL's Triton kernel. What kernels take inside
themselves is not seen.
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
    """What one micro-batch is.

    Attributes:
        batch: Rows.
        tokens: Tokens of each.
        checkpointing: Whether activations are computed again in the backward pass.
        lora_r: Rank of LoRA on every linear layer, or None for full fine-tuning.
    """

    batch: int
    tokens: int
    checkpointing: bool
    lora_r: int | None = None


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of storages that are made while it is entered, and are alive.

    Attributes:
        live: Now.
        peak: The most so far.
    """

    def __init__(self, known: list[torch.Tensor]) -> None:
        """Tensors that were there before do not count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        # Kept here, so that no new storage gets the address of one of them.
        self._before = [tensor.untyped_storage() for tensor in known]
        self._sizes = {storage._cdata: 0 for storage in self._before}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count what it made."""
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
    """The most bytes that activations take on one GPU, gradients of weights left out.

    Layers that are all alike are not all run: the peak grows evenly with their number, so two
    shallow models tell it.

    Args:
        config: A transformers config.
        rows: What is run.

    Raises:
        SpecError: The model cannot be run on fake tensors.
    """
    return _traced(config.to_json_string(use_diff=False), _Config(config), rows)


@dataclass(frozen=True)
class _Config:
    """Held beside its text, which is what a cache can compare."""

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
"""Layers of the smaller of the two models that are traced."""


def _trace(config: Any, depth: int, rows: Rows) -> int:
    model = _build(config, depth, rows)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        model.get_base_model().tie_weights() if rows.lora_r else model.tie_weights()
        ids = torch.zeros(rows.batch, rows.tokens, dtype=torch.long)
        mask = torch.ones_like(ids)
        for weight in model.parameters():
            if weight.requires_grad:
                # DeepSpeed's estimate counts gradients; here they would count twice.
                weight.register_post_accumulate_grad_hook(_drop_gradient)
        peak = PeakBytes([*model.parameters(), *model.buffers(), ids, mask])
        with peak:
            found = model(input_ids=ids, attention_mask=mask, labels=ids, fused_lm_head=True)
            ratio = torch.exp(found.log_probs - found.log_probs.detach())
            torch.min(ratio, ratio.clamp(0.8, 1.2)).mean().neg().backward()
    most: int = peak.peak
    return most


def _drop_gradient(weight: torch.Tensor) -> None:
    weight.grad = None


def _build(config: Any, depth: int, rows: Rows) -> Any:
    """The model as TRL trains it, without weights."""
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
