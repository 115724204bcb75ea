"""Truncated checkpoints, pickled weights and a full disk."""

import json
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from agents.generation.hf import split_adapter
from eval.runs.checkpoints import expand_policies
from longvideo_env.commands.shared import run_command
from longvideo_env.errors import SpecError, StorageError
from train.options.script import checkpoint_to_resume, model_options
from train.whole_checkpoints import last_whole_checkpoint, storage_errors


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Checkpoints 2 and 9 are complete. 10 and 11 are truncated."""
    for step, state in ((2, "{}"), (9, '{"max_steps": 12}'), (10, '{"max_st'), (11, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    return tmp_path


def resume(run: Path, wanted: str) -> str | None:
    training: Any = SimpleNamespace(resume_from_checkpoint=wanted, output_dir=run, max_steps=12)
    return checkpoint_to_resume(training)


def test_a_run_goes_on_from_the_last_whole_one(run: Path, capsys: Any) -> None:
    assert resume(run, "true") == str(run / "checkpoint-9")
    assert "checkpoint-10 is incomplete and is deleted" in (capsys.readouterr().out)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-2", "checkpoint-9"]


def test_one_that_is_named_must_be_whole(run: Path) -> None:
    with pytest.raises(SpecError, match="checkpoint-10 is incomplete"):
        resume(run, str(run / "checkpoint-10"))
    assert resume(run, str(run / "checkpoint-2")) == str(run / "checkpoint-2")


def test_without_a_whole_one_there_is_none(run: Path) -> None:
    for step in (2, 9):
        (run / f"checkpoint-{step}" / "trainer_state.json").unlink()
    assert last_whole_checkpoint(run) is None
    with pytest.raises(SpecError, match="there is no"):
        resume(run, "true")


def test_an_evaluation_leaves_those_cut_off_out(run: Path, capsys: Any) -> None:
    named = expand_policies([], str(run))
    assert named == [f"hf:{run}/checkpoint-{step}" for step in (2, 9)]
    assert "checkpoint-11 is incomplete" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model.bin"])
def test_weights_that_are_pickles_are_refused(run: Path, name: str) -> None:
    folder = run / "checkpoint-9"
    (folder / name).write_bytes(b"")
    with pytest.raises(SpecError, match="is a pickle, which may run code"):
        resume(run, "true")
    model: Any = SimpleNamespace(model_name_or_path=str(folder), dtype="float32")
    with pytest.raises(SpecError, match="use_safetensors"):
        model_options(model, SimpleNamespace(model_init_kwargs=None))  # type: ignore[arg-type]
    asked: Any = SimpleNamespace(model_init_kwargs='{"use_safetensors": false}')
    assert model_options(model, asked) == {"dtype": "float32", "use_safetensors": False}
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "a"}))
    with pytest.raises(SpecError, match="has no weights as safetensors"):
        split_adapter(f"a+{folder}")


def test_optimizer_state_on_a_full_disk_is_one_line(tmp_path: Path, capsys: Any) -> None:
    def save() -> None:
        with storage_errors(tmp_path):
            torch.save({"exp_avg": torch.zeros(200_000)}, tmp_path / "optimizer.pt")

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        code = run_command("train", save)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith(f"longvideo-env train: {tmp_path} cannot be written: the disk is full")
    assert said.count("\n") == 1


def test_other_errors_of_torch_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="sizes") as caught, storage_errors(tmp_path):
        raise RuntimeError("sizes differ")
    assert not isinstance(caught.value, StorageError)
