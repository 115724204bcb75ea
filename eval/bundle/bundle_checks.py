"""Check the figures of a bundle against its episodes, and the episodes against their material."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from eval.bundle.cleaning import LEFT_OUT
from eval.bundle.contents import Bundle, digest_of, hash_of
from eval.bundle.figures import UNCHECKED, different, figures_of, paper_tables, table_files
from eval.bundle.material_checks import BundleFindings, OpenedRun, check_material
from eval.metrics.benchmark_groups import group_shares, question_facts
from eval.metrics.pairs import Run
from eval.rescore import Scorer, difference
from eval.runs.store import CONFIG, EPISODES, IDENTITY, QUESTIONS, SUMMARY
from longvideo_env import EnvConfig
from longvideo_env.config import PROTOCOLS
from longvideo_env.datasets.altered import PREFIX
from longvideo_env.datasets.forms import open_questions
from longvideo_env.errors import InputError, LongVideoEnvError, SpecError, TrajectoryError
from longvideo_env.game.game import Game
from longvideo_env.game.replay import replay
from longvideo_env.game.words.templates import default_text
from longvideo_env.records.identity import short_hash
from longvideo_env.records.trajectory import Trajectory

_ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""Errors from values whose types a run does not write."""
_SHOWN = 50


def runs_of(bundle: Bundle) -> dict[str, tuple[Run, dict[str, Any]]]:
    """The runs of a bundle and their summaries, by name.

    Raises:
        InputError: A file of a run is missing or cannot be read.
    """
    found = {}
    for entry in bundle.runs:
        place = f"runs/{entry['name']}"
        try:
            # Not splitlines(): a text may contain other line separators.
            lines = bundle.files[f"{place}/{EPISODES}"].decode().rstrip("\n").split("\n")
            episodes = [Trajectory.from_json(line) for line in lines]
            loaded = {
                name: json.loads(bundle.files[f"{place}/{name}"])
                for name in (CONFIG, SUMMARY, QUESTIONS)
            }
            if not all(isinstance(value, dict) for value in loaded.values()):
                raise ValueError("a file is not a JSON object")
            keys = [(str(t.qid), t.sample) for t in episodes]
            if len(set(keys)) < len(keys):
                raise ValueError("an episode occurs twice")
        except (*_ODD, TrajectoryError) as error:
            raise InputError(f"{place} cannot be read: {error}") from error
        run = Run(
            Path(place), loaded[CONFIG], dict(zip(keys, episodes, strict=True)), loaded[QUESTIONS]
        )
        found[str(entry["name"])] = run, loaded[SUMMARY]
    return found


def check_bundle(bundle: Bundle, *, dataset: str | None = None) -> BundleFindings:
    """Check everything in a bundle that can be checked on this machine.

    Args:
        bundle: The bundle.
        dataset: Path of the dataset, if it is not at the path that the runs name.
    """
    findings = BundleFindings()
    _check_hashes(bundle, findings)
    try:
        runs = runs_of(bundle)
    except SpecError as error:
        findings.differs.append(str(error))
        return findings
    with opened_runs(bundle, runs, dataset) as opened:
        for one in opened:
            for check in (_check_figures, _check_selection, _check_replies, check_material):
                before = len(findings.differs)
                try:
                    what = check(one, findings)
                except (*_ODD, LongVideoEnvError) as error:
                    findings.differs.append(
                        f"{one.name}: a file holds values that no run writes ({error!r:.200})"
                    )
                    continue
                if what and len(findings.differs) == before:
                    findings.checked.append(f"{one.name}: {what}")
    _check_words(bundle, runs, findings)
    _check_tables(bundle, runs, findings)
    return findings


@contextmanager
def opened_runs(
    bundle: Bundle, runs: Mapping[str, tuple[Run, Mapping[str, Any]]], dataset: str | None
) -> Iterator[list[OpenedRun]]:
    """The runs, with their datasets and games if these exist on this machine."""
    with tempfile.TemporaryDirectory(prefix="longvideo-") as folder:
        yield [
            _open(bundle, entry, *runs[entry["name"]], dataset, Path(folder))
            for entry in bundle.runs
        ]


