"""Prints an episode about a film for people, with times of the film."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.evidence import Cited, film_lines
from agents.perception.embeddings import Embedder
from agents.policies.quoting import NOTHING, own_stems
from longvideo_env.game.protocol.functions import FunctionProtocol
from longvideo_env.game.protocol.readable import spoken
from longvideo_env.records.trajectory import Trajectory, TurnRecord
from longvideo_env.schema import TimedText, Video, clock

_WIDTH = 100
_TAG = re.compile(r"</?[A-Za-z_][^<>]*>")
NO_LINE = "no line that speaks of the question names it"
_FLOOR = "a floor, not an answer"
_KINDS = {
    "quote": f"offline, counts words: {_FLOOR}",
    "quote:": f"offline, compares meanings: {_FLOOR}",
    "scripted": f"offline, counts words: {_FLOOR}",
    "random": f"draws at random: {_FLOOR}",
    "teacher": f"a script for the procedural world: {_FLOOR}",
}


def answerer(policy: str) -> str:
    """A policy with a note on its kind: `quote (offline, counts words: a floor, ...)`."""
    name, colon, _ = policy.partition(":")
    own = "a language model" if name in ("hf", "vllm", "openai") else "a policy of your own"
    kind = _KINDS.get(name + colon) or _KINDS.get(name) or own
    return f"{name if name in _KINDS else policy} ({kind})"


def is_floor(policy: str) -> bool:
    """Whether a policy is a floor, without any understanding."""
    return policy.partition(":")[0] in _KINDS


def trace(
    trajectory: Trajectory, video: Video, options: Sequence[str], embedder: Embedder | None = None
) -> Iterator[str]:
    """The lines of the episode; at the end the answer and its evidence."""
    yield f"{video.video_id}: {len(video.clips)} clips, {place(video, video.clip_ids)}"
    yield f"answered by {answerer(trajectory.policy)}"
    if trajectory.first is not None and trajectory.first.result is not None:
        yield f"opened by {trajectory.first.result['agent']}"
    yield "── start " + "─" * 40
    yield from _block("      ", f"Question: {trajectory.question}")
    for i, option in enumerate(options):
        yield from _block("      ", f"a{i}: {option}")
    yield from _shown(video, trajectory.opened_at)
    for turn in trajectory.turns:
        yield f"── turn {turn.turn} " + "─" * 40
        mine = [s for s in trajectory.segments if s.turn == turn.turn and s.sampled]
        by_calls = trajectory.protocol == FunctionProtocol.name
        said = "".join(spoken(s.written) if by_calls else s.prefix + s.text for s in mine)
        yield from _block("master", _without_tags(said, turn))
        yield from _came_back(turn, video)
    yield ""
    yield from outcome(trajectory, video, options, embedder)


def _without_tags(said: str, turn: TurnRecord) -> str:
    """The master's text and action, in plain words."""
    lines = [line.strip() for line in _TAG.sub("\n", said).splitlines()]
    written = (turn.argument or "").strip()
    kept = [line for line in lines if line and line != written]
    if turn.action is not None and (written or not kept):
        kept.append(f"{turn.action}: {written}" if written else turn.action)
    return "\n".join(kept)


def _came_back(turn: TurnRecord, video: Video) -> Iterator[str]:
    """The result of a turn: a tool's text, new clips, or what was wrong."""
    result = turn.result or {}
    details = result.get("details") or {}
    if turn.malformed:
        yield from _block("      ", f"not counted: {turn.malformed.replace('_', ' ')}")
    elif result.get("error"):
        yield from _block("      ", f"failed: {result['error']}")
    elif details.get("captions"):
        for clip_id, start_s, end_s, text in details["captions"]:
            yield from _block("      ", timed(video, clip_id, TimedText(text, start_s, end_s)))
    elif result.get("text"):
        yield from _block("      ", _TAG.sub("", result["text"]))
    if details.get("n_frames"):
        yield from _block("      ", f"({details['n_frames']} frames were looked at)")
    yield from _shown(video, turn.shown)


def _shown(video: Video, clip_ids: Sequence[str]) -> Iterator[str]:
    """Clips with their lines, in the film's time."""
    for clip_id in clip_ids:
        yield from _block("      ", f"[{clip_id}, {place(video, [clip_id])}]")
        for line in video[clip_id].subtitles:
            yield from _block("      ", timed(video, clip_id, line))


