"""Checks before torch and TRL are imported, because their import takes many seconds.

    if __name__ == "__main__":
        check_start(sys.argv[1:], GRPO)

It also answers `--help`, with the options of the script and of the environment.
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from agents.generation.model_files import check_model as check_model_there
from agents.policies.starter import STARTER
from longvideo_env.commands.options import OptionParser, add_fields, take_fields
from longvideo_env.commands.shared import exit_code_of, message_prefix
from longvideo_env.config import EnvConfig
from longvideo_env.datasets.forms import open_questions
from longvideo_env.errors import InputError, LongVideoEnvError, SpecError
from longvideo_env.records.files import storage_error
from longvideo_env.records.metrics_log import METRICS
from train.options.launcher import repeat_below_launcher
from train.options.trl_fields import trl_fields, wrong_value


@dataclass(frozen=True)
class Script:
    """The options of a training script.

    Attributes:
        name: The command's name, `train` or `sft`.
        description: For `--help`.
        own: The dataclass of the script's own options.
        trl: TRL's module with the trainer's options, such as `grpo_config`.
        output_dir: The default of `--output-dir`.
        model: The default of `--model-name-or-path`.
        shown: TRL's options that `--help` shows, with what they are for.
        tables: Whether it prints tables, as `--preflight` does.
        check: Further checks of the options. Raises a `LongVideoEnvError`.
    """

    name: str
    description: str
    own: type
    trl: str
    output_dir: str
    model: str | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    tables: bool = False
    check: Callable[[Namespace, EnvConfig], None] | None = None

    @property
    def prog(self) -> str:
        """The command as the user writes it."""
        return f"longvideo-env {self.name}"


COMMON = (
    "model_name_or_path", "output_dir", "dataset", "split", "max_steps", "learning_rate",
    "num_generations", "per_device_train_batch_size", "use_vllm", "resume_from_checkpoint",
    "overwrite", "config", "reward", "tools", "protocol", "grounding", "vision", "max-turns",
    "max-turn-tokens", "limit", "preflight", "seed", "help-all",
)  # fmt: skip
"""The options that `--help` shows if it has no room for all."""


class StartParser(OptionParser):
    """A parser whose error is the last line on the screen, also under `accelerate launch`."""

    help_all = {"action": "store_true", "help": "Show every option, with TRL's."}  # noqa: RUF012

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Write a message and end. Its last line is repeated after the launcher's output."""
        if message:
            repeat_below_launcher(message.splitlines()[-1])
        super().exit(status, message)


def start_parser(script: Script) -> StartParser:
    """A parser of the script's options, the environment's, and the names of TRL's."""
    parser = StartParser(
        script.prog, script.description, config=True, common=COMMON, tables=script.tables
    )
    add_fields(parser.add_argument_group("script"), script.own)
    add_fields(parser.add_argument_group("environment"), EnvConfig)
    trl = parser.add_argument_group("trainer, the most common (all of TRL's: --help-all)")
    add = trl.add_argument
    model = "A folder, a GGUF file or an id on the hub."
    if script.model == STARTER:
        model += f" Default: {STARTER}, which comes with the package."
    add("--model-name-or-path", default=script.model, metavar="MODEL", help=model)
    out = script.output_dir
    add("--output-dir", default=out, metavar="DIR", help=f"Folder of the policy. Default: {out}.")
    add(
        "--resume-from-checkpoint",
        default="false",
        metavar="true|DIR",
        help="true for the last checkpoint, or a checkpoint's folder.",
    )
    switches = trl_fields(script.trl)
    for name, purpose in script.shown.items():
        value: dict[str, Any] = {"action": "store_true"} if switches.get(name) else {"metavar": "N"}
        add(_dashed(name), help=purpose, **value)
    add("--use-cpu", action="store_true", help="Do not use a GPU.")
    add("--seed", metavar="N", help="Random seed. Default: 42.")
    for name, is_switch in switches.items():
        if _dashed(name) not in parser._option_string_actions:
            value = {"action": "store_true"} if is_switch else {"nargs": "*"}
            parser.add_argument(_dashed(name), default=SUPPRESS, help=SUPPRESS, **value)
    return parser


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def check_start(argv: Sequence[str], script: Script) -> None:
    """Check the options in the first seconds. On an error, end the process.

    Args:
        argv: The command line without the program's name.
        script: The script to start.
    """
    parser = start_parser(script)
    options, unknown = parser.parse_known_args(argv)
    if options.help_all or os.environ.get("RANK", "0") != "0":
        return  # the other processes would print the same
    if unknown and trl_fields(script.trl):
        parser.refuse_unknown(unknown)
    try:
        check_values(options, script)
        check_model(options)
        env = EnvConfig(**take_fields(EnvConfig, vars(options)))
        if script.check is not None:
            script.check(options, env)
        if not getattr(options, "preflight", False):
            check_output(options)
    except LongVideoEnvError as error:
        line = f"{message_prefix(script.name)}{error}\n"
        repeat_below_launcher(line.rstrip())
        sys.stderr.write(line)
        sys.exit(exit_code_of(error))


