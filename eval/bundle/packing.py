"""Pack runs with everything that others need to check their figures.

    longvideo-env bundle runs/demo/hf-mini-starter runs/demo/hf-demo-grpo-mini --out paper.zip
    longvideo-env bundle runs/api --out paper.zip --recording runs/api/recording.sqlite

RUN is a folder that `longvideo-env evaluate` wrote, or a folder of several. The table compares
every run with the first.

The bundle has the episodes, their configuration, the prompts, the recording, versions, hashes of
data and weights, the commands, and the figures as a table in Markdown and LaTeX. It has no frames,
no keys and no paths of this machine. Subtitles and captions that were shown are left out, unless
the data is this project's own or --with-texts is given. With --with-texts, mind the data's licence.

A bundle is checked before it is written. `longvideo-env verify` checks it on any machine.
"""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agents.generation.settings import GenerationSettings
from eval.bundle.bundle_checks import check_bundle, print_findings, runs_of
from eval.bundle.cleaning import clean_episode, clean_values, find_secrets, is_open, without_texts
from eval.bundle.contents import RECORDING_MEMBER, Bundle, seal, write_bundle
from eval.bundle.figures import paper_tables, table_files, unique_names
from eval.metrics.pairs import Run, read_run
from eval.rescore import read_summary
from eval.runs.run_options import RECORDING
from eval.runs.store import CONFIG, EPISODES, IDENTITY, QUESTIONS, SUMMARY
from longvideo_env import EnvConfig
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_ERROR
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.config import PROTOCOLS, spec_of
from longvideo_env.errors import InputError, SpecError
from longvideo_env.game.words.templates import SHIPPED, default_text, shipped_text
from longvideo_env.tools.recording import export_calls

PACKAGES = ("longvideo-env", "numpy", "scipy", "bm25s", "gymnasium", "jinja2", "pydantic", "torch",
            "transformers", "tokenizers", "trl", "peft", "vllm", "openai")  # fmt: skip
"""Packages whose versions a figure may depend on."""


