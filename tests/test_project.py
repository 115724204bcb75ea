import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("longvideo_env", "agents", "train", "eval")
MOST_IN_A_ROOM = 15

# The set that the trainer and both vLLM builds share: what has been tested together.
PINS = {
    "torch": "2.13.0",
    "transformers": "5.17.0",
    "trl": "1.16.0",
    "peft": "0.21.2",
    "accelerate": "1.15.0",
    "deepspeed": "0.19.8",
    "datasets": "5.2.0",
    "gymnasium": "1.4.0",
    "openai": "3.52.0",
    "wandb": "0.31.0",
}


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [
        re.match(r"([a-z0-9-]+)==([^ ]+)( ; python_version >= \"3\.11\")?$", line)
        for line in lines
        if line and not line.startswith("#")
    ]
    assert all(found), (
        "each line of constraints.txt is one exact pin, with or without the 3.11 marker"
    )
    return {match[1]: match[2] for match in found if match}


def named(requirements: list[str]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9_.-]+", requirement) for requirement in requirements)
    return {match[0].lower() for match in names if match} - {"longvideo-env"}


def test_bare_install_needs_neither_torch_nor_a_client(project: dict[str, Any]) -> None:
    bare = named(project["project"]["dependencies"])
    assert bare == {
        *(
            "bm25s",
            "docstring-parser",
            "filelock",
            "gymnasium",
            "jinja2",
            "numpy",
            "packaging",
            "pydantic",
        ),
        *("pyyaml", "rich", "scipy"),
    }


def test_extra_all_names_every_extra(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    inside = everything.removeprefix("longvideo-env[").removesuffix("]").split(",")
    assert set(inside) == set(extras) - {"all"}


def test_every_requirement_is_pinned(project: dict[str, Any], pins: dict[str, str]) -> None:
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    assert set().union(*map(named, groups)) <= set(pins)


@pytest.mark.parametrize(("name", "version"), PINS.items())
def test_pin(name: str, version: str, pins: dict[str, str]) -> None:
    assert pins[name] == version


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_bare_core_imports_neither_torch_nor_a_client() -> None:
    code = (
        "import sys, longvideo_env, agents; "
        "bad = {'torch', 'transformers', 'openai', 'trl'} & set(sys.modules); "
        "assert not bad, bad"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


def test_import_contracts_hold() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stdout + done.stderr


def test_makefile_has_the_promised_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    promised = {"setup", "demo", "test", "test-slow", "test-browser", "test-vllm", "check", "clean"}
    assert promised <= targets


def test_readme_opens_with_demo_and_test() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```\w*\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    assert block, "README.md has no code block"
    commands = [line.split("#")[0].strip() for line in block[1].splitlines() if line.strip()]
    assert commands[:2] == ["make demo", "make test"]


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_no_two_modules_or_public_classes_have_one_name() -> None:
    modules = Counter(path.stem for path in sources() if path.stem != "__init__")
    assert {name for name, n in modules.items() if n > 1} == set()
    classes = Counter(
        node.name
        for path in sources()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, n in classes.items() if n > 1} == set()


def test_files_and_rooms_can_be_taken_in_at_a_glance() -> None:
    long = {p.name for p in sources() if len(p.read_text(encoding="utf-8").splitlines()) > 400}
    assert long == set()
    rooms = Counter(path.parent for path in sources() if path.stem != "__init__")
    assert {str(room.relative_to(ROOT)): n for room, n in rooms.items() if n > MOST_IN_A_ROOM} == {}
