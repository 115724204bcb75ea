"""Look over this machine: versions, extras, GPU, disk, endpoints, keys, datasets, with fixes.

    longvideo-env doctor
    longvideo-env doctor data/plus questions.csv      # datasets too
    longvideo-env doctor --endpoint http://localhost:8000/v1
    longvideo-env doctor --json

Nothing is changed, no key is shown, and no network is used but to connect to the endpoints that
are named by --endpoint or by the file in LONGVIDEO_ENDPOINTS.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from rich.markup import escape

from agents.api.endpoints import FILE_VARIABLE, load_endpoint, named_endpoints
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import TEXT, Table, output_console, table_format
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import LongVideoEnvError, SeveralSplitsError

PACKAGE = "longvideo-env"
KEYS = ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY")
CONNECT_S = 3.0
LEAST_FREE_GB = 5
LEAST_OPEN_FILES = 1024
MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}


@dataclass(frozen=True)
class Symptom:
    """One finding.

    Attributes:
        topic: Such as `extra train`.
        state: `ok`; `note`: something optional is missing; `problem`: something required or
            requested does not work.
        found: What was found.
        fix: How to fix it; empty if nothing has to be done.
    """

    topic: str
    state: str
    found: str
    fix: str = ""


def check_versions() -> Iterator[Symptom]:
    """The interpreter and the required packages."""
    yield Symptom("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield _check_requirements("longvideo-env", PACKAGE, "", f"{version(PACKAGE)}, ", "problem")


def check_extras() -> Iterator[Symptom]:
    """Which extras are complete."""
    extras = metadata(PACKAGE).get_all("Provides-Extra") or []
    for extra in sorted(extras):
        if extra not in ("all", "dev"):
            yield _check_requirements(f"extra {extra}", PACKAGE, extra, "", "note")


def _check_requirements(topic: str, package: str, extra: str, head: str, worst: str) -> Symptom:
    missing, unfit, fit = [], [], []
    for line in requires(package) or ():
        need = Requirement(line)
        wanted = need.marker is None or need.marker.evaluate({"extra": extra})
        if not wanted or (extra and not need.marker) or need.name == package:
            continue
        if extra and need.marker is not None and need.marker.evaluate({"extra": ""}):
            continue  # required, not an extra
        try:
            there = version(need.name)
        except PackageNotFoundError:
            missing.append(need.name)
            continue
        if need.specifier.contains(there, prereleases=True):
            fit.append(f"{need.name} {there}")
        else:
            unfit.append(f"{need.name} {there} (wanted {need.specifier})")
    if not missing and not unfit:
        return Symptom(topic, "ok", head + ", ".join(fit))
    parts = [f"not installed: {', '.join(missing)}"] * bool(missing)
    parts += [f"other versions: {', '.join(unfit)}"] * bool(unfit)
    what = f"{package}[{extra}]" if extra else package
    return Symptom(topic, worst, head + "; ".join(parts), f"pip install '{what}'")


def check_gpu() -> Iterator[Symptom]:
    """GPUs, as the driver and torch see them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Symptom("GPU", "note", "no NVIDIA driver here; models run on the CPU")
        return
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(
        [program, *query], capture_output=True, text=True, check=False, timeout=20
    )
    for line in done.stdout.splitlines():
        yield Symptom("GPU", "ok", line.strip())
    if done.returncode or not done.stdout.strip():
        fix = "check the driver with nvidia-smi"
        yield Symptom("GPU", "note", f"nvidia-smi ends with {done.returncode}", fix)
        return
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        built = torch.version.cuda or "the CPU"
        fix = "install a torch that was built for CUDA"
        yield Symptom("torch", "problem", f"{torch.__version__}, built for {built}", fix)


def check_machine() -> Iterator[Symptom]:
    """Free disk space, shared memory, and the limit of open files."""
    caches = {"working folder": Path.cwd(), "cache of models": _hub_cache()}
    for topic, folder in caches.items():
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free / 1e9
        little = free < LEAST_FREE_GB
        fix = "free some space, or set HF_HOME to a larger disk" if little else ""
        yield Symptom(topic, "note" if little else "ok", f"{free:,.0f} GB free ({folder})", fix)
    if Path("/dev/shm").is_dir():
        shared = shutil.disk_usage("/dev/shm").total / 1e9
        small = shared < 1
        fix = "docker run --shm-size=8g: workers of several GPUs need it" if small else ""
        yield Symptom("shared memory", "note" if small else "ok", f"{shared:,.1f} GB", fix)
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        few = 0 <= soft < LEAST_OPEN_FILES
        fix = "ulimit -n 4096, or lower --concurrency" if few else ""
        yield Symptom("open files", "note" if few else "ok", f"{soft:,} allowed", fix)


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def check_keys() -> Iterator[Symptom]:
    """Whether keys are set. Keys are never shown."""
    for name in KEYS:
        there = bool(os.environ.get(name))
        yield Symptom(name, "ok" if there else "note", "set" if there else "not set")


