"""Rebuilds the facts of a saved episode for reward terms."""

from __future__ import annotations

from dataclasses import replace

from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import ANSWER, Action
from longvideo_env.game.reward import Play
from longvideo_env.records.trajectory import Status, Trajectory


def replay(played: Trajectory, game: Game) -> Play:
    """The play of a trajectory. Its replies are parsed again by the game's protocol."""
    words = [s.written for s in played.segments if s.sampled]
    parsed = [game.protocol.parse(text, played.options) for text in words]
    choice, said = None, None
    if parsed and isinstance(last := parsed[-1].outcome, Action) and last.name == ANSWER:
        choice = last.choice if played.options else None
        said = None if played.options else last.argument
    status = _status(played.status, choice is not None or said is not None)
    return Play(
        status,
        choice,
        parsed,
        played.turns,
        played.visited,
        played.opened_at,
        words,
        said,
        played.judged,
        played.ask,
    )


def _status(was: Status, answered: bool) -> Status:
    if answered and was == "out_of_turns":
        return "answered"
    return "out_of_turns" if was == "answered" and not answered else was


def after_turn(play: Play, n_turns: int) -> Play:
    """The play as it was after `n_turns` turns. After the last turn, the play itself."""
    if n_turns >= len(play.parsed):
        return play
    visited = list(play.opened_at)
    for turn in play.turns[:n_turns]:
        visited += [clip for clip in turn.shown if clip not in visited]
    return replace(
        play,
        status="out_of_turns",
        choice=None,
        said=None,
        judged=None,
        parsed=play.parsed[:n_turns],
        turns=play.turns[:n_turns],
        visited=tuple(visited),
        replies=play.replies[:n_turns],
    )
