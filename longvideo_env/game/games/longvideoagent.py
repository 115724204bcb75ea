"""The game of LongVideoAgent (arXiv 2512.20618): look, ground, answer."""

from __future__ import annotations

from longvideo_env.game.game import GameSpec

GAME = GameSpec(
    tools=("look", "ground"),
    opening="ground",
    protocol="tags",
    prompts=None,
    max_turns=5,
    window=1,
    tags="reference",
    instructions=True,
    reward="paper",
)
