from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from agents.generation.hf import load_model, split_adapter
from longvideo_env.errors import SpecError
from train import merge_adapter


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "adapter"
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    return folder


def merge(base: Path, adapter: Path, out: Path, *more: str) -> int:
    flags = ["--base", str(base), "--adapter", str(adapter), "--out", str(out)]
    return merge_adapter.main([*flags, "--dtype", "float32", *more])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(20)[None]).logits
    return found


@pytest.mark.parametrize("as_file", [False, True])
def test_the_merged_model_says_what_base_and_adapter_say(
    as_file: bool, tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    source = adapter / "adapter_model.safetensors" if as_file else adapter
    assert merge(tiny_model, source, tmp_path / "out", "--single_file") == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    merged, _ = load_model(tmp_path / "out")
    unmerged = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), str(adapter)
    ).eval()
    torch.testing.assert_close(logits(merged), logits(unmerged), rtol=1e-4, atol=1e-4)
    applied, _ = load_model(f"{tiny_model}+{adapter}")
    torch.testing.assert_close(logits(applied), logits(unmerged), rtol=1e-4, atol=1e-4)
    base, _ = load_model(tiny_model)
    assert (logits(base) - logits(merged)).abs().max() > 0.01, "the adapter changes something"


def test_a_merge_that_loses_something_writes_nothing(
    tiny_model: Path,
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = PeftModel.merge_and_unload if hasattr(PeftModel, "merge_and_unload") else None

    def lossy(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.unload()  # without the adapter

    assert real is None
    monkeypatch.setattr("peft.tuners.lora.LoraModel.merge_and_unload", lossy)
    assert merge(tiny_model, adapter, tmp_path / "out") == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_input_is_one_line(
    tiny_model: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge(tiny_model, tmp_path, tmp_path / "out") == 1
    assert "expected an adapter_config.json" in capsys.readouterr().err
    with pytest.raises(SpecError, match="is not an adapter"):
        split_adapter(f"base+{tmp_path}")
    assert split_adapter("a/model") == ("a/model", None)
    odd = tmp_path / "a+b"
    odd.mkdir()
    assert split_adapter(str(odd)) == (str(odd), None), "a folder may be called so"
