"""The folder of a run is enough to find its rollouts, tokenizer and dataset."""

from pathlib import Path

from eval.report.folders import read_sources
from longvideo_env.commands.audit import audit, main
from longvideo_env.records.metrics_log import rollout_files
from train import grpo


def test_rollouts_that_lie_elsewhere_are_found(flags: list[str], tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    grpo.main([*flags, "--max_steps", "2", "--save_rollouts", str(apart)])
    assert len(rollout_files(tmp_path / "out")) == 2
    assert audit(tmp_path / "out").counts["rollouts"] == 8
    assert main([str(tmp_path / "out")]) == 0, "with the run's own tokenizer"
    for given in ("out", "apart"):
        (source,) = read_sources([tmp_path / given])
        assert source.name == "out"
        assert len(source.episodes) == 8
        assert source.config["dataset"] == "embedded"
        assert source.curves is not None