def pack(
    folders: Sequence[Path],
    *,
    with_texts: bool = False,
    recording: Path | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Put runs together.

    Args:
        folders: Their folders.
        with_texts: Whether to include shown texts of licensed data.
        recording: The recording. By default the one beside the runs.

    Returns:
        The sealed manifest, and the files by name.

    Raises:
        SpecError: A run is not finished, or holds secrets that must not leave this machine.
        TrajectoryError: An episode cannot be read.
    """
    runs = [read_run(folder) for folder in folders]
    if not all(run.episodes for run in runs):
        empty = next(run.folder for run in runs if not run.episodes)
        raise InputError(f"{empty} holds no episodes. Fix: play the run first.")
    policies = [str(clean_values(run.config.get("policy"))) for run in runs]
    names = _folder_names([run.folder for run in runs])
    files: dict[str, bytes] = {}
    entries = []
    for name, run, title in zip(names, runs, unique_names(policies, names), strict=True):
        whole = with_texts or is_open(run.config.get("dataset"))
        own, entry = _pack_run(f"runs/{name}", run, whole)
        files |= own
        entries.append({"name": name, "title": title, **entry})
    whole = all(entry["texts"] == "whole" for entry in entries)
    files |= _recorded(runs, recording, whole)
    packed = Bundle(Path(), {"runs": entries}, files)
    found = runs_of(packed)
    titles = {entry["title"]: found[entry["name"]] for entry in entries}
    files |= table_files(
        paper_tables(
            {title: run for title, (run, _) in titles.items()},
            {title: summary for title, (_, summary) in titles.items()},
        )
    )
    places = [*(run.folder.parent for run in runs), Path.cwd()]
    if secrets := find_secrets(files, places):
        raise SpecError(
            f"nothing was written: {'; '.join(secrets[:3])}. Fix: play the run with other names, "
            "or remove this from its files."
        )
    manifest = {
        "made_with": {
            "python": platform.python_version(),
            "packages": {name: v for name in PACKAGES if (v := _version(name)) is not None},
        },
        "runs": entries,
    }
    return seal(manifest, files), files


def _pack_run(place: str, run: Run, whole: bool) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a run, and its entry in the manifest."""
    summary = read_summary(run)
    if not summary:
        raise SpecError(f"{run.folder} has no {SUMMARY}. Fix: resume and finish the run.")
    config, clean = clean_values(run.config), clean_values(summary)
    lines = []
    with open(run.folder / EPISODES, encoding="utf-8") as file:
        for line in file:
            record = clean_episode(json.loads(line))
            lines.append(_dump(record if whole else without_texts(record)))
    words = _words(run)
    files = {
        f"{place}/{EPISODES}": "".join(lines).encode("utf-8", "surrogatepass"),
        f"{place}/{CONFIG}": _pretty(config),
        f"{place}/{SUMMARY}": _pretty(clean),
        f"{place}/{QUESTIONS}": (json.dumps(run.questions) + "\n").encode(),
    }
    identity = config.get(IDENTITY, {})
    entry = {
        "policy": config.get("policy"),
        "command": command_of(config, clean),
        "texts": "whole" if whole else "left out",
        "words": None,
    }
    if identity.get("words"):
        entry["words"] = f"words/{identity['words']}.jinja"
        files[entry["words"]] = words.encode()
    return files, entry


def command_of(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The command that plays a run again, from its configuration and summary."""
    chosen = summary.get("selection") or {}
    given = {
        "policy": config.get("policy"),
        "dataset": config.get("dataset"),
        "split": config.get("split"),
        "seed": config.get("seed"),
        "samples": summary.get("n_samples"),
        **{name: chosen.get(name) for name in ("questions", "limit", "shuffle")},
    }
    defaults: dict[str, Any] = {"seed": 0, "samples": 1}
    standard = EnvConfig(game=str(config.get("game") or "longvideoagent"))
    for item in fields(EnvConfig):
        given.setdefault(item.name, config.get(item.name))
        if item.name not in ("dataset", "split"):
            defaults[item.name] = spec_of(getattr(standard, item.name))
    for setting in fields(GenerationSettings):
        given[setting.name] = config.get(setting.name)
        defaults[setting.name] = None if setting.default is MISSING else setting.default
    given |= {name: v for name, v in config.items() if name.startswith("episode_budget_")}
    words = ["longvideo-env", "evaluate"]
    for name, value in given.items():
        # The configuration has lists where the defaults have tuples.
        if value is None or _plain(value) == _plain(defaults.get(name)):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{flag}")
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [f"--{flag}", text]
    return shlex.join([*words, "--out", "runs/again"])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _words(run: Run) -> str:
    """The environment's words: the default ones, or those of the run's file."""
    path = run.config.get("prompts")
    if not path:
        protocol = run.config.get("protocol")
        return default_text(protocol if protocol in PROTOCOLS else "tags")
    try:
        shipped = SHIPPED.get(str(path))
        return shipped_text(shipped) if shipped else Path(str(path)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{run.folder} was played with the words in {path}, but this file cannot be read "
            f"({error}). Fix: put the file back."
        ) from error


def _recorded(runs: Sequence[Run], given: Path | None, whole: bool) -> dict[str, bytes]:
    """The recording of the runs as lines, if they have one."""
    modes = [(read_summary(run).get("recording") or {}).get("mode", "off") for run in runs]
    beside = {run.folder.parent / RECORDING for run in runs}
    paths = [given] if given else sorted(path for path in beside if path.is_file())
    if given is None and set(modes) == {"off"}:
        return {}
    if not paths:
        raise SpecError(
            "the runs were recorded, but their recording is not beside them. Fix: give "
            "--recording FILE."
        )
    lines = sorted({line for path in paths for line in export_calls(path)})
    if not whole:
        lines = [_dump({**json.loads(line), "request": None}) for line in lines]
    return {RECORDING_MEMBER: "".join(lines).encode("utf-8", "surrogatepass")}


def _folder_names(folders: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's, with the parent folder's if two are the same."""
    own = [folder.resolve().name for folder in folders]
    names = [
        name if own.count(name) == 1 else f"{folder.resolve().parent.name}-{name}"
        for name, folder in zip(own, folders, strict=True)
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError(f"two runs have the name {twice!r}. Fix: rename a folder.")
    return names


def _dump(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def _pretty(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def run_folders(paths: Sequence[Path]) -> list[Path]:
    """The folders of runs: each path itself, or the runs in it.

    Raises:
        InputError: A path holds no run.
    """
    found = []
    for path in paths:
        folder = path.parent if path.name == EPISODES else path
        # A model's folder also has a config.json. Only a run has episodes.
        is_run = (folder / EPISODES).is_file()
        below = [child for child in sorted(folder.glob("*/")) if (child / EPISODES).is_file()]
        if not is_run and not below:
            raise InputError(
                f"no run in {path}. Fix: give a folder that `longvideo-env evaluate` wrote."
            )
        found += [folder] if is_run else below
    return list(dict.fromkeys(found))


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(prog="longvideo-env bundle", description=__doc__)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="A run, or a folder of runs.")
    add("--out", type=Path, required=True, metavar="FILE", help="The bundle, such as paper.zip.")
    add(
        "--recording",
        type=Path,
        metavar="FILE",
        help=f"The runs' recording. Default: {RECORDING} beside them, if they were recorded.",
    )
    add(
        "--with-texts",
        action="store_true",
        help="Include the shown subtitles and captions, also of licensed data.",
    )
    add("--overwrite", action="store_true", help="Replace an existing file.")
    return parser


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    if options.out.exists() and not options.overwrite:
        raise InputError(f"{options.out} already exists. Fix: give another --out, or --overwrite.")
    folders = run_folders(options.runs)
    manifest, files = pack(folders, with_texts=options.with_texts, recording=options.recording)
    console = output_console()
    findings = check_bundle(Bundle(options.out, manifest, files))
    if findings.differs:
        print_findings(findings, console)
        console.print(
            "nothing was written. Fix: compute the figures again with `longvideo-env rescore`."
        )
        return EXIT_ERROR
    write_bundle(options.out, manifest, files)
    size = options.out.stat().st_size
    for line in (
        f"{options.out}: {len(folders)} runs, {size / 1e6:.2f} MB",
        *(f"{entry['title']}: texts {entry['texts']}" for entry in manifest["runs"]),
        f"digest: {manifest['digest']}",
        f"Check it with: longvideo-env verify {options.out}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("bundle", lambda: _run(argv))
