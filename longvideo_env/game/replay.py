"""What happened in an episode that was kept, as reward terms see it."""

from __future__ import annotations

from dataclasses import replace

from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import Action
from longvideo_env.game.reward import Play
from longvideo_env.records.trajectory import Trajectory


def replay(played: Trajectory, game: Game) -> Play:
    """The play of a trajectory, with its replies read again by the game's protocol."""
    words = [s.written for s in played.segments if s.sampled]
    parsed = [game.protocol.parse(text, played.options) for text in words]
    choice = None
    if parsed and isinstance(parsed[-1].outcome, Action):
        choice = parsed[-1].outcome.choice
    status = played.status
    if not played.options:
        pass  # an answer in words names no option
    elif choice is not None and status == "out_of_turns":
        status = "answered"
    elif choice is None and status == "answered":
        status = "out_of_turns"
    return Play(status, choice, parsed, played.turns, played.visited, played.opened_at, words)


def after_turn(play: Play, n_turns: int) -> Play:
    """What had happened after so many turns: of a play's last turn, the play itself."""
    if n_turns >= len(play.parsed):
        return play
    visited = list(play.opened_at)
    for turn in play.turns[:n_turns]:
        visited += [clip for clip in turn.shown if clip not in visited]
    return replace(
        play,
        status="out_of_turns",
        choice=None,
        parsed=play.parsed[:n_turns],
        turns=play.turns[:n_turns],
        visited=tuple(visited),
        replies=play.replies[:n_turns],
    )
