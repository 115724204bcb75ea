r"""Make the paper's main table and its four ablations, for any policies and agents.

    longvideo-env tables --policy hf:runs/grpo --dataset DIR --split val --out runs/tables
    longvideo-env tables --policy random --policy teacher:mini:0:0 --dataset mini --out runs/tables
    longvideo-env tables --policy hf:runs/grpo --vision-agent captions --vision-agent captions:3 \
        --dataset DIR --out runs/tables --table vision
    longvideo-env tables --collect --out runs/tables

The tables: `main`; `components` (text only, + grounding, + vision); `turns` (K = 2, 5, 10);
`window` (1, 2, 3 clips); `vision`, the vision agents given by --vision-agent. Each variant changes
some options of the environment and keeps the others. "Text only" reads the first clip of the video.
It has no tools, and no agent chooses a clip for it.

Each policy has a folder under --out, and each variant is a run in it. `longvideo-env report` and
`longvideo-env compare` read these runs. A variant that equals the given options is played once, as
`full`. The same command resumes. --collect plays nothing. It prints the runs under --out, and a
dash for missing ones. `tables.md`, `tables.tex`, `tables.csv` and `tables.json` are also written
there.

Accuracies are in percent, with 95 % intervals clustered by video. "- full" is the difference of a
variant to the policy's run as configured, question by question on one recording of tool calls, with
interval and p. "- first", in the main table, is the difference of a policy to the first policy. p
is Holm's for each table. The notes below a table say how many videos could find a difference that
is not significant.

The published accuracies are printed beside ours. They were measured on other data with other
models: compare shapes, not levels.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from agents.generation.settings import GenerationSettings
from eval.ablations import compare_with_full, play_variants
from eval.metrics.intervals import FEW_VIDEOS, few_videos
from eval.metrics.pairs import add_holm, count_folders
from eval.metrics.summary import accuracy_interval
from eval.output.comparisons import format_p, power_notes
from eval.output.published import ABLATIONS, MAIN, SOURCE, Published
from eval.runs.naming import folder_name, run_folder
from eval.runs.run_options import RunOptions, build_parser, read_options
from eval.runs.store import SUMMARY
from eval.runs.variants import FULL, Variant
from longvideo_env import EnvConfig
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import (
    FORMATS,
    Table,
    output_console,
    print_tables,
    table_name,
)
from longvideo_env.errors import InputError, SpecError
from longvideo_env.records.files import write_json, write_text

PLAN = "tables.json"
AGAINST, AGAINST_FIRST = "against_full", "against_first"
COMPARED = ("its 95% CI", "p (Holm)")
K, WINDOWS = (2, 5, 10), (1, 2, 3)


@dataclass(frozen=True)
class TablePlan:
    """The tables to play or collect.

    Attributes:
        policies: The policies, in the order of the tables.
        vision_agents: The vision agents of the table `vision`.
        tables: The names of the tables.
        heading: Dataset and split, for the tables' captions.
    """

    policies: tuple[str, ...]
    vision_agents: tuple[str, ...]
    tables: tuple[str, ...]
    heading: str


TABLES = {
    "main": "Main table",
    "components": "Components",
    "turns": "Turns K",
    "window": "Evidence window",
    "vision": "Vision agent",
}


def variants_of(table: str, vision_agents: Sequence[str]) -> list[tuple[str, Variant]]:
    """The rows of a table for each policy, with their labels."""
    if table == "main":
        return [("as configured", Variant(FULL, "as configured"))]
    if table == "components":
        no_tools = {"grounding": "none", "vision": "none"}
        return [
            ("text only", Variant("text-only", "the first clip, no tools", no_tools)),
            ("+ grounding", Variant("with-grounding", "--vision none", {"vision": "none"})),
            ("+ vision", Variant("with-grounding-and-vision", "as configured")),
        ]
    if table == "turns":
        made = [Variant(f"max-turns-{k}", f"--max-turns {k}", {"max_turns": k}) for k in K]
        return [(f"K = {k}", variant) for k, variant in zip(K, made, strict=True)]
    if table == "window":
        made = [Variant(f"window-{n}", f"--window {n}", {"window": n}) for n in WINDOWS]
        return [(f"{n} clip{'s' * (n > 1)}", v) for n, v in zip(WINDOWS, made, strict=True)]
    return [
        (spec, Variant(folder_name(f"vision-{spec}"), spec, {"vision": spec}))
        for spec in vision_agents
    ]


def all_variants(plan: TablePlan) -> list[Variant]:
    """Every variant that the tables need, once."""
    found = {
        variant.name: variant
        for table in ("main", *plan.tables)
        for _, variant in variants_of(table, plan.vision_agents)
    }
    return list(found.values())


def play(
    plan: TablePlan,
    run: RunOptions,
    config: EnvConfig,
    settings: GenerationSettings,
    stderr: Console,
) -> dict[str, dict[str, Any]]:
    """Play the missing variants. Returns each policy's summaries by variant."""
    summaries = {}
    for policy in plan.policies:
        own = replace(run, policies=[policy], out=run_folder(run.out, policy, plan.policies))
        rows = asyncio.run(play_variants(all_variants(plan), own, config, settings, stderr))
        played_as = {row.variant.name: row.played_as for row in rows}
        write_json(own.out / PLAN, {"policy": policy, "played_as": played_as})
        summaries[policy] = {
            row.variant.name: {**row.summary, AGAINST: row.against_full} for row in rows
        }
    compare_policies(plan, run.out, summaries)
    return summaries


