"""A transcript of an episode for people to read."""

from __future__ import annotations

import textwrap

from longvideo_env.game.episode import Episode
from longvideo_env.game.protocol.functions import FunctionProtocol
from longvideo_env.game.protocol.readable import readable
from longvideo_env.game.reward import Score

WIDTH = 88


def render_transcript(episode: Episode, result: Score | None = None) -> str:
    """Question, options, then each turn: what the master wrote and what came back.

    Args:
        episode: The episode; it may be unfinished.
        result: Its score, once it has ended.
    """
    question, video = episode.question, episode.video
    lines = [
        f"Question {question.qid} · video {video.video_id}, {len(video.clips)} clips",
        *_wrapped(question.text, "  "),
    ]
    form = episode.game.protocol.answers
    for i, option in enumerate(form.shown(question.options)):
        mark = "→" if episode.choice == i else " "
        lines += _wrapped(option, f"  {mark} {form.label(i)}  ")
    if episode.opened_at:
        lines.append(f"Opened {_opened_by(episode)}: {', '.join(episode.opened_at)}")
        lines += _conversation(episode)
    return "\n".join([*lines, *_ending(episode, result)])


def _opened_by(episode: Episode) -> str:
    if episode.first is None or episode.first.result is None:
        return "at its start"
    return f"by {episode.first.result['agent']}"


def _conversation(episode: Episode) -> list[str]:
    lines = []
    turn, before = 0, ""
    for message in episode.messages:
        if message["role"] == "system":
            continue
        if message["role"] == "assistant":
            turn += 1
            lines += ["", f"─ Turn {turn} of {episode.game.max_turns} ".ljust(WIDTH, "─")]
            reply = episode.replies[turn - 1]
            by_calls = episode.game.protocol.name == FunctionProtocol.name
            lines += _wrapped(readable(reply) if by_calls else reply, "  master │ ")
        elif turn and (message["role"] != "tool" or before != "tool"):  # calls have one result
            lines += _wrapped(message["content"], "         │ ")
        elif not turn:
            lines += _opening(episode)
        before = message["role"]
    return lines


def _opening(episode: Episode) -> list[str]:
    """The first view, from the fields of the opening. Question and options are printed above."""
    lines = []
    for clip_id in episode.opened_at:
        lines += [f"  [{clip_id}]"]
        for line in episode.video[clip_id].subtitles:
            lines += _wrapped(line.text, "    ")
    return lines


def _ending(episode: Episode, result: Score | None) -> list[str]:
    if episode.status is None:
        return ["", f"({episode.turns_left} turns left)"]
    label = episode.game.protocol.answers.label(episode.choice or 0)
    words = {
        "answered": f"Answered {episode.words or label}",
        "out_of_turns": "Out of turns, no answer",
        "out_of_context": "Out of context, no answer",
        "out_of_budget": "Out of budget, no answer",
        "failed": f"Failed: {episode.error}",
    }[episode.status]
    if result is not None and result.correct is not None:
        words += ": right" if result.correct else ": wrong"
    if result is not None and result.reward is not None:
        terms = ", ".join(f"{name} {value:.3g}" for name, value in result.terms.items())
        words += f" · reward {result.reward:.3g} ({terms})"
    return ["", words]


def _wrapped(text: str, head: str) -> list[str]:
    """Wrapped lines. `head` is put before the first line, or before every line if it is a bar."""
    rest = "         │ " if "│" in head else " " * len(head)
    lines: list[str] = []
    for paragraph in text.strip().splitlines() or [""]:
        lines += textwrap.wrap(paragraph, WIDTH - len(head)) or [""]
    return [(head if i == 0 else rest) + line for i, line in enumerate(lines)]