def timed(video: Video, clip_id: str, line: TimedText) -> str:
    """A line with its time in the film, if known."""
    start_s = video[clip_id].start_s
    if start_s is None or line.start_s is None:
        return line.text
    end_s = None if line.end_s is None else f"-{clock(start_s + line.end_s)}"
    return f"[{clock(start_s + line.start_s)}{end_s or ''}] {line.text}"


def outcome(
    trajectory: Trajectory, video: Video, options: Sequence[str], embedder: Embedder | None = None
) -> Iterator[str]:
    """The answer, its evidence, and the clips that were searched."""
    words = answer_of(trajectory, options)
    if words is None:
        yield f"no answer: {trajectory.status.replace('_', ' ')}" + (
            f" ({trajectory.error})" if trajectory.error else ""
        )
        return
    found = finding(trajectory, video, options, embedder)
    guess = ""
    if options and not found.names:
        guess = f" (a guess: {NO_LINE if found.speaks else NOTHING})"
    quotes = trajectory.policy.partition(":")[0] in _KINDS
    said = NOTHING if quotes and not options and not found.speaks else words
    yield f"answer: {said}{guess}"
    if found.speaks and found.line is not None:
        yield f"  {cited(video, found.line)}"
    elif not options and found.line is not None and quotes:
        nearest = cited(video, found.line)
        yield f"  the nearest line, which may have nothing to do with it: {nearest}"
    elif not options and not quotes:
        yield "  no line that was read speaks of the question"
    yield f"  looked at {', '.join(place(video, [c], '') for c in trajectory.visited)} of the film"


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence for an answer.

    Attributes:
        line: The line read that matches the question best, or None.
        speaks: Whether the match is above the threshold.
        names: Whether the line names the chosen option.
    """

    line: Cited | None
    speaks: bool
    names: bool


def finding(
    trajectory: Trajectory, video: Video, options: Sequence[str], embedder: Embedder | None = None
) -> Finding:
    """Find the evidence for an answer."""
    lines = film_lines(video, embedder)
    near = next(iter(lines.best(trajectory.question, trajectory.visited)), None)
    speaks = near is not None and near.score >= lines.threshold
    named = naming_line(trajectory, video, options, embedder) if options else None
    return Finding(named or near, speaks, named is not None)


def answer_of(trajectory: Trajectory, options: Sequence[str]) -> str | None:
    """The answer as text, with the label of its option. None if there is no answer."""
    if trajectory.status != "answered":
        return None
    if trajectory.choice is not None and options:
        return f"a{trajectory.choice}, {options[trajectory.choice]}"
    return trajectory.turns[-1].argument or ""


def naming_line(
    trajectory: Trajectory,
    video: Video,
    options: Sequence[str],
    embedder: Embedder | None = None,
) -> Cited | None:
    """The line read that matches the question and names the chosen option, or None."""
    if trajectory.choice is None:
        return None
    lines = film_lines(video, embedder)
    asked = lines.scores(trajectory.question)
    own = lines.shares(own_stems(trajectory.question, options)[trajectory.choice])
    visited = set(trajectory.visited)
    there = [
        Cited(*lines.placed[i], float(asked[i] * own[i]))
        for i in range(len(asked))
        if lines.placed[i][0] in visited and asked[i] >= lines.threshold and own[i] > 0
    ]
    return max(there, key=lambda one: one.score, default=None)


def cited(video: Video, found: Cited) -> str:
    """`01:15 He found the old key!`, or with the clip's id if times are unknown."""
    start_s = video[found.clip_id].start_s
    if start_s is None or found.line.start_s is None:
        return f"{found.clip_id}: {found.line.text}"
    return f"{clock(start_s + found.line.start_s)} {found.line.text}"


def place(video: Video, clip_ids: Sequence[str], of: str = " of the film") -> str:
    """The times of clips in the film, as text."""
    start, end = video[clip_ids[0]].start_s, video[clip_ids[-1]].end_s
    if start is None or end is None:
        return clip_ids[0] if not of else "time unknown"
    return f"{clock(start)}-{clock(end)}{of}"


def _block(who: str, text: str) -> Iterator[str]:
    for line in text.strip().splitlines():
        for part in textwrap.wrap(line, _WIDTH - len(who) - 3) or [""]:
            yield f"{who} │ {part}"
            who = " " * len(who)
