from pathlib import Path

import pytest
import yaml

from eval.run_policy import parse_options

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_config_opens_with_the_command_that_uses_it(path):
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first.startswith(("# accelerate launch ", "# python "))
    assert path.relative_to(ROOT).as_posix() in first
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs/eval").glob("*.yaml")), ids=lambda p: p.name
)
def test_evaluation_configs_parse(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policies = yaml.safe_load(path.read_text(encoding="utf-8"))["policy"]
    for policy in [policies] if isinstance(policies, str) else policies:
        name, _, model = policy.partition(":")
        if name == "hf" and model != "mini-starter":  # a training run's folder
            folder = tmp_path / model
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}")
    run, _, _ = parse_options(["--config", str(path), "--out", str(tmp_path)])
    assert run.policies
