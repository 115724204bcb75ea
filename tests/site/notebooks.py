"""`make notebooks`: run the notebooks of docs/examples, and keep their outputs.

Each cell keeps its printed text in one piece, its tables and its pictures. Run times and stderr are
left out. So a second run changes only figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]


def refresh(path: Path) -> None:
    """Run one notebook in its folder."""
    book = nbformat.read(path, as_version=4)
    options = {"timeout": 300, "record_timing": False, "coalesce_streams": True}
    NotebookClient(book, resources={"metadata": {"path": str(path.parent)}}, **options).execute()
    for cell in book.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    book.metadata["language_info"] = {"name": "python"}
    nbformat.write(book, path)


if __name__ == "__main__":
    for file in sorted((ROOT / "docs" / "examples").glob("*.ipynb")):
        sys.stdout.write(f"{file.name}\n")
        refresh(file)