def check_values(options: Namespace, script: Script) -> None:
    """Refuse values that TRL's options cannot take.

    Raises:
        SpecError: A value is not a number, or not one of the choices.
    """
    own = {field.name for kind in (script.own, EnvConfig) for field in fields(kind)}
    for name in trl_fields(script.trl).keys() - own:
        value = getattr(options, name, None)
        given = value if isinstance(value, list) else [value]
        if len(given) == 1 and isinstance(given[0], str):
            problem = wrong_value(script.trl, name, given[0])
            if problem is not None:
                raise SpecError(f"{_dashed(name)}: {problem}, got {given[0]!r}.")


def check_dataset(env: EnvConfig) -> None:
    """Refuse a dataset that cannot be read. A dataset on the hub is not checked here.

    Raises:
        DataError: The dataset cannot be read.
    """
    if not env.dataset.startswith("hf:"):
        open_questions(env)


def check_model(options: Namespace) -> None:
    """Refuse a model that does not exist.

    Raises:
        SpecError: No model is named.
        InputError: The model does not exist.
    """
    name = options.model_name_or_path
    if name is None:
        raise SpecError("give --model-name-or-path, a folder or a model's name.")
    path = Path(name).expanduser()
    local = name.startswith((".", "/", "~")) or (
        len(path.parts) > 1 and Path(path.parts[0]).exists()
    )
    if options.tiny_model_if_missing:
        return
    if local and not path.exists():
        raise InputError(
            f"there is no model in {name}. Fix: give --model-name-or-path a folder that exists."
        )
    check_model_there(str(path) if local else name)


def check_output(options: Namespace) -> None:
    """Refuse an output folder that holds a run, unless `--overwrite` is given.

    Raises:
        InputError: The folder holds a run.
        SpecError: Emptying the folder would delete the model to train.
        StorageError: The folder cannot be made.
    """
    folder = Path(options.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    found = _of_a_run(folder)
    if not found or str(options.resume_from_checkpoint).lower() != "false":
        return
    if not options.overwrite:
        raise InputError(
            f"{folder} holds a run ({found[0].name}). Fix: give --resume-from-checkpoint true to "
            "continue, --overwrite to start again, or another --output-dir."
        )
    if Path(options.model_name_or_path).resolve().is_relative_to(folder.resolve()):
        raise SpecError(
            f"--overwrite would delete the model to train, which is in {folder}. "
            "Fix: give another --output-dir."
        )


def empty_output(folder: Path, rollouts: str | None) -> None:
    """Remove an earlier run's log, checkpoints, weights and rollouts. Other files stay."""
    for path in _of_a_run(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in Path(rollouts or folder).glob("step-*.jsonl.zst"):
        path.unlink()


def _of_a_run(folder: Path) -> list[Path]:
    patterns = (METRICS, "checkpoint-*", "*.safetensors", "adapter_config.json")
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]
