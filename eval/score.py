"""Score a file of answers as a run, for the same tables, intervals and comparisons.

    longvideo-env score answers.json --dataset DIR --split val --name their-model --out runs/theirs
    longvideo-env compare runs/theirs runs/ours

FILE has the ids of questions and their answers: a JSON object `{"12": "a3"}`, a JSON array or JSON
Lines of objects with `qid` and `answer`, or CSV with these two columns.

An answer is a label (`a3`), a letter (`D`), an index from 0, or the words of one option. With --ask
words it is free text. With --ask when it is a stretch of the video in seconds, `12.5 - 40`
(docs/answers.md). Unreadable answers and questions without an answer are wrong. Both are counted,
and examples of unreadable answers are named. The command refuses an id that is not in the split, or
that is twice in the file.

--out becomes a run's folder as from `longvideo-env evaluate`, with one episode per question and no
turns.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from eval.metrics.answer_forms import answer_lines
from eval.metrics.benchmark_groups import group_lines, group_shares, question_facts
from eval.metrics.summary import summarize
from eval.run_policy import print_table, say
from eval.runs.identify import questions_of
from eval.runs.store import RunStore
from longvideo_env.commands.exit_codes import EXIT_DONE
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.splits import DEFAULT_SPLIT
from longvideo_env.commands.typeset import output_console
from longvideo_env.config import CHOICE, FORMS, WHEN
from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.datasets.forms import ask_as
from longvideo_env.datasets.jsonfile import read_text
from longvideo_env.datasets.kinds import question_kind
from longvideo_env.errors import InputError, SpecError
from longvideo_env.game.matching import RIGHT_FROM_IOU, answer_scores
from longvideo_env.game.protocol.answers import read_answer
from longvideo_env.game.protocol.base import ANSWER
from longvideo_env.records.identity import name_some
from longvideo_env.records.trajectory import Trajectory, TurnRecord
from longvideo_env.schema import Task
from longvideo_env.spans import read_spans, write_spans

_FIX = 'Fix: give {"QID": "a3", ...}, or rows with qid and answer, as JSON, JSON Lines or CSV.'


def read_predictions(path: Path) -> dict[str, str]:
    """Answers by `str(qid)`, as in the file.

    Raises:
        DataError: The file cannot be read.
        InputError: It has another form, or an id twice.
    """
    text = read_text(path).lstrip("\ufeff")
    try:
        rows = _rows(text)
        pairs = [(str(row["qid"]).strip(), row["answer"]) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} has no answers by question ({error!r:.80}). {_FIX}") from error
    found: dict[str, str] = {}
    for qid, answer in pairs:
        if qid in found:
            raise InputError(f"{path} answers question {qid} twice. Fix: keep one of them.")
        found[qid] = "" if answer is None else str(answer).strip()
    if not found:
        raise InputError(f"{path} has no answer. {_FIX}")
    return found


def _rows(text: str) -> Sequence[Mapping[str, Any]]:
    if text.lstrip()[:1] not in ("{", "["):
        return list(csv.DictReader(io.StringIO(text)))
    try:
        value = json.loads(text)
    except ValueError:  # JSON Lines, or broken
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(value, list):
        return value
    if value.keys() >= {"qid", "answer"}:
        return [value]
    return [{"qid": qid, "answer": answer} for qid, answer in value.items()]


def choice_of(answer: str, options: Sequence[str]) -> int | None:
    """Index of the option that an answer names. None if it names no option, or several."""
    if len(answer) == 1 and answer.upper() in ascii_uppercase[: len(options)]:
        return ascii_uppercase.index(answer.upper())
    if answer.isascii() and answer.isdecimal() and len(answer) <= 2:
        return int(answer) if int(answer) < len(options) else None
    same = [i for i, option in enumerate(options) if option.strip().lower() == answer.lower()]
    if len(same) == 1:
        return same[0]
    read = read_answer(answer, options)
    return read if isinstance(read, int) else None


def episode_of(task: Task, answer: str | None, name: str) -> Trajectory:
    """An answer as an episode without turns."""
    question = task.question
    if question.ask is not None:
        return _episode_without_options(task, answer, name)
    choice = None if answer is None else choice_of(answer, question.options)
    known = task.gold.answer is not None
    return Trajectory(
        qid=task.qid,
        video_id=question.video_id,
        policy=name,
        sample=0,
        seed=0,
        status="out_of_turns" if choice is None else "answered",
        n_options=len(question.options),
        turns=(),
        segments=(),
        question=question.text,
        options=question.options,
        show=question.show,
        kind=question_kind(question.text),
        choice=choice,
        correct=bool(task.gold.is_right(choice)) if known else None,
    )


def _episode_without_options(task: Task, answer: str | None, name: str) -> Trajectory:
    """A free-text or time answer as an episode. The answer is the argument of its only turn."""
    question, said = task.question, answer or None
    if question.ask == WHEN and said is not None:
        spans = read_spans(said)
        said = None if isinstance(spans, str) else write_spans(spans)
    scores = answer_scores(said, task.gold)
    least = {"iou": RIGHT_FROM_IOU, "exact_match": 1.0}
    return Trajectory(
        qid=task.qid,
        video_id=question.video_id,
        policy=name,
        sample=0,
        seed=0,
        status="out_of_turns" if said is None else "answered",
        n_options=0,
        turns=() if said is None else (TurnRecord(1, ANSWER, said),),
        segments=(),
        question=question.text,
        show=question.show,
        kind=question_kind(question.text),
        correct=any(scores[key] >= least[key] for key in least if key in scores),
        ask=question.ask,
        answer_scores=scores,
    )


def score(
    dataset: Dataset, answers: Mapping[str, str], name: str, config: Mapping[str, Any], out: Path
) -> tuple[dict[str, Any], list[str]]:
    """Write the run. Returns its summary, and notes about the file.

    Raises:
        InputError: An id is not in the split, or the folder holds another run.
    """
    qids = {str(task.qid) for task in dataset}
    if unknown := [qid for qid in answers if qid not in qids]:
        raise InputError(
            f"{len(unknown):,} of {len(answers):,} ids are not in {dataset.name}, split "
            f"{dataset.split}: {name_some(unknown)}. Fix: give the split that was answered."
        )
    played = [episode_of(task, answers.get(str(task.qid)), name) for task in dataset]
    facts = question_facts(dataset)
    with RunStore(out, config, questions=questions_of(dataset)) as store:
        store.episodes.clear()
        for episode in played:
            store.add(episode)
        summary = {
            **config,
            "oracle": False,
            "leaky": False,
            "n_samples": 1,
            "shard": None,
            "coverage": dataset.coverage.as_json(),
            "groups": group_shares(facts, played),
            **summarize(played, len(played)),
            "wall_s": 0.0,
        }
        store.finish(summary, [(str(t.qid), 0) for t in played], facts)
    unread = [str(t.qid) for t in played if t.status != "answered" and str(t.qid) in answers]
    lines = []
    if missing := len(qids) - len(answers):
        lines.append(f"{missing:,} of {len(qids):,} questions have no answer and count as wrong")
    if unread:
        what = "name no option" if dataset[0].question.options else "cannot be read"
        lines.append(f"{len(unread):,} answers {what} and count as wrong: {name_some(unread)}")
    return summary, lines


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(prog="longvideo-env score", description=__doc__, tables=True)
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="The answers.")
    add("--dataset", required=True, help="A folder, a file, mini, hf:...")
    add("--split", default=DEFAULT_SPLIT, help="Split of the dataset.")
    add("--ask", choices=FORMS, default=CHOICE, help="Form of the answers. Default: choice.")
    add("--name", help="Name of the run. Default: the file's name.")
    add("--out", type=Path, required=True, metavar="DIR", help="The run's folder.")
    return parser


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    name = options.name or options.file.stem
    dataset = ask_as(load_dataset(options.dataset, options.split), options.ask)
    if not len(dataset):
        raise SpecError(f"no question of {options.dataset} can be asked as {options.ask}.")
    config = {
        "policy": name,
        "dataset": options.dataset,
        "split": options.split,
        "seed": 0,
        "grounding": "none",
        "vision": "none",
        **({} if options.ask == CHOICE else {"ask": options.ask}),
    }
    summary, lines = score(dataset, read_predictions(options.file), name, config, options.out)
    console: Console = output_console()
    print_table([summary], console)
    lines += dataset.coverage.lines() if options.ask != CHOICE else []
    for line in (
        *lines,
        *answer_lines(summary),
        *group_lines(summary),
        f"Episodes and summary: {options.out}",
    ):
        say(console, line)
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("score", lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
