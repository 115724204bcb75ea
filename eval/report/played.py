"""Episodes as the page needs them: a short row for lists and filters, and the whole trace."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from eval.metrics.cost import Cost, episode_cost
from eval.report.folders import SavedEpisode
from eval.report.thumbs import Thumbs
from longvideo_env.game.protocol.functions import FunctionProtocol
from longvideo_env.game.protocol.readable import spoken
from longvideo_env.records.trajectory import Trajectory, written_as
from longvideo_env.schema import Video

MAX_TEXT = 400_000
"""The most characters of one text on the page."""

_CLOSING_TAG = re.compile(r"</?(\w+)\s*/?>\s*\Z")
_KNOWN_TURN = {
    "turn",
    "action",
    "argument",
    "moves",
    "malformed",
    "request",
    "result",
    "finish",
    "shown",
}
_KNOWN_RESULT = {"agent", "text", "view", "error", "details"}
_FRAME_KEYS = {"frames", "frame_paths"}


def row_of(
    episode: SavedEpisode, run: int, question: int, clips: Sequence[str], advantage: float | None
) -> dict[str, Any]:
    """An episode's row for lists and filters. Clips are indices in the question's list."""
    played = episode.trajectory
    cost = episode_cost(episode.record)
    order = played.option_order
    choice = played.choice
    row = {
        "run": run,
        "q": question,
        "id": key_of(episode),
        "status": played.status,
        "correct": played.correct,
        "grounded": played.grounded,
        "first": played.grounded_first,
        # The page shows options in the dataset's order, not in this episode's.
        "choice": order[choice] if order and choice is not None else choice,
        "said": None if played.said is None else played.said[:240],
        "turns": played.n_turns,
        "looks": sum(turn.looks for turn in played.turns),
        "grounds": sum(turn.moves for turn in played.turns),
        "bad": sum(turn.malformed is not None for turn in played.turns),
        "toolfail": sum(bool((turn.result or {}).get("error")) for turn in played.turns),
        "reward": _short(played.reward),
        "adv": _short(advantage),
        "step": episode.step,
        "sample": played.sample,
        "unused": (episode.record.get("rollout") or {}).get("unused"),
        "visited": _places(played.visited, clips),
        "seconds": _short(cost.seconds),
        "tokens": cost.tokens,
        "usd": _short(cost.usd),
    }
    return {key: value for key, value in row.items() if value is not None}


def key_of(episode: SavedEpisode) -> str:
    """The name of an episode in links to its run."""
    played = episode.trajectory
    parts = [str(played.qid), str(played.sample)]
    if episode.step is not None:
        parts.insert(0, str(episode.step))
    if episode.play:
        parts.append(str(episode.play))
    return "~".join(parts)


def trace_of(
    episode: SavedEpisode, clips: Sequence[str], video: Video | None, thumbs: Thumbs
) -> dict[str, Any]:
    """The whole of an episode, turn by turn.

    Args:
        episode: The episode.
        clips: The known clips of its video, in order.
        video: Its video, or None if the dataset could not be read.
        thumbs: Makes thumbnails of the frames.
    """
    record, played = episode.record, episode.trajectory
    segments = record["segments"]
    rules = ("system", "tools")
    opening = "".join(s["text"] for s in segments if s["turn"] == 0 and s["role"] not in rules)
    first = record.get("first")
    of_turn = partial(_pictures, segments, video, clips, thumbs)
    trace: dict[str, Any] = {
        "system": "\n".join(s["text"] for s in segments if s["role"] in rules),
        "opening": _bounded(opening),
        "opened": _places(played.opened_at, clips),
        "first": None if first is None else _tool(first),
        "turns": [
            _turn(turn, segments, clips, of_turn(turn), played.protocol) for turn in record["turns"]
        ],
        "error": record.get("error"),
        "order": record.get("option_order"),
        "terms": record.get("reward_terms") or {},
        "answer": _answer(played),
        "timings": record.get("timings") or {},
        "cost": _cost(episode_cost(record)),
        "prompt_tokens": _count(s for s in segments if not s["sampled"]),
        "seed": str(record.get("seed")),
    }
    if seen := thumbs.of_master([s for s in segments if s["turn"] == 0], video, clips):
        trace["seen"] = seen
    return trace


def _pictures(
    segments: Sequence[Mapping[str, Any]],
    video: Video | None,
    clips: Sequence[str],
    thumbs: Thumbs,
    turn: Mapping[str, Any],
) -> dict[str, Any]:
    """The frames that the vision agent saw, and those that the master saw."""
    mine = [segment for segment in segments if segment["turn"] == turn["turn"]]
    return {
        "frames": thumbs.of_turn(turn, video, clips),
        "seen": thumbs.of_master(mine, video, clips),
    }


def _answer(played: Trajectory) -> dict[str, str]:
    """The scores of an answer without options, and a judge's verdict."""
    found = {name: f"{value:.3f}" for name, value in played.answer_scores.items()}
    if (judged := played.judged) is not None:
        votes = ", ".join("unread" if v is None else str(v) for v in judged.votes)
        verdict = {True: "right", False: "wrong", None: f"no verdict: {judged.error}"}
        found["judge"] = f"{verdict[judged.right]} ({judged.judge}; votes {votes or 'none'})"
    return found


