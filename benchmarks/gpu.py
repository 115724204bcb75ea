"""Measure training on one GPU: memory, speed, equality with the CPU, and a run of `mini`.

    make gpu-site           # with a network: puts the wheels that a bare machine lacks into .gpu
    make gpu                # on the GPU machine, with .gpu carried there; needs no network
    python benchmarks/gpu.py --parts memory --models 0.5B --tokens 2048,8192
    python benchmarks/gpu.py --tiny            # the same code on a CPU, to see that it runs

Models are made from their config with random weights. Each part should end within ten minutes and
can run alone. Its table is printed and written to `--out`/PART.md. If a row does not fit the GPU,
the table says so, and the next row is tried.

- memory: the peak of a forward and backward of the loss, compared with the trace of
  `train/planning/activations.py`. Both leave out the gradients of weights. With and without
  checkpointing, with LoRA and full.
- speed: tokens per second of the same, and the share of the GPU's bf16 peak (aim: 0.35). Operations
  per weight and token are 2 forward, 2 backward, and 2 more for trained weights. Attention is
  added. Recomputation by checkpointing is not counted.
- equal: log-probs of one row on the GPU, in float32 and bfloat16, compared with the CPU's in
  float32.
- mini: 20 steps of `configs/grpo/mini.yaml` on the GPU, with the parts of a step's time.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import AutoConfig, Qwen2Config

from train.planning.activations import PeakBytes, Rows, build, grpo_loss, traced_bytes

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""The published peak of dense bfloat16 (SXM)."""

REPEATS = 3


@dataclass(frozen=True)
class Machine:
    """The machine that the benchmark runs on.

    Attributes:
        device: Torch's name of the device.
        name: The card's name.
    """

    device: str
    name: str

    @property
    def peak(self) -> float | None:
        """The card's published operations per second, or None."""
        return next((value for key, value in PEAK_FLOPS.items() if key in self.name), None)


def model_config(name: str) -> Any:
    """The config of Qwen2.5 by size: 0.5B, 3B, or `tiny`."""
    if name == "3B":
        return AutoConfig.from_pretrained(ROOT / "tests" / "data" / "models" / "qwen2.5-3b")
    tiny = name == "tiny"
    return Qwen2Config(
        hidden_size=64 if tiny else 896,
        intermediate_size=128 if tiny else 4864,
        num_hidden_layers=4 if tiny else 24,
        num_attention_heads=2 if tiny else 14,
        num_key_value_heads=2,
        vocab_size=500 if tiny else 151_936,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    )


def make(config: Any, rows: Rows, machine: Machine) -> Any:
    """The model as TRL trains it, with random weights on the device."""
    torch.manual_seed(0)
    model = build(config, config.num_hidden_layers, rows)
    model.to_empty(device=machine.device)
    base = model.get_base_model() if rows.lora_r else model
    base.tie_weights()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    for module in model.modules():  # the buffers of rotary frequencies had no data
        if hasattr(module, "inv_freq"):
            fresh = type(module)(config)
            module.inv_freq = fresh.inv_freq.to(machine.device)
            module.original_inv_freq = module.inv_freq
    return model


def measure(config: Any, rows: Rows, machine: Machine) -> tuple[int, float]:
    """Peak bytes of activations, and the least seconds of a forward and backward."""
    model = make(config, rows, machine)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(lambda w: setattr(w, "grad", None))
    ids = torch.randint(0, config.vocab_size, (rows.batch, rows.tokens), device=machine.device)
    peak, best = 0, float("inf")
    for _ in range(REPEATS):
        before = start_of(machine)
        began = time.perf_counter()
        if machine.device == "cpu":
            counted = PeakBytes([*model.parameters(), *model.buffers(), ids])
            with counted:
                grpo_loss(model, ids).backward()
            peak = counted.peak
        else:
            grpo_loss(model, ids).backward()
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
        best = min(best, time.perf_counter() - began)
    return peak, best


def start_of(machine: Machine) -> int:
    """Bytes in use now. The peak counts from here."""
    if machine.device == "cpu":
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def operations(config: Any, rows: Rows) -> float:
    """The operations of one forward and backward."""
    with torch.device("meta"):
        model = build(config, config.num_hidden_layers, rows)
    weights = sum(w.numel() for w in model.parameters())
    trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    tokens = rows.batch * rows.tokens
    # Causal scores and values: half of 4 * tokens * width forward, and twice that backward.
    attention = 6 * config.num_hidden_layers * rows.tokens * config.hidden_size
    return tokens * (4.0 * weights + 2.0 * trained + attention)


def memory_and_speed(options: argparse.Namespace, machine: Machine) -> Iterator[list[str]]:
    """Rows of the tables `memory` and `speed`, from one measurement."""
    head = ["model", "tokens", "checkpointing", "trained", "traced GiB", "measured GiB", "ratio"]
    yield [*head, "tokens/s", "share of peak"]
    for name in options.models:
        config = model_config(name)
        for tokens in options.tokens:
            for checkpointing in (True, False):
                for lora in (options.lora_r, None):
                    rows = Rows(1, tokens, checkpointing, lora)
                    what = [name, str(tokens), "yes" if checkpointing else "no"]
                    what.append(f"LoRA {lora}" if lora else "all")
                    yield [*what, *_figures(config, rows, machine)]


