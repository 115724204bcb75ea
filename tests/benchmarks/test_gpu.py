"""The code of `make gpu`, on a CPU: there the trace must be what a real run takes, to the byte."""

from pathlib import Path

import pytest

pytest.importorskip("trl")
from benchmarks import gpu


def table(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.slow
def test_a_trace_says_what_a_run_takes(tmp_path: Path) -> None:
    (path,) = gpu.main(["--tiny", "--parts", "memory", "--out", str(tmp_path)])
    rows = table(path)
    assert len(rows) == 2 * 2
    assert {row["trained"] for row in rows} == {"LoRA 4", "all"}
    assert all(float(row["ratio"]) == pytest.approx(1, abs=0.05) for row in rows)
    assert all(float(row["tokens/s"]) > 0 for row in rows)


def test_log_probs_are_compared(tmp_path: Path) -> None:
    (path,) = gpu.main(["--tiny", "--parts", "equal", "--out", str(tmp_path)])
    single, half = table(path)
    assert float(single["largest"]) == 0  # it is the same device here
    assert 0 < float(half["largest"]) < 0.2


@pytest.mark.slow
def test_mini_is_trained(tmp_path: Path) -> None:
    (path,) = gpu.main(["--tiny", "--parts", "mini", "--out", str(tmp_path)])
    assert {"reward", "time/train_s", "time/tokens_per_s"} <= {row["figure"] for row in table(path)}