def _turn(
    turn: Mapping[str, Any],
    segments: Sequence[Mapping[str, Any]],
    clips: Sequence[str],
    pictures: dict[str, Any],
    protocol: str,
) -> dict[str, Any]:
    number = turn["turn"]
    mine = [segment for segment in segments if segment["turn"] == number]
    # The template's opening of the reply is part of it and precedes the sampled part.
    words = "".join(s["text"] for s in mine if s["sampled"])
    read = "".join(written_as(s.get("message"), s["text"]) for s in mine if s["sampled"])
    seen = "".join(s["text"] for s in mine if not s["sampled"] and s["role"] != "assistant")
    result = turn.get("result") or {}
    thought = _before_action(read, protocol) if turn.get("malformed") is None else None
    record = {
        "n": number,
        "words": _bounded(words if thought is None else thought),
        "written": _bounded(words) if thought is not None else None,
        "action": turn.get("action"),
        "arg": _bounded(turn["argument"]) if turn.get("argument") else None,
        "bad": turn.get("malformed"),
        "finish": turn.get("finish"),
        "obs": _bounded(seen),
        "tool": _tool(turn) if turn.get("request") or result else None,
        "shown": _places(turn.get("shown") or (), clips) or None,
        "looked": None
        if turn.get("moves")
        else _places((turn.get("request") or {}).get("view") or (), clips),
        **pictures,
        "tokens": _count(s for s in mine if s["sampled"]),
        "more": _plain({k: v for k, v in turn.items() if k not in _KNOWN_TURN | _FRAME_KEYS}),
    }
    return {key: value for key, value in record.items() if value not in (None, [], "", {})}


def _tool(turn: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a tool call, in plain values."""
    result = turn.get("result") or {}
    details = {k: v for k, v in (result.get("details") or {}).items() if k not in _FRAME_KEYS}
    extra = {k: v for k, v in result.items() if k not in _KNOWN_RESULT | _FRAME_KEYS}
    tool = {
        "agent": result.get("agent"),
        "value": _bounded(str(result.get("view") or result.get("text") or "")) or None,
        "error": result.get("error"),
        "more": _plain({**details, **extra}),
    }
    return {key: value for key, value in tool.items() if value}


def _before_action(words: str, protocol: str) -> str | None:
    """The text beside the action of a well-formed reply. None if no action is found."""
    if protocol == FunctionProtocol.name:
        return spoken(words)
    closing = _CLOSING_TAG.search(words)
    if closing is None:
        return None
    start = words.rfind(f"<{closing[1]}", 0, closing.start())
    return words[: closing.start() if start < 0 else start]


def _places(ids: Sequence[str], clips: Sequence[str]) -> list[int]:
    places = {clip: i for i, clip in enumerate(clips)}
    return [places[clip] for clip in ids if clip in places]


def _bounded(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n[… {len(text) - MAX_TEXT:,} more characters are left out]"


def _plain(values: Mapping[str, Any]) -> list[list[str]]:
    """Other recorded values, as names and short texts."""
    return [
        [str(key), f"{value:.4g}" if isinstance(value, float) else str(value)[:300]]
        for key, value in values.items()
        if value is not None
    ]


def _count(segments: Any) -> int | None:
    known = [segment["n_tokens"] for segment in segments if segment["n_tokens"] is not None]
    return sum(known) if known else None


def _cost(cost: Cost) -> dict[str, float]:
    parts = {"tokens": cost.tokens, "usd": cost.usd, "seconds": _short(cost.seconds)}
    return {key: value for key, value in parts.items() if value is not None}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
