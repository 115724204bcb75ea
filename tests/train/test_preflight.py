import json
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from longvideo_env.config import EnvConfig
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from train import grpo
from train.planning.activations import Rows, _trace, traced_bytes
from train.planning.lengths import count_lengths, estimate_tokens
from train.planning.memory import GIB, Sharding, read_shape, states_bytes
from train.planning.preflight import read_sharding

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "data" / "models"
RECIPES = sorted((ROOT / "configs" / "grpo").glob("qwen*.yaml"))


def model_of(recipe: Path) -> Path:
    """A folder with only the `config.json` of a recipe's model."""
    return next(folder for folder in MODELS.iterdir() if recipe.stem.startswith(folder.name))


def accelerate_of(recipe: Path) -> str:
    """The accelerate config in the recipe's own command."""
    line = recipe.read_text(encoding="utf-8").splitlines()[0]
    return str(ROOT / line.split("--config_file ")[1].split()[0])


def preflight(recipe: Path, *more: str, folder: Path | None = None) -> int:
    flags = [
        *("--config", str(recipe), "--model_name_or_path", str(folder or model_of(recipe))),
        *("--dataset", "mini", "--accelerate_config", accelerate_of(recipe), "--preflight"),
        *more,
    ]
    with pytest.raises(SystemExit) as stop:
        grpo.main(flags)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path != RECIPES[0]))
        for path in RECIPES
    ],
)
def test_every_recipe_is_sound_from_its_models_config_alone(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [file.name for file in model_of(recipe).iterdir()] == ["config.json"]
    code = preflight(recipe)
    out = capsys.readouterr().out
    assert code == 0, out
    for line in ("model", "batch", "episode", "training", "vLLM", "tools", "disk"):
        assert f" {line} " in out
    assert "fix" not in out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_sound_on_the_real_questions(
    recipe: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = preflight(recipe, "--dataset", str(shared_data / "tvqa_plus_dev"))
    out = capsys.readouterr().out
    assert code == 0, out
    assert "1057 questions" in out


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_option_of_a_recipe_names_its_original(recipe: Path) -> None:
    lines = recipe.read_text(encoding="utf-8").splitlines()
    update = lines[lines.index("# The update") : lines.index("# What is kept")]
    options = [line for line in update if line and not line.startswith(("#", " "))]
    bare = [line for line in options if "  # " not in line]
    allowed = ("bf16", "epsilon_high", "per_device_train_batch_size")
    assert [line for line in bare if not line.startswith(allowed)] == []


RECIPE = ROOT / "configs" / "grpo" / "qwen2.5-3b.yaml"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "problem", "mend"),
    [
        (("--max_context_tokens", "4000"), "max_context_tokens holds 4000", "take max_turn_tokens"),
        pytest.param(
            *(("--max_turn_tokens", "40000"), "holds 14300", "take max_turn_tokens 2"),
            marks=pytest.mark.slow,
        ),
        (("--gpu_memory_gb", "16"), "per GPU", "take a higher ZeRO stage or offload"),
        (("--vllm_gpu_memory_utilization", "0.04"), "cache for", "raise vllm_gpu_memory"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_with_the_mend(
    more: tuple[str, ...], problem: str, mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight(RECIPE, *more) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert problem in out
    assert mend in out.partition("Fix: ")[2]


@pytest.mark.parametrize(
    ("more", "problem", "code"),
    [
        (("--num_generations", "7"), "Fix: make per_device_train_batch_size * processes", 2),
        (("--vision", "telepathy"), "unknown vision agent 'telepathy'", 2),
        (("--dataset", "nowhere"), "nowhere", 1),
        (("--model_name_or_path", "no/such/folder/at/all"), "no config.json at", 1),
        (("--accelerate_config", "no-such.yaml"), "accelerate_config no-such.yaml", 1),
    ],
)
def test_what_cannot_be_read_is_one_line(
    more: tuple[str, ...],
    problem: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from train.options.script import run_script

    flags = ["--config", str(RECIPE), "--model_name_or_path", str(model_of(RECIPE))]
    flags += ["--dataset", "mini", "--preflight"]
    if "--accelerate_config" not in more:
        flags += ["--accelerate_config", accelerate_of(RECIPE)]
    monkeypatch.setattr(sys, "argv", ["grpo.py", *flags, *more])
    with pytest.raises(SystemExit) as stop:
        run_script("train", grpo.main)
    assert stop.value.code == code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("longvideo-env train: ")
    assert problem in last


def test_the_plan_is_a_table_in_any_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight(RECIPE, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["caption"] == "Plan"
    assert {row["state"] for row in plan["rows"]} == {"ok"}


def test_an_endpoint_must_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        flags = ("--vllm_mode", "server", "--vllm_server_host", "127.0.0.1")
        assert preflight(RECIPE, *flags, "--vllm_server_port", port) == 0
        assert f"http://127.0.0.1:{port} answers" in capsys.readouterr().out
    assert preflight(RECIPE, *flags, "--vllm_server_port", port) == 3
    assert "start it, or correct its address" in capsys.readouterr().out


def test_with_the_tokenizer_tokens_are_counted(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    assert preflight(RECIPE, folder=folder) == 0
    assert "(counted, 200 questions" in " ".join(capsys.readouterr().out.split())


def test_estimates_match_known_sizes() -> None:
    from transformers import AutoConfig

    shapes = {f.name: read_shape(AutoConfig.from_pretrained(f)) for f in MODELS.iterdir()}
    billions = {name: round(shape.weights / 1e9, 2) for name, shape in shapes.items()}
    # From their model cards.
    assert billions == {"qwen2.5-3b": 3.09, "qwen2.5-7b": 7.62, "qwen3-4b-thinking": 4.02}
    assert shapes["qwen3-4b-thinking"].context == 262_144
    seven, lora = shapes["qwen2.5-7b"], 1e8
    adapter = replace(seven, trained=int(lora))

    def a_weight(stage: int, **offload: bool) -> float:
        spread = Sharding(8, stage, **offload)
        return (
            sum(states_bytes(seven, spread, lora=False, reference=False).values()) / seven.weights
        )

    # From DeepSpeed: 2 bytes per weight, and 18 that ZeRO-2 divides. ZeRO-3 divides all 18.
    assert [a_weight(stage) for stage in (0, 1, 2)] == pytest.approx([20, 9.5, 2 + 18 / 8])
    assert 18 / 8 < a_weight(3) < 18 / 8 + 0.5
    assert a_weight(3, offload_optimizer=True, offload_parameters=True) < 0.5
    held = states_bytes(adapter, Sharding(2, 2), lora=True, reference=False)
    assert held["frozen weights"] == 2 * seven.weights
    assert held["trained weights with gradients and optimizer"] == pytest.approx(11 * lora)


@pytest.mark.parametrize(
    "rows",
    [
        Rows(1, 200, True, 8),
        pytest.param(Rows(1, 200, False), marks=pytest.mark.slow),
        pytest.param(Rows(2, 300, True), marks=pytest.mark.slow),
    ],
)
def test_a_trace_of_two_shallow_models_is_that_of_the_whole(rows: Rows) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(MODELS / "qwen2.5-3b")
    config.num_hidden_layers, config.layer_types = 5, config.layer_types[:5]
    assert traced_bytes(config, rows) == _trace(config, 5, rows)


@pytest.mark.slow
def test_activations_are_traced_for_the_three_billion_recipe() -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(MODELS / "qwen2.5-3b")
    recipe = Rows(2, 9678, True, 128)
    kept = 36 * 2 * 9678 * 2048 * 2  # each layer's input, in bfloat16
    assert kept < traced_bytes(config, recipe) < 3 * kept
    # Logits of all tokens would be larger than the rest. They are not made.
    assert traced_bytes(config, recipe) < 2 * 9678 * config.vocab_size * 4
    assert traced_bytes(config, replace(recipe, checkpointing=False)) > 90 * GIB


def test_what_cannot_be_traced_is_said_and_estimated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> int:
        raise SpecError("RuntimeError: no kernel")

    monkeypatch.setattr("train.planning.preflight.traced_bytes", refuse)
    assert preflight(RECIPE) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "by arithmetic, because the trace failed (RuntimeError: no kernel)" in said


def test_accelerate_configs_are_read() -> None:
    folder = ROOT / "configs" / "accelerate"
    assert read_sharding(str(folder / "zero3_2nodes.yaml")) == Sharding(16, 3)
    assert read_sharding(str(folder / "zero3_offload.yaml")) == Sharding(8, 3, True, True)
    assert read_sharding(str(folder / "single.yaml")) == Sharding(1, 0)
    with pytest.raises(SpecError, match="not an accelerate config"):
        read_sharding(str(MODELS))


def test_lengths_bound_what_episodes_take() -> None:
    game = Game.from_config(EnvConfig(max_turns=3))
    lengths = count_lengths(load_dataset("embedded", "train"), game, estimate_tokens)
    assert 0 < lengths.prompt_median <= lengths.prompt_max
    assert lengths.episode_max(3, 100) == lengths.prompt_max + 300 + 2 * lengths.observation_max


def test_the_slurm_example_names_files_that_are_there() -> None:
    script = (ROOT / "configs" / "slurm" / "grpo.sbatch").read_text(encoding="utf-8")
    named = script.replace("}", " ").replace("-configs", " configs").split()
    paths = [word for word in named if word.startswith(("configs/", "train/"))]
    assert len(paths) >= 3
    for path in paths:
        assert (ROOT / path).is_file(), path
    assert (
        yaml.safe_load((ROOT / "configs/accelerate/zero3_2nodes.yaml").read_text())["num_machines"]
        == 2
    )
