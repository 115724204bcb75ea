"""Run a script with TRL's asynchronous trainer on a CPU.

    python on_cpu.py SCRIPT ARGUMENTS...

TRL 1.16 needs the GPU's name for its table of peak speeds. It takes its attention over packed rows
from the hub as a CUDA kernel. Here the name is "cpu", and the kernel is plain torch.
"""

import runpy
import sys
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    ends_q: torch.Tensor,
    ends_k: torch.Tensor,
    *_: Any,
    softmax_scale: float | None = None,
    **options: Any,
) -> torch.Tensor:
    """FlashAttention 3's function of this name: causal, each part's last query sees all its keys.

    Shapes: q (N, heads, size), k and v (K, key heads, size), ends_q and ends_k (parts + 1,).
    """
    assert options == {"causal": True, "window_size": (-1, -1)}
    done = []
    for part in range(len(ends_q) - 1):
        rows, keys = slice(*ends_q[part : part + 2]), slice(*ends_k[part : part + 2])
        parts = [x.transpose(0, 1) for x in (q[rows], k[keys], v[keys])]
        n, seen = parts[0].shape[1], parts[1].shape[1]
        mask = torch.ones(n, seen, dtype=torch.bool).tril(seen - n)
        out = scaled_dot_product_attention(*parts, mask, scale=softmax_scale, enable_gqa=True)
        done.append(out.transpose(0, 1))
    return torch.cat(done)


if __name__ == "__main__":
    import trl.experimental.async_grpo  # noqa: F401 - transformers looks for the real package first

    kernel = SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)
    sys.modules["kernels"] = SimpleNamespace(get_kernel=lambda name, version: kernel)  # type: ignore[assignment]
    torch.cuda.get_device_name = lambda device=None: "cpu"
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
