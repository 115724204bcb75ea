"""Measure the gain of keeping an episode's keys and values between turns, with transformers.

    python benchmarks/turn_cache.py --model runs/real/smollm2

Today each turn prefills the whole conversation. Here rows of equal length play turns of random
tokens greedily, with and without kept keys and values. The script prints the CPU seconds of both,
their ratio, and the share of equal tokens. Real episodes have different lengths and would gain
less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from agents.generation.hf import load_model


def write(model: Any, output: Any, n: int, written: list[torch.Tensor]) -> Any:
    """Write `n` tokens greedily after a forward. Returns the last forward."""
    for _ in range(n):
        token = output.logits[:, -1].argmax(-1, keepdim=True)
        written.append(token)
        output = model(token, past_key_values=output.past_key_values, use_cache=True)
    return output


def play(
    model: Any, prompt: torch.Tensor, seen: Sequence[torch.Tensor], n: int, keep: bool
) -> torch.Tensor:
    """Play one turn, and one more for each observation. Returns the written tokens."""
    written: list[torch.Tensor] = []
    output, context = None, prompt
    for observation in (None, *seen):
        new = prompt if observation is None else observation
        if keep and output is not None:
            past = output.past_key_values
            output = model(new, past_key_values=past, use_cache=True, logits_to_keep=1)
        else:
            context = context if observation is None else torch.cat([context, observation], 1)
            output = model(context, use_cache=True, logits_to_keep=1)
        turn: list[torch.Tensor] = []
        output = write(model, output, n, turn)
        written += turn
        context = torch.cat([context, *turn], 1)
    return torch.cat(written, 1)


def timed(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """A result, and its CPU seconds."""
    start = time.process_time()
    return work(), time.process_time() - start


def main(arguments: Sequence[str] | None = None) -> float:
    """The command line. Returns the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini-starter", help="folder (default: %(default)s)")
    for name, default in {"rows": 6, "prompt": 345, "reply": 24, "seen": 70, "turns": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    o = parser.parse_args(arguments)
    model, codec = load_model(o.model)
    draw = torch.Generator().manual_seed(0)
    size = len(codec.tokenizer)
    prompt = torch.randint(size, (o.rows, o.prompt), generator=draw)
    seen = [torch.randint(size, (o.rows, o.seen), generator=draw) for _ in range(o.turns - 1)]
    with torch.inference_mode():
        model(prompt[:, :8])
        kept, kept_s = timed(lambda: play(model, prompt, seen, o.reply, keep=True))
        again, again_s = timed(lambda: play(model, prompt, seen, o.reply, keep=False))
    equal = float((kept == again).float().mean())
    print(f"{o.rows} rows of {o.turns} turns: prefilled again {again_s:.1f} CPU s, ", end="")
    print(f"kept {kept_s:.1f} CPU s: {again_s / kept_s:.2f} x; {equal:.3f} of the tokens equal")
    return again_s / kept_s


if __name__ == "__main__":
    main()
