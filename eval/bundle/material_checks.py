"""The input and findings of a bundle's check, and the check of its hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eval.metrics.pairs import Run
from eval.runs.identify import identify, questions_of
from eval.runs.store import IDENTITY
from longvideo_env import Dataset, EnvConfig
from longvideo_env.errors import LongVideoEnvError
from longvideo_env.game.game import Game
from longvideo_env.records.identity import PARTS, changed_questions, digest_questions

_OF_THIS_MACHINE = ("endpoint", "version", "draw")
"""Parts of an identity that may differ on another machine, or that no material decides."""


@dataclass
class BundleFindings:
    """The result of a check.

    Attributes:
        differs: Checks that failed.
        checked: Checks that passed.
        unchecked: What could not be checked on this machine, and why.
    """

    differs: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OpenedRun:
    """A run of a bundle, ready to be checked.

    Attributes:
        name: Its name in the bundle.
        run: Its episodes and configuration.
        summary: Its `summary.json`.
        config: Its environment. None if it cannot be set up on this machine.
        dataset: Its questions. None if they are not on this machine.
        game: Its game. None if it cannot be set up.
        problem: Why one of these is missing.
    """

    name: str
    run: Run
    summary: Mapping[str, Any]
    config: EnvConfig | None
    dataset: Dataset | None
    game: Game | None
    problem: str


def check_material(one: OpenedRun, findings: BundleFindings) -> str:
    """Check the hashes of data, words and weights against those on this machine."""
    identity = one.run.config.get(IDENTITY)
    if not isinstance(identity, dict):
        findings.unchecked.append(f"{one.name}: its material: an earlier release kept no hashes")
        return ""
    _check_questions_file(one, identity, findings)
    if one.dataset is None or one.config is None:
        findings.unchecked.append(f"{one.name}: hashes of data, words and weights: {one.problem}")
        return ""
    now = questions_of(one.dataset)
    shown, gold = changed_questions(one.run.questions, now, {qid for qid, _ in one.run.episodes})
    for qids, what in ((shown, "text or options"), (gold, "answer")):
        findings.differs += [
            f"{one.name}: question {qid}: its {what} is not the one that was played" for qid in qids
        ]
    try:
        parts = identify(str(one.run.config.get("policy")), one.config, one.dataset).parts
    except LongVideoEnvError as error:
        findings.unchecked.append(f"{one.name}: hashes of words, weights and code: {error}")
        return ""
    same = _compare_parts(one, identity, parts, findings)
    if identity.get("version") != parts["version"]:
        findings.unchecked.append(
            f"{one.name}: it was played with version {identity.get('version')} and is checked with "
            f"{parts['version']}"
        )
    return f"hashes of {', '.join(same)}"


def _check_questions_file(
    one: OpenedRun, identity: Mapping[str, Any], findings: BundleFindings
) -> None:
    if not one.run.questions:
        return
    try:
        digests = digest_questions(one.run.questions)
    except (TypeError, ValueError):
        digests = {}
    findings.differs += [
        f"{one.name}: questions.json does not fit the hash of {PARTS[part]}"
        for part in ("questions", "answers")
        if digests.get(part) != identity.get(part)
    ]


def _compare_parts(
    one: OpenedRun, identity: Mapping[str, Any], parts: Mapping[str, str], findings: BundleFindings
) -> list[str]:
    """The names of the parts whose hashes match. Other parts are added to the findings."""
    same = []
    for name in [name for name in identity if name not in _OF_THIS_MACHINE]:
        called = PARTS.get(name, name)
        if name not in parts:
            findings.unchecked.append(f"{one.name}: {called}: not on this machine")
        elif parts[name] != identity[name]:
            findings.differs.append(f"{one.name}: {called}: its hash differs on this machine")
        else:
            same.append(called)
    findings.unchecked += [
        f"{one.name}: {PARTS[name]}: the run has no hash of it"
        for name in parts
        if name not in identity and name not in _OF_THIS_MACHINE
    ]
    return same
