"""Code that the training scripts share besides their options: start, resume and end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Trainer, TrainingArguments
from trl import ModelConfig

from agents.generation.chat import ChatCodec
from agents.generation.seeing_codec import SeeingCodec
from eval.runs.checkpoints import is_whole
from longvideo_env.commands.shared import message_prefix, run_command
from longvideo_env.errors import InputError, LongVideoEnvError, StorageError
from train.options.launcher import repeat_below_launcher
from train.tiny_model import make_tiny_model
from train.whole_checkpoints import last_whole_checkpoint, refuse_pickles, save_policy


def load_tokenizer(model: ModelConfig, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load the policy's tokenizer.

    Raises:
        InputError: The model does not exist.
    """
    try:
        return AutoTokenizer.from_pretrained(
            model.model_name_or_path,
            revision=model.model_revision,
            padding_side="left",
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load the tokenizer of {model.model_name_or_path!r}: "
            f"{' '.join(str(error).split())}"
        ) from error


def load_chat(model: ModelConfig, training: Any, *, sees: bool = False) -> ChatCodec:
    """Load the policy's codec: its tokenizer, and its processor if the policy sees frames.

    Raises:
        SpecError: The model does not exist or takes no images, or its chat template cannot hold an
            episode.
    """
    kwargs = as_mapping(training.chat_template_kwargs)
    if sees:
        codec = SeeingCodec.of(str(model.model_name_or_path), kwargs)
        codec.tokenizer.padding_side = "left"
        return codec
    tokenizer = load_tokenizer(model, trust_remote_code=training.trust_remote_code)
    return ChatCodec(tokenizer, kwargs)


def as_mapping(options: dict[str, Any] | str | None) -> dict[str, Any]:
    """A dict option of TRL. On the command line it is JSON."""
    return json.loads(options) if isinstance(options, str) else dict(options or {})


def model_options(model: ModelConfig, training: TrainingArguments) -> dict[str, Any]:
    """Options for loading the policy: TRL's, with weights from safetensors only.

    `--model-init-kwargs '{"use_safetensors": false}'` allows other formats, which may run code.

    Raises:
        SpecError: The folder's weights are a pickle.
    """
    given = as_mapping(vars(training).get("model_init_kwargs"))
    if given.get("use_safetensors", True) is not False:
        refuse_pickles(Path(str(model.model_name_or_path)))
    return {"dtype": model.dtype, "use_safetensors": True, **given}


def checkpoint_to_resume(training: TrainingArguments) -> str | None:
    """The folder of the checkpoint to resume from. `true` means the last one in `output_dir`.

    Raises:
        InputError: The checkpoint does not exist, or is incomplete.
    """
    wanted = str(training.resume_from_checkpoint or "false")
    if wanted.lower() == "false":
        return None
    output_dir = Path(str(training.output_dir))
    folder = wanted
    if wanted.lower() == "true":
        with PartialState().main_process_first():  # the main process deletes incomplete ones
            folder = str(last_whole_checkpoint(output_dir) or output_dir / "checkpoint-*")
    if not os.path.isdir(folder):
        raise InputError(f"resume_from_checkpoint: there is no {folder}.")
    if not is_whole(Path(folder)):
        raise InputError(
            f"resume_from_checkpoint: {folder} is incomplete. Fix: name an earlier checkpoint, or "
            "give true for the last complete one."
        )
    refuse_pickles(Path(folder))
    _say_schedule(folder, training)
    return folder


def _say_schedule(folder: str, training: TrainingArguments) -> None:
    """Print a line if another number of steps changes the learning-rate schedule."""
    try:
        with open(os.path.join(folder, "trainer_state.json"), encoding="utf-8") as file:
            earlier = int(json.load(file)["max_steps"])
    except (OSError, ValueError, KeyError):
        return  # the trainer reports what is wrong with its own file
    if training.max_steps > 0 and training.max_steps != earlier:
        print(
            f"max_steps was {earlier} and is now {training.max_steps}: the learning-rate schedule "
            "changes, so this run will not equal one without a break.",
            flush=True,
        )


def make_tiny_model_if_missing(path: str, **options: Any) -> None:
    """If the folder does not exist, put a tiny model there. One process does, the others wait.

    Args:
        path: The folder.
        options: The options of `make_tiny_model`.
    """
    with PartialState().main_process_first():
        if not os.path.isdir(path):
            make_tiny_model(path, **options)


def train_and_save(
    trainer: Trainer, checkpoint: str | None, release: Callable[[], None] | None = None
) -> None:
    """Train, from a checkpoint if one is given, and save the policy into `output_dir`.

    Args:
        trainer: The trainer.
        checkpoint: The checkpoint's folder, or None.
        release: Called before the processes end. It releases what needs all of them.
    """
    trainer.train(resume_from_checkpoint=checkpoint)
    folder = trainer.args.output_dir
    save_policy(trainer, Path(str(folder)))
    trainer.accelerator.print(f"The policy is in {folder}: hf:{folder}")
    if release is not None:
        release()
    trainer.accelerator.end_training()


def run_script(
    name: str, main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None
) -> None:
    """Run a training script with `run_command`. On an error, end the process with its code."""
    given = sys.argv[1:] if argv is None else argv
    others = os.environ.get("LOCAL_RANK", "0") != "0"  # they would print the same

    def work() -> None:
        try:
            main(given)
        except SafetensorError as error:  # only its message has the system's error
            raise StorageError(
                f"weights cannot be written or read: {error}. Fix: make room on the disk, or copy "
                "the file again. --resume-from-checkpoint true resumes from the last checkpoint."
            ) from error
        except LongVideoEnvError as error:
            if not others:
                repeat_below_launcher(f"{message_prefix(name)}{error}")
            raise

    code = run_command(name, work, quiet=others)
    if code:
        sys.exit(code)