def _figures(config: Any, rows: Rows, machine: Machine) -> list[str]:
    traced = traced_bytes(config, rows)
    try:
        peak, seconds = measure(config, rows, machine)
    except torch.OutOfMemoryError:
        return [f"{traced / GIB:.3f}", "does not fit", "", "", ""]
    finally:
        if machine.device != "cpu":
            torch.cuda.empty_cache()
    speed = rows.tokens * rows.batch / seconds
    share = operations(config, rows) / seconds / machine.peak if machine.peak else float("nan")
    ratio = f"{traced / peak:.3f}"
    return [f"{traced / GIB:.3f}", f"{peak / GIB:.3f}", ratio, f"{speed:.0f}", f"{share:.3f}"]


def equal(options: argparse.Namespace, machine: Machine) -> Iterator[list[str]]:
    """Rows of the table `equal`."""
    yield ["model", "where", "mean difference of log-probs", "largest"]
    config = model_config(options.models[0])
    rows = Rows(1, min(512, *options.tokens), False)
    host = Machine("cpu", "CPU")
    model = make(config, rows, host).float().eval()
    ids = torch.randint(0, config.vocab_size, (1, rows.tokens))
    expected = log_probs(model, ids)
    for dtype in (torch.float32, torch.bfloat16):
        there = copy.deepcopy(model).to(machine.device, dtype)
        gap = (log_probs(there, ids.to(machine.device)).cpu().float() - expected).abs()
        where = f"{machine.name}, {str(dtype).removeprefix('torch.')}"
        yield [options.models[0], where, f"{gap.mean():.2e}", f"{gap.max():.2e}"]


@torch.no_grad()
def log_probs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The log-probs of a row's tokens, by the head that training uses."""
    mask = torch.ones_like(ids)
    found: torch.Tensor = model(
        input_ids=ids, attention_mask=mask, labels=ids, fused_lm_head=True
    ).log_probs
    return found


def mini(options: argparse.Namespace, machine: Machine) -> Iterator[list[str]]:
    """Rows of the table `mini`."""
    out = options.out / "mini"
    command = [sys.executable, str(ROOT / "train" / "grpo.py")]
    command += ["--config", str(ROOT / "configs" / "grpo" / "mini.yaml"), "--overwrite"]
    command += ["--use-cpu", "true" if machine.device == "cpu" else "false"]
    command += ["--max-steps", str(options.steps), "--save-strategy", "no"]
    command += ["--output-dir", str(out), "--per-device-train-batch-size", str(options.rows)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if "reward" in record]
    yield ["figure", "first step", "last step", "mean after the first"]
    names = ("reward", "episodes/accuracy", "time/rollouts_s", "time/model_s", "time/train_s")
    for name in (*names, "time/tokens_per_s"):
        values = [record[name] for record in records if name in record]
        later = values[1:] or values
        figures = (values[0], values[-1], sum(later) / len(later))
        yield [name, *(f"{value:.2f}" for value in figures)]


PARTS: dict[str, Callable[[argparse.Namespace, Machine], Iterator[list[str]]]] = {
    "memory": memory_and_speed,
    "equal": equal,
    "mini": mini,
}


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Run the parts, and return their tables' files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="memory (with speed), equal, mini")
    parser.add_argument("--models", default="0.5B,3B")
    parser.add_argument("--tokens", default="2048,8192,13500")
    parser.add_argument("--lora-r", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="steps of mini")
    parser.add_argument("--rows", type=int, default=64, help="episodes per step of mini")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--tiny", action="store_true", help="small sizes on a CPU")
    options = parser.parse_args(argv)
    if options.tiny:
        options.models, options.tokens, options.lora_r = "tiny", "128", 4
        options.steps, options.rows = 2, 8
    options.models = options.models.split(",")
    options.tokens = [int(n) for n in options.tokens.split(",")]
    cuda = torch.cuda.is_available() and not options.tiny
    machine = Machine("cuda", torch.cuda.get_device_name()) if cuda else Machine("cpu", "CPU")
    if not cuda and not options.tiny:
        parser.error("there is no GPU. Fix: give --tiny to try the code on a CPU.")
    options.out.mkdir(parents=True, exist_ok=True)
    return [_write(part, options, machine) for part in options.parts.split(",")]


def _write(part: str, options: argparse.Namespace, machine: Machine) -> Path:
    began = time.perf_counter()
    head, *rows = PARTS[part](options, machine)
    lines = [" | ".join(row) for row in (head, ["---"] * len(head), *rows)]
    spent = f"{part}: {machine.name}, torch {torch.__version__}, {time.strftime('%d %B %Y')}, "
    spent += f"{time.perf_counter() - began:.0f} s"
    text = "\n".join([spent, "", *(f"| {line} |" for line in lines)]) + "\n"
    path: Path = options.out / f"{part}.md"
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(text + "\n")
    return path


if __name__ == "__main__":
    main()
