"""The commands of docs/films.md run in order, on a real recording."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "films.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def test_the_page_is_short() -> None:
    assert PAGE.count("\n") < 135
    assert len(COMMANDS) == 9


@pytest.mark.slow
def test_the_commands_run(real_models: Path, whisper_folder: Path, tmp_path: Path) -> None:
    for package in ("av", "faster_whisper", "rapidocr", "onnxruntime", "transformers"):
        pytest.importorskip(package)
    sys.path.insert(0, str(Path(__file__).parent / "agents" / "perception"))
    from films import drawn, write_film
    from tiny_vlm import make_tiny_vlm

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "whisper").symlink_to(whisper_folder)
    (tmp_path / "models" / "minilm").symlink_to(real_models / "minilm")
    make_tiny_vlm(tmp_path / "models" / "vlm")
    recording = real_models / "moonshine_voice" / "assets" / "two_cities.wav"
    write_film(tmp_path / "talk.mp4", [drawn("London, 1859")] * 23, 2.0, recording)
    said = ""
    for command in COMMANDS:
        program = str(Path(sys.executable).parent / "longvideo-env")
        done = subprocess.run(
            ["bash", "-c", command.replace("longvideo-env", program)],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    for line in PAGE.split("```text\n")[2].partition("```")[0].splitlines():
        # Whisper cuts sentences into lines in another way where a processor rounds differently.
        for part in re.findall(r"[A-Z][a-z][^A-Z.]*[a-z]", line) or [line]:
            assert part in said