def collect(plan: TablePlan, out: Path) -> dict[str, dict[str, Any]]:
    """Read the played variants. A variant without a summary is left out."""
    summaries: dict[str, dict[str, Any]] = {}
    for policy in plan.policies:
        folder = run_folder(out, policy, plan.policies)
        played_as = _read(folder / PLAN).get("played_as", {})
        names = [variant.name for variant in all_variants(plan)]
        folders = {name: played_as.get(name, name) for name in names}
        found = {name: _read(folder / folders[name] / SUMMARY) for name in names}
        compared = compare_with_full(folder, list(dict.fromkeys(folders.values())))
        summaries[policy] = {
            name: {**summary, AGAINST: compared.get(folders[name])}
            for name, summary in found.items()
            if summary
        }
    compare_policies(plan, out, summaries)
    return summaries


def compare_policies(
    plan: TablePlan, out: Path, summaries: Mapping[str, Mapping[str, dict[str, Any]]]
) -> None:
    """Compare each policy's run as configured with the first policy's."""
    full = {p: run_folder(out, p, plan.policies) / FULL for p in plan.policies}
    first = plan.policies[0]
    for policy, found in summaries.items():
        if FULL in found and policy != first:
            found[FULL][AGAINST_FIRST] = count_folders(full[first], full[policy])


