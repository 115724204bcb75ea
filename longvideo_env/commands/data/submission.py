"""Write a run's answers as a submission file for a benchmark's server.

    longvideo-env submission runs/ego/gpt-4o --for egoschema --out ego.json

RUN is the folder with `episodes.jsonl` and `config.json`. A question without an answer is left out
of the file and counted. The command does not guess. If there are several samples, it uses the
first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.errors import InputError, SpecError
from longvideo_env.records.trajectory import Trajectory, read_trajectories

Choices = Mapping[str, int]
"""`str(qid)` -> index of the chosen option, in the benchmark's own order."""


def first_choices(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    """The first sample's answers, as indices of the dataset's own option order."""
    found: dict[str, int] = {}
    for trajectory in sorted(trajectories, key=lambda t: t.sample, reverse=True):
        if trajectory.choice is not None and trajectory.status != "failed":
            order = trajectory.option_order
            choice = trajectory.choice if order is None else order[trajectory.choice]
            found[str(trajectory.qid)] = choice
        elif trajectory.sample == 0:
            found.pop(str(trajectory.qid), None)
    return found


def egoschema(dataset: Dataset, choices: Choices) -> Any:
    """`{q_uid: 0}`, the format of EgoSchema's `validate.py`."""
    return dict(choices)


def longvideobench(dataset: Dataset, choices: Choices) -> Any:
    """`{id: "A"}`."""
    return {qid: ascii_uppercase[choice] for qid, choice in choices.items()}


def mlvu(dataset: Dataset, choices: Choices) -> Any:
    """`[{"question_id", "question_type", "option": "A"}]`."""
    return [
        {
            "question_id": str(task.qid),
            "question_type": task.question.show,
            "option": ascii_uppercase[choices[str(task.qid)]],
        }
        for task in dataset
        if str(task.qid) in choices
    ]


def videomme(dataset: Dataset, choices: Choices) -> Any:
    """Video-MME's template: one object per video. `response` is empty if there is no answer."""
    videos: dict[str, dict[str, Any]] = {}
    for task in dataset:
        question, facts = task.question, dict(task.question.facts)
        video_id = str(task.qid).partition("-")[0]
        video = videos.setdefault(
            video_id,
            {
                "video_id": video_id,
                "duration_category": facts.get("duration"),
                "video_category": facts.get("domain"),
                "video_subcategory": facts.get("sub_category"),
                "questions": [],
            },
        )
        answer, choice = task.gold.answer, choices.get(str(task.qid))
        video["questions"].append(
            {
                "question_id": str(task.qid),
                "task_type": facts.get("task_type"),
                "question": question.text,
                "choices": [
                    f"{letter}. {option}"
                    for letter, option in zip(ascii_uppercase, question.options, strict=False)
                ],
                "answer": None if answer is None else ascii_uppercase[answer],
                "response": "" if choice is None else ascii_uppercase[choice],
            }
        )
    return list(videos.values())


FORMS: Mapping[str, Callable[[Dataset, Choices], Any]] = {
    form.__name__: form for form in (egoschema, longvideobench, mlvu, videomme)
}


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env submission",
        description=__doc__,
        findings="some questions have no answer",
    )
    add = parser.add_argument
    add("run", type=Path, help="the run's folder")
    add("--for", dest="form", choices=list(FORMS), required=True, help="the benchmark")
    add("--out", type=Path, help="the file to write (default: RUN/submission.json)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("submission", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    config = _config(args.run)
    dataset = load_dataset(
        str(config["dataset"]), str(config["split"]), skip_invalid=bool(config.get("skip_invalid"))
    )
    choices = first_choices(list(read_trajectories(args.run / "episodes.jsonl")))
    out = args.out or args.run / "submission.json"
    value = FORMS[args.form](dataset, choices)
    out.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    unread = sum(str(qid) not in choices for qid in dataset.qids)
    sys.stdout.write(f"{out}: {len(dataset) - unread:,} answers, {unread:,} without an answer\n")
    return EXIT_FINDINGS if unread else EXIT_DONE


def _config(run: Path) -> dict[str, Any]:
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run} is not a run ({error}). Fix: give the folder with episodes.jsonl."
        ) from error
    if not isinstance(config, dict) or "dataset" not in config or "split" not in config:
        raise SpecError(f"{run / 'config.json'} has no dataset or no split.")
    return config