def _open(
    bundle: Bundle,
    entry: Mapping[str, Any],
    run: Run,
    summary: Mapping[str, Any],
    dataset: str | None,
    folder: Path,
) -> OpenedRun:
    name, config, game = str(entry["name"]), None, None
    try:
        known = {item.name for item in fields(EnvConfig)}
        config = EnvConfig.from_mapping({k: v for k, v in run.config.items() if k in known})
        words = bundle.files.get(str(entry.get("words")))
        if config.prompts and words is not None:
            path = folder / f"{short_hash(str(entry['words']))}.jinja"
            path.write_bytes(words)
            config = replace(config, prompts=str(path))
        here = dataset or config.dataset
        if dataset and config.dataset.startswith(PREFIX):
            here = f"{config.dataset.partition('@')[0]}@{dataset}"
        config = replace(config, dataset=here, frames_root=None, skip_invalid=True)
        game = Game.from_config(config)
        data = open_questions(config, skip_invalid=True)
    except (*_ODD, LongVideoEnvError) as error:
        return OpenedRun(name, run, summary, config, None, game, str(error))
    return OpenedRun(name, run, summary, config, data, game, "")


def _check_hashes(bundle: Bundle, findings: BundleFindings) -> None:
    listed: Mapping[str, Any] = bundle.manifest["files"]
    before = len(findings.differs)
    if bundle.manifest.get("digest") != digest_of(bundle.manifest):
        findings.differs.append("manifest.json: its digest does not match its content")
    for name in sorted({*listed, *bundle.files}):
        if name not in bundle.files:
            findings.differs.append(f"{name} is missing")
        elif name not in listed:
            findings.differs.append(f"{name} is not in the manifest")
        elif listed[name] != {
            "sha256": hash_of(bundle.files[name]),
            "bytes": len(bundle.files[name]),
        }:
            findings.differs.append(f"{name}: its hash differs from the manifest's")
    for entry in bundle.runs:
        words = entry.get("words")
        if words is not None and words not in bundle.files:
            findings.differs.append(f"{entry['name']}: {words} is missing")
    if len(findings.differs) == before:
        findings.checked.append(f"the hashes of {len(listed)} files")


def _check_words(
    bundle: Bundle, runs: Mapping[str, tuple[Run, dict[str, Any]]], findings: BundleFindings
) -> None:
    """Check that default words are this release's. Custom words are checked by their hash."""
    for entry in bundle.runs:
        config = runs[entry["name"]][0].config
        words = bundle.files.get(str(entry.get("words")))
        protocol = config.get("protocol")
        default = default_text(protocol if protocol in PROTOCOLS else "tags")
        if words is None or config.get("prompts") or words == default.encode():
            continue
        identity = config.get(IDENTITY)
        made_with = identity.get("version") if isinstance(identity, dict) else None
        if made_with == version("longvideo-env"):
            findings.differs.append(f"{entry['words']}: not the words of version {made_with}")
        else:
            findings.unchecked.append(f"{entry['words']}: the words of version {made_with}")


def _check_figures(one: OpenedRun, findings: BundleFindings) -> str:
    try:
        now = figures_of(one.run, one.summary)
    except (KeyError, TypeError, ValueError) as error:
        findings.differs.append(f"{one.name}: its figures cannot be computed ({error!r})")
        return ""
    there = {name: value for name, value in one.summary.items() if name in now}
    absent = [name for name in now if name not in there]
    if absent:  # figures of a newer release
        findings.unchecked.append(f"{one.name}: {', '.join(absent)}: not in its summary")
    now = {name: now[name] for name in there}
    findings.differs += [f"{one.name}: {what}" for what in different(there, now)]
    findings.unchecked += [
        f"{one.name}: {name}: episodes do not hold it" for name in UNCHECKED if name in one.summary
    ]
    return f"{len(now)} figures from {len(one.run.episodes):,} episodes"