def make_tables(plan: TablePlan, summaries: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """The tables, with each policy's rows and the published numbers."""
    return [_make_table(name, plan, summaries) for name in plan.tables]


def _make_table(name: str, plan: TablePlan, summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    against, heading = (AGAINST_FIRST, "- first") if name == "main" else (AGAINST, "- full")
    columns = ["policy", "variant", "answer", "95% CI", heading, *COMPARED, "grounding", "turns"]
    columns += ["calls", "failed", "n", "published answer", "published grounding"]
    found = [
        (policy, text, summaries[policy].get(variant.name), ABLATIONS.get(variant.name))
        for policy in plan.policies
        for text, variant in variants_of(name, plan.vision_agents)
    ]
    compared = {
        policy if name == "main" else f"{policy}, {text}": numbers
        for policy, text, summary, _ in found
        if summary and (numbers := summary.get(against))
    }
    add_holm(list(compared.values()))
    rows = [_row(*row, against) for row in found]
    note = f"Published: {SOURCE}; other models and data."
    if name == "main":
        columns, rows = _main(columns, rows)
        note = f"Published: {SOURCE}, on LongTVQA and LongTVQA+ (validation)."
    if name == "vision":
        note = "The paper's own table on vision models is not quoted."
    if compared:
        what = f"with {plan.policies[0]}" if name == "main" else "with the run as configured"
        note += f" {heading}: paired {what}; p is Holm's, n = {len(compared)}."
    videos = [s["n_videos"] for _, _, s, _ in found if s and s["n_scored"]]
    if few := few_videos(min(videos, default=FEW_VIDEOS)):
        note += f" {few[0].upper()}{few[1:]}."
    caption = f"{TABLES[name]}: {plan.heading}"
    return Table(name, caption, columns, rows, note, power_notes(compared))


def _main(columns: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The main table, with our rows above and the paper's systems below."""
    keep = [i for i, column in enumerate(columns[:-2]) if column != "variant"]
    ours = [[row[i] for i in keep] + ["-", "-"] for row in rows]
    blank = ["-"] * (len(keep) - 1)
    theirs = [
        [f"{system.name} (published)", *blank, _percent(system.longtvqa), _percent(plus)]
        for system in MAIN
        for plus in (system.longtvqa_plus,)
    ]
    heads = [columns[i] for i in keep] + ["LongTVQA", "LongTVQA+"]
    return heads, [*ours, *theirs]


def _row(
    policy: str,
    text: str,
    summary: Mapping[str, Any] | None,
    published: Published | None,
    against: str,
) -> list[str]:
    numbers = ["-"] * 10
    if summary is not None:
        name = f"{policy} (oracle)" if summary["oracle"] else policy
        policy = f"{name} (leaky)" if summary.get("leaky") else name
        interval = accuracy_interval(summary)
        numbers = [
            _percent(summary["accuracy"], 100),
            "-" if interval is None else "-".join(f"{100 * end:.1f}" for end in interval),
            *_compared(summary.get(against)),
            _percent(summary["grounding_accuracy"], 100),
            _number(summary["mean_turns"]),
            _number(summary["behaviour"]["mean_tool_calls"]),
            str(summary["n_failed"]),
            str(summary["n_scored"]),
        ]
    known = published or Published()
    return [policy, text, *numbers, _percent(known.answer), _percent(known.grounding)]


def _compared(numbers: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if numbers is None:
        return "-", "-", "-"
    ends = numbers["difference_ci95"]
    within = "-" if ends is None else ", ".join(f"{100 * end:+.1f}" for end in ends)
    return f"{100 * numbers['difference']:+.2f}", within, format_p(numbers["p_holm"])


def _dataset_name(config: EnvConfig) -> str:
    """The dataset's name without the folders above it."""
    path = Path(config.dataset)
    return path.name if path.is_absolute() or path.exists() else config.dataset


def _percent(value: float | None, times: float = 1) -> str:
    return "-" if value is None else f"{times * value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). Fix: remove it, and play the variant again."
        ) from error
    return value if isinstance(value, dict) else {}


def _parse(argv: Sequence[str] | None) -> dict[str, Any]:
    parser = build_parser("longvideo-env tables", __doc__, several=True)
    group = parser.add_argument_group("tables")
    group.add_argument(
        "--table",
        action="append",
        choices=list(TABLES),
        help="Only this table. May be repeated. Default: all, and vision only with --vision-agent.",
    )
    group.add_argument(
        "--vision-agent",
        action="append",
        metavar="SPEC",
        help="A vision agent for the table `vision`. May be repeated.",
    )
    group.add_argument("--collect", action="store_true", help="Only print the existing runs.")
    options: dict[str, Any] = vars(parser.parse_args(argv))
    return options


def _plan(options: Mapping[str, Any], policies: Sequence[str], heading: str) -> TablePlan:
    agents = tuple(dict.fromkeys(options["vision_agent"] or ()))
    wanted = options["table"] or [t for t in TABLES if t != "vision" or agents]
    if "vision" in wanted and not agents:
        raise SpecError("--table vision needs --vision-agent SPEC, at least once.")
    return TablePlan(tuple(policies), agents, tuple(t for t in TABLES if t in wanted), heading)


def _collected(options: Mapping[str, Any]) -> tuple[TablePlan, Path]:
    """The plan of an earlier call under --out."""
    if options["out"] is None:
        raise SpecError("give --out DIR, the folder of the runs.")
    out = Path(options["out"])
    earlier = _read(out / PLAN)
    if not earlier:
        raise InputError(
            f"expected {out / PLAN}, but it does not exist. Fix: first run without --collect."
        )
    if options["vision_agent"] is None:
        options = {**options, "vision_agent": earlier["vision_agents"]}
    policies = options["policy"] or earlier["policies"]
    return _plan(options, policies, earlier["heading"]), out


def _run(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    if options["collect"]:
        plan, out = _collected(options)
        summaries = collect(plan, out)
    else:
        run, config, settings = read_options(options)
        plan = _plan(options, run.policies, f"{_dataset_name(config)}, split {config.split}")
        out = run.out
        summaries = play(plan, run, config, settings, Console(stderr=True))
        named = {"policies": plan.policies, "vision_agents": plan.vision_agents}
        write_json(out / PLAN, {**named, "heading": plan.heading})
    tables = make_tables(plan, summaries)
    for name, typeset in FORMATS.items():
        write_text(out / table_name(name), typeset(tables))
    print_tables(tables, output_console())
    failed = any(summary["n_failed"] for found in summaries.values() for summary in found.values())
    return EXIT_FINDINGS if failed else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("tables", lambda: _run(argv), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
