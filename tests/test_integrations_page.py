"""The examples of docs/integrations.md work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+) ?(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE)

TINY = """
import sys
from transformers import AutoTokenizer
from trl.chat_template_utils import qwen3_chat_template
from train.tiny_model import make_tiny_model

folder = make_tiny_model(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(folder)
tokenizer.chat_template = qwen3_chat_template
tokenizer.save_pretrained(folder)
"""


def run(command: list[str], folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_every_example_is_short() -> None:
    assert all(code.count("\n") <= 32 for _, _, code in BLOCKS)


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    ran = 0
    for language, where, code in BLOCKS:
        if language == "python" and not where:
            name = code.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(code, encoding="utf-8")
            more = []
            if "sys.argv[1]" in code:
                run([sys.executable, "-c", TINY, "tiny"], tmp_path)
                more = ["tiny"]
            run([sys.executable, name, *more], tmp_path)
            ran += 1
        elif language == "bash" and not where:
            run(["bash", "-e", "-c", code], tmp_path)
            ran += 1
    assert ran == 4