def check_endpoints(named: Sequence[str]) -> Iterator[Symptom]:
    """Whether the endpoints accept connections."""
    for name in dict.fromkeys([*named_endpoints(), *named]):
        topic = f"endpoint {name}"
        try:
            endpoint = load_endpoint(name)
        except LongVideoEnvError as error:
            yield Symptom(topic, "problem", str(error))
            continue
        parts = urlsplit(endpoint.base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        key = "with a key" if endpoint.api_key else "without a key"
        try:
            socket.create_connection((parts.hostname, port), CONNECT_S).close()
        except OSError as error:
            fix = f"start the server, or correct its address in the file of {FILE_VARIABLE}"
            yield Symptom(topic, "problem", f"nothing answers at {endpoint.base_url}: {error}", fix)
        else:
            yield Symptom(topic, "ok", f"something listens at {endpoint.base_url}, {key}")


def check_datasets(specs: Sequence[str]) -> Iterator[Symptom]:
    """Contents of datasets, and what could not be read."""
    for spec in specs:
        splits: Sequence[str | None] = (None,)
        try:
            load_dataset(spec, None, skip_invalid=True)
        except SeveralSplitsError as error:
            splits = error.splits
        except LongVideoEnvError:
            pass  # reported below
        for split in splits:
            topic = f"dataset {spec}" + (f", {split}" if split else "")
            try:
                dataset = load_dataset(spec, split, skip_invalid=True)
            except LongVideoEnvError as error:
                yield Symptom(topic, "problem", str(error))
            else:
                yield Symptom(topic, "ok", " ".join([f"{dataset!r}", *dataset.coverage.lines()]))


def look_over(endpoints: Sequence[str] = (), datasets: Sequence[str] = ()) -> list[Symptom]:
    """Run all checks of `longvideo-env doctor`.

    Args:
        endpoints: Names or addresses to connect to, besides those in the file.
        datasets: Specs of datasets to open.
    """
    checks: tuple[Callable[[], Iterator[Symptom]], ...] = (
        check_versions,
        check_extras,
        check_gpu,
        check_machine,
        check_keys,
        lambda: check_endpoints(endpoints),
        lambda: check_datasets(datasets),
    )
    return [finding for check in checks for finding in check()]


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        "longvideo-env doctor", __doc__, tables=True, findings="something does not work"
    )
    add = parser.add_argument
    add("datasets", nargs="*", metavar="DATASET", help="datasets to open, as in --dataset")
    add(
        "--endpoint",
        action="append",
        default=[],
        metavar="NAME|URL",
        help="an endpoint to connect to; may be given several times",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    options = build_parser().parse_args(arguments)

    def work() -> int:
        findings = look_over(options.endpoint, options.datasets)
        _print(findings)
        return EXIT_FINDINGS if any(f.state == "problem" for f in findings) else EXIT_DONE

    return run_command("doctor", work)


def _print(findings: Sequence[Symptom]) -> None:
    console = output_console()
    if table_format.get() != TEXT:
        rows = [(f.topic, f.state, f.found, f.fix or "-") for f in findings]
        console.print(Table("doctor", "Findings", ("topic", "state", "found", "fix"), rows))
        return
    for finding in findings:
        console.print(
            f"{MARKS[finding.state]}{' ' * (8 - len(finding.state))}"
            f"{escape(finding.topic)}: {escape(finding.found)}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        if finding.fix:
            console.print(f"        Fix: {escape(finding.fix)}", highlight=False, soft_wrap=True)
    count = {state: sum(f.state == state for f in findings) for state in MARKS}
    console.print(
        f"{count['problem']} problems, {count['note']} notes, {count['ok']} fine.", highlight=False
    )


if __name__ == "__main__":
    sys.exit(main())
