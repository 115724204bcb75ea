"""Merge a LoRA adapter into its base model, and check the result.

    longvideo-env merge-adapter --base Qwen/Qwen2.5-3B-Instruct --adapter runs/grpo --out runs/merged

The adapter is the folder that training wrote, or the file of weights in it. The merged model has
its tokenizer beside it and loads as `hf:OUT` or `vllm:OUT`. It is a folder of shards. With
`--single-file` it is one file of weights. The logits of the merged and the unmerged model are first
compared on a few prompts. If they disagree, the command fails and writes nothing.
"""  # noqa: E501 - a command

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agents.generation.hf import load_codec, split_adapter
from agents.generation.model_files import check_model
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")

# The difference that rounding explains in each precision, as a share of the logits' spread.
TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}


@dataclass(frozen=True)
class Merged:
    """A merged model, and how far its logits are from those of the base with the adapter.

    Attributes:
        model: The merged model.
        tokenizer: Its tokenizer.
        difference: The root mean square difference of logits, in units of their standard
            deviation.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        return self.difference <= TOLERANCE[str(self.model.dtype).removeprefix("torch.")]


def merge(base: str, adapter: str, *, dtype: str = "bfloat16", device: str = "cpu") -> Merged:
    """Merge an adapter into its base model.

    Raises:
        SpecError: The model or the adapter does not exist, or they do not fit.
    """
    folder = Path(adapter)
    if folder.is_file():
        folder = folder.parent
    check_model(f"{base}+{folder}")

    import torch  # slow, so after the checks that do not need it
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base, found = split_adapter(f"{base}+{folder}")
    codec = load_codec(base, found)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=getattr(torch, dtype), use_safetensors=True
        )
        adapted: Any = PeftModel.from_pretrained(model.to(device).eval(), str(found))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{adapter} does not fit {base}: {error}") from error
    prompts = [torch.tensor([codec.encode(text)]).to(device) for text in _texts()]
    with torch.no_grad():
        before = [adapted(input_ids=ids).logits.float() for ids in prompts]
        merged: Any = adapted.merge_and_unload()
        after = [merged(input_ids=ids).logits.float() for ids in prompts]
    difference = max(
        float((one - other).square().mean().sqrt() / one.std())
        for one, other in zip(before, after, strict=True)
    )
    return Merged(merged, codec.tokenizer, difference)


def _texts() -> list[str]:
    return [task.question.text for task in load_dataset("embedded", "train").tasks[:4]]


def main(argv: Sequence[str] | None = None) -> int:
    """Merge and save. Returns the exit code."""
    parser = OptionParser(
        prog="longvideo-env merge-adapter",
        description=__doc__,
    )
    parser.add_argument("--base", required=True, help="The model that the adapter was trained on.")
    parser.add_argument("--adapter", required=True, help="The adapter's folder or file of weights.")
    parser.add_argument("--out", required=True, type=Path, help="Folder of the merged model.")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="Precision.")
    parser.add_argument("--device", default="cpu", help="Device to merge on, such as cuda:0.")
    parser.add_argument("--single-file", action="store_true", help="Write one file of weights.")
    args = parser.parse_args(argv)
    return run_command("merge-adapter", lambda: _run(args))


def _run(args: Namespace) -> int:
    merged = merge(args.base, args.adapter, dtype=args.dtype, device=args.device)
    print(f"logits of merged and unmerged model differ by {merged.difference:.1e} of their spread")
    if not merged.agrees:
        raise InputError(
            f"the difference is larger than rounding in {args.dtype} explains, so nothing was "
            "written. Fix: merge with --dtype float32."
        )
    shard = "10TB" if args.single_file else "5GB"
    merged.model.save_pretrained(args.out, max_shard_size=shard)
    merged.tokenizer.save_pretrained(args.out)
    print(f"The merged model is in {args.out}: hf:{args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
