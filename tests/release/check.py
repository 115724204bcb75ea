"""`make release-check`: build the packages of a release, and test them outside the checkout.

    python tests/release/check.py DIST

Builds wheel and sdist into DIST, and checks their metadata and size. Installs the wheel outside the
checkout, on the lowest and the highest supported Python on this machine. There it plays, evaluates,
compares, reports and prints its version. Then each extra is resolved alone, and the core is
installed with the oldest numpy in its range. Needs the packages build and twine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
LARGEST_WHEEL = 10_000_000
OLDEST_NUMPY = "1.26.4"
NOT_RESOLVED = {
    "all": "it is the sum of the others",
    "vllm": "its wheel needs CUDA's packages of several GB",
}
PLAY = """
import gymnasium as gym
import longvideo_env
assert "site-packages" in longvideo_env.__file__, longvideo_env.__file__
env = gym.make("LongTVQA-v0", dataset="mini", split="test", render_mode="ansi")
text, info = env.reset(seed=0)
text, reward, terminated, truncated, info = env.step("<answer>a1</answer>")
assert terminated and env.render()
print("played, reward", reward)
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """A command's output. If it fails, the check ends and prints all of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=kept, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"FAILED: {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def find_python(version: str) -> Path | None:
    """An interpreter of a version: on the path, from pyenv or from setup-python."""
    if found := shutil.which(f"python{version}"):
        try:
            subprocess.run([found, "-c", "import venv, ensurepip"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pass  # a shim without its interpreter
        else:
            return Path(found)
    roots = [os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"]
    for root in filter(None, roots):
        for folder in sorted(Path(root).glob(f"versions/{version}.*/bin/python"), reverse=True):
            return folder
    return None


def build(out: Path) -> Path:
    """Build wheel and sdist, check them, and return the wheel."""
    shutil.rmtree(out, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    files = sorted(out.iterdir())
    say(run(sys.executable, "-m", "twine", "check", "--strict", *files).strip())
    wheel = next(path for path in files if path.suffix == ".whl")
    size = wheel.stat().st_size
    say(f"{wheel.name}: {size / 1e6:.1f} MB")
    if size >= LARGEST_WHEEL:
        sys.exit(f"FAILED: the wheel has {size:,} bytes, {LARGEST_WHEEL:,} or more.")
    return wheel


def environment(python: Path, folder: Path, *install: str) -> Path:
    """A new environment with the given packages. Returns its folder of programs."""
    run(python, "-m", "venv", folder)
    programs = folder / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", *install)
    return programs


def use(programs: Path, folder: Path) -> None:
    """Play, evaluate, compare, make a table and a report, in an empty folder."""
    folder.mkdir()
    program = programs / "longvideo-env"
    version = run(program, "--version", cwd=folder).strip()
    if version != f"longvideo-env {PROJECT['version']}":
        sys.exit(f"FAILED: --version prints {version!r}.")
    say(f"  {version}; {run(programs / 'python', '-c', PLAY, cwd=folder).strip()}")
    policies = ("--policy", "random", "--policy", "scripted:ground-look-answer")
    run(program, "evaluate", *policies, "--limit", "40", "--out", "runs", cwd=folder)
    runs = ("runs/random", "runs/scripted-ground-look-answer")
    latex = run(program, "compare", *runs, "--format", "tex", cwd=folder)
    if r"\toprule" not in latex:
        sys.exit(f"FAILED: compare --format tex printed\n{latex}")
    run(program, "table", "runs", "--format", "csv", cwd=folder)
    run(program, "doctor", cwd=folder)
    run(programs / "python", "-m", "pip", "install", "--quiet", "longvideo-env[report]",
        "--find-links", str(WHEELS), cwd=folder)  # fmt: skip
    run(program, "report", "runs", "--out", "report.html", cwd=folder)
    say("  evaluate, compare, table, doctor and report ran")


def main() -> None:
    """Run the check."""
    global WHEELS
    out = Path(sys.argv[1]).resolve()
    began = time.perf_counter()
    wheel = build(out)
    WHEELS = out
    found = {version: python for version in PYTHONS if (python := find_python(version))}
    say(f"Pythons found: {', '.join(found)}")
    lowest, *_, highest = (*found, *found)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for version in dict.fromkeys((lowest, highest)):
            say(f"Python {version}: the wheel in an empty environment")
            programs = environment(found[version], place / f"env-{version}", str(wheel))
            use(programs, place / f"work-{version}")
        say(f"Python {lowest}: numpy {OLDEST_NUMPY}")
        old = environment(found[lowest], place / "env-old", str(wheel), f"numpy=={OLDEST_NUMPY}")
        say(f"  {run(old / 'python', '-c', PLAY, cwd=place).strip()}")
        resolver = found.get("3.11", found[highest])
        programs = environment(resolver, place / "env-extras", "pip")
        for extra in PROJECT["optional-dependencies"]:
            if extra in NOT_RESOLVED:
                say(f"extra {extra}: not resolved, {NOT_RESOLVED[extra]}")
                continue
            pins = os.devnull if extra == "inspect" else ROOT / "constraints.txt"
            run(programs / "python", "-m", "pip", "install", "--dry-run", "--quiet",
                "--constraint", pins, f"{wheel}[{extra}]")  # fmt: skip
            say(f"extra {extra}: resolves")
    say(f"all passed in {time.perf_counter() - began:.0f} s")


WHEELS = Path()
if __name__ == "__main__":
    main()
