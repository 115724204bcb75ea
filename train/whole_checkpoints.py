"""Checkpoints that are complete, or are ignored.

A checkpoint is a folder of many files, written one after the other. `trainer_state.json` marks it
as complete. This file is written last, after the files of all processes. If a folder is written
again, it is deleted first. A checkpoint without this file, or with half of it, is incomplete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from eval.runs.checkpoints import is_whole
from longvideo_env.errors import SpecError, StorageError


class WholeCheckpoints(Trainer):
    """A trainer whose checkpoints are marked as complete."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(
            str(self.args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        )
        if self.args.should_save:
            (folder / TRAINER_STATE_NAME).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        with storage_errors(folder):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # before the mark


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn torch's `RuntimeError` for a file that it cannot write into a `StorageError`.

    Raises:
        StorageError: A file could not be written.
    """
    try:
        yield
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise StorageError(
            f"{folder} cannot be written: the disk is full or refuses the data. Fix: make room. "
            "--resume-from-checkpoint true resumes from the last complete checkpoint."
        ) from error


def last_whole_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run. Newer incomplete ones are deleted."""
    folders = [path for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.is_dir()]
    numbered = [path for path in folders if path.name.rpartition("-")[2].isdecimal()]
    main = os.environ.get("RANK", "0") == "0"
    for folder in sorted(numbered, key=lambda path: -int(path.name.rpartition("-")[2])):
        if is_whole(folder):
            return folder
        if main:
            print(f"{folder} is incomplete and is deleted.", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    return None


def refuse_pickles(folder: Path) -> None:
    """Refuse a checkpoint with pickled weights. Reading a pickle may run code.

    Raises:
        SpecError: The weights are pickled.
    """
    names = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
    old = [name for name in names if (folder / name).exists()]
    if old and not any(folder.glob("*.safetensors")):
        raise SpecError(
            f"{folder / old[0]} is a pickle, which may run code. Fix: save the weights as "
            "safetensors, as `save_pretrained` does. If you trust the file, give "
            "--model-init-kwargs '{\"use_safetensors\": false}'."
        )


def save_policy(trainer: Trainer, folder: Path) -> None:
    """Save the policy, replacing each file at once, so none is ever half written. A collective."""
    scratch = folder / ".saving"
    main = trainer.accelerator.is_main_process
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    with storage_errors(folder):
        trainer.save_model(str(scratch))
    trainer.accelerator.wait_for_everyone()
    if main:
        for path in sorted(scratch.iterdir()):
            place = folder / path.name
            if path.is_file():
                path.replace(place)
        shutil.rmtree(scratch, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
