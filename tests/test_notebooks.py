"""The stored notebooks. `make test-notebooks` runs them."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("first-steps", "own-film", "own-tool", "reading-a-report", "training-curves")
BOOKS = sorted((ROOT / "docs" / "examples").glob("*.ipynb"))
LARGEST = 120_000


def test_these_are_the_notebooks_and_the_site_shows_each():
    assert tuple(path.stem for path in BOOKS) == NAMES
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"examples/{name}.ipynb" not in site] == []


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_small_and_name_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [i for i, cell in enumerate(code, 1) if cell["execution_count"] != i] == []
    outputs = [output for cell in code for output in cell["outputs"]]
    assert len(outputs) > 4
    for output in outputs:
        assert output["output_type"] in ("stream", "execute_result", "display_data")
        assert output.get("name") != "stderr", "make notebooks leaves these out"
        shown = json.dumps({key: value for key, value in output.items() if key != "data"})
        shown += json.dumps(output.get("data", {}).get("text/plain", ""))
        assert re.search(r"/(?:tmp|root|home|work|usr|Users)/", shown) is None, shown[:300]
        assert "\\u001b" not in shown, "plain text, without colours"


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_pictures_that_a_notebook_shows_are_there(path):
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).is_file(), target
