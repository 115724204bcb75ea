"""What is checked before torch and TRL are imported, which takes many seconds.

    if __name__ == "__main__":
        check_start(sys.argv[1:])

It also answers `--help`, with the options of the script and of the environment.
"""

from __future__ import annotations

import os
import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from agents.policies.starter import STARTER
from longvideo_env.commands.options import OptionParser, add_fields, take_fields
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import LongVideoEnvError, SpecError
from longvideo_env.records.metrics_log import METRICS

OUTPUT_DIR = "runs/grpo"
"""Where a training goes if nothing else is said."""


def start_parser(prog: str, description: str, own: type) -> OptionParser:
    """The options that need no TRL: the script's, the environment's and the commonest of TRL's."""
    parser = OptionParser(prog, description, config=True)
    add_fields(parser.add_argument_group("script"), own)
    add_fields(parser.add_argument_group("environment"), EnvConfig)
    trl = parser.add_argument_group("trainer, the commonest (all of TRL's: --help-all)")
    add = trl.add_argument
    add("--model_name_or_path", default=STARTER, help=f"Default: {STARTER}, which ships.")
    add("--output_dir", default=OUTPUT_DIR, help=f"Where the policy goes. Default: {OUTPUT_DIR}.")
    add("--resume_from_checkpoint", default="false", help="true, or a checkpoint's folder.")
    for name in ("max_steps", "learning_rate", "num_generations", "per_device_train_batch_size"):
        add(f"--{name}", metavar="N", help="As in TRL.")
    add("--use_vllm", action="store_true", help="Generate with vLLM.")
    add("--use_cpu", action="store_true", help="Leave a GPU alone.")
    add("--seed", metavar="N", help="Of everything drawn. Default: 42.")
    parser.add_argument("--help-all", action="store_true", help="Every option, TRL's included.")
    return parser


def check_start(argv: Sequence[str], own: type, description: str) -> None:
    """Refuse in the first seconds what cannot work, and exit with code 2.

    Args:
        argv: The command line without the program's name.
        own: The dataclass of the script's own options.
        description: For `--help`.
    """
    parser = start_parser("grpo.py", description, own)
    options, _ = parser.parse_known_args(argv)
    if options.help_all or os.environ.get("RANK", "0") != "0":
        return  # the other processes would say the same
    try:
        check_model(options)
        env = EnvConfig(**take_fields(EnvConfig, vars(options)))
        if not env.dataset.startswith("hf:"):
            load_dataset(env.dataset, env.split, skip_invalid=env.skip_invalid)
        if not options.preflight:
            check_output(options)
    except LongVideoEnvError as error:
        parser.error(str(error))


def check_model(options: Namespace) -> None:
    """Refuse a folder that is not there.

    Raises:
        SpecError: It is not.
    """
    name = options.model_name_or_path
    path = Path(name).expanduser()
    local = name.startswith((".", "/", "~")) or (
        len(path.parts) > 1 and Path(path.parts[0]).exists()
    )
    if local and not path.exists() and not options.tiny_model_if_missing:
        raise SpecError(
            f"there is no model in {name}. Fix: give --model_name_or_path a folder that exists."
        )


def check_output(options: Namespace) -> None:
    """Refuse to train into a folder that holds a run, unless it may be emptied.

    Raises:
        SpecError: It holds one, or emptying it would delete the model to train.
    """
    folder = Path(options.output_dir)
    found = _of_a_run(folder)
    if not found or str(options.resume_from_checkpoint).lower() != "false":
        return
    if not options.overwrite:
        raise SpecError(
            f"{folder} holds a run ({found[0].name}). Fix: give --resume_from_checkpoint true to "
            "go on, --overwrite to start anew, or another --output_dir."
        )
    if Path(options.model_name_or_path).resolve().is_relative_to(folder.resolve()):
        raise SpecError(
            f"--overwrite would delete the model to train, which lies in {folder}. "
            "Fix: give another --output_dir."
        )


def empty_output(folder: Path, rollouts: str | None) -> None:
    """Remove an earlier run's log, checkpoints, weights and rollouts, and nothing else."""
    for path in _of_a_run(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in Path(rollouts or folder).glob("step-*.jsonl.zst"):
        path.unlink()


def _of_a_run(folder: Path) -> list[Path]:
    patterns = (METRICS, "checkpoint-*", "*.safetensors", "adapter_config.json")
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]