def _check_selection(one: OpenedRun, findings: BundleFindings) -> str:
    """Check that the episodes are the requested ones."""
    asked = one.summary.get("n_asked")
    policies = {t.policy for t in one.run.episodes.values()} | {one.run.config.get("policy")}
    named = sorted({str(one.summary.get("policy")), *map(str, policies)})
    if len(named) > 1:
        findings.differs.append(f"{one.name}: it names several policies: {', '.join(named)}")
    if asked is None:
        findings.unchecked.append(
            f"{one.name}: the requested questions: an earlier release did not record them"
        )
        return ""
    samples = one.summary.get("n_samples")
    if not isinstance(samples, int) or asked != one.summary.get("n_questions", 0) * samples:
        findings.differs.append(
            f"{one.name}: n_asked is not n_questions times n_samples in its summary"
        )
        return ""
    if one.summary.get("stopped"):
        findings.unchecked.append(
            f"{one.name}: {asked - len(one.run.episodes):,} of {asked:,} episodes were not played: "
            f"{one.summary['stopped']}"
        )
        return ""
    if asked != len(one.run.episodes):
        findings.differs.append(
            f"{one.name}: {len(one.run.episodes):,} episodes, but {asked:,} were requested"
        )
        return ""
    if one.summary.get("shard"):
        return f"all {asked:,} episodes of its shard are present"
    qids = list(dict.fromkeys(qid for qid, _ in one.run.episodes))
    if short_hash("\n".join(qids)) != one.summary["selection"]["ids"]:
        findings.differs.append(f"{one.name}: the episodes are not of the requested questions")
    return f"all {asked:,} requested episodes are present"


def _check_replies(one: OpenedRun, findings: BundleFindings) -> str:
    """Check choices against the replies, and rewards against the gold answers."""
    if one.game is None or one.config is None:
        findings.unchecked.append(f"{one.name}: answers and rewards: {one.problem}")
        return ""
    if one.dataset is None:
        for t in one.run.episodes.values():
            play = replay(t, one.game)
            if t.status != "failed" and (play.choice, play.status) != (t.choice, t.status):
                findings.differs.append(
                    f"{one.name}: question {t.qid}: the replies choose {play.choice}, not "
                    f"{t.choice}"
                )
        findings.unchecked.append(f"{one.name}: rewards, and the questions: {one.problem}")
        return "answers, from the replies"
    scorer = Scorer(one.dataset, one.config, one.game)
    for t in one.run.episodes.values():
        findings.differs += [f"{one.name}: {what}" for what in _reply_problems(scorer, t)]
    if one.dataset.tasks and one.summary.get("groups"):
        groups = group_shares(question_facts(one.dataset.tasks), list(one.run.episodes.values()))
        plain = json.loads(json.dumps(groups))
        for what in different(one.summary["groups"], plain, "groups"):
            findings.differs.append(f"{one.name}: {what}")
    return "questions, answers and rewards, episode by episode"


def _reply_problems(scorer: Scorer, t: Trajectory) -> Iterator[str]:
    try:
        change = difference(t, scorer.rescore(t))
        task = scorer.dataset.task(t.qid)
        if t.option_order is not None:
            task = task.reorder(t.option_order)
    except (LongVideoEnvError, ValueError) as error:
        yield f"question {t.qid}: {error}"
        return
    if change is not None:
        yield f"{change}, computed again"
    question = task.question
    for name, was, now in (
        ("text", t.question, question.text),
        ("options", t.options, question.options),
        ("video", t.video_id, question.video_id),
        ("show", t.show, question.show),
    ):
        if was != now:
            yield f"question {t.qid}: its {name} is {now!r:.60} in the dataset, not {was!r:.60}"


def _check_tables(
    bundle: Bundle, runs: Mapping[str, tuple[Run, dict[str, Any]]], findings: BundleFindings
) -> None:
    titles = {str(entry.get("title")): runs[entry["name"]] for entry in bundle.runs}
    try:
        now = table_files(
            paper_tables(
                {title: run for title, (run, _) in titles.items()},
                {title: summary for title, (_, summary) in titles.items()},
            )
        )
    except (*_ODD, LongVideoEnvError) as error:
        findings.differs.append(f"the tables cannot be computed ({error!r})")
        return
    wrong = [name for name in now if bundle.files.get(name) != now[name]]
    findings.differs += [f"{name} is not the table of these episodes" for name in wrong]
    if not wrong:
        findings.checked.append("the tables in Markdown and LaTeX")


def texts_left_out(t: Trajectory) -> bool:
    """Whether an episode was bundled without the shown texts."""
    return any(segment.text.startswith(LEFT_OUT) for segment in t.segments)


def print_findings(findings: BundleFindings, console: Console) -> None:
    """Print what was checked, what could not be checked, and what differs."""
    for head, lines in (
        ("checked", findings.checked),
        ("not checked", findings.unchecked),
        ("differs", findings.differs),
    ):
        for line in _short(lines):
            console.print(f"{head}: {line}", highlight=False, markup=False, soft_wrap=True)


def _short(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"and {more:,} more (--json FILE has all)"] if more > 0 else [*lines]
