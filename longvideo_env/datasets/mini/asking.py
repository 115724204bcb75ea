"""Questions of the mini world, as rows in the layout of LongTVQA+.

Wrong options are drawn from values of the right option's type, so the question's text alone does
not give the answer away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longvideo_env.datasets.mini import vocabulary as words
from longvideo_env.datasets.mini.drawing import figure_boxes
from longvideo_env.datasets.mini.world import CLIP_S, Dice, Difficulty, Fact, Figure, Kind, World

N_OPTIONS = 5


def make_rows(
    world: World, video_id: str, clip_ids: Sequence[str], dice: Dice, difficulty: Difficulty
) -> list[dict[str, Any]]:
    """Rows with the questions of one video."""
    rows: list[dict[str, Any]] = []
    for number, (kind, facts) in enumerate(world.asked):
        asker = _Asker(world, dice, difficulty.closeness)
        if kind is Kind.COMPARE:
            parts = asker.compare(*facts)
        elif kind in (Kind.LOOK_HERE, Kind.LOOK_ELSEWHERE):
            parts = asker.look(*facts)
        else:
            parts = asker.say(*facts)
        rows.append(
            {
                "qid": f"{video_id}_q{number}",
                **parts,
                "episode_name": video_id,
                "occur_clip": clip_ids[facts[0].at],
                "show_name": f"mini:{kind.value}",
            }
        )
    return rows


class _Asker:
    """Makes the questions of one video.

    Each method returns the fields of a row that differ by kind.
    """

    def __init__(self, world: World, dice: Dice, closeness: float) -> None:
        self._world = world
        self._dice = dice
        self._closeness = closeness

    def say(self, fact: Fact) -> dict[str, Any]:
        """When is it? Heard in one clip."""
        scenes = self._world.scenes
        told = _known(scenes[fact.at].passing_day)
        misled = _known(scenes[fact.decoy].passing_day) if fact.decoy is not None else []
        everywhere = [other.day for other in self._world.facts]
        options = self._options(fact.day, words.DAYS, misled, told, everywhere)
        lines = scenes[fact.at].lines
        line_s, position = CLIP_S / len(lines), lines.index(fact.line)
        return {
            "q": words.ASK_SAY.format(topic=fact.topic, teller=fact.teller),
            **options,
            "ts": [round(line_s * position, 2), round(line_s * (position + 1), 2)],
        }

    def look(self, fact: Fact) -> dict[str, Any]:
        """What colour is it? Heard in one clip and seen there."""
        figures = self._world.scenes[fact.at].figures
        holder = _holder(figures, fact.teller)
        there = [figure.colour for figure in figures]
        misled = []
        if fact.decoy is not None:
            trap = self._world.scenes[fact.decoy].figure_of(fact.teller)
            misled = _known(trap.colour if trap else None)
        everywhere = [figure.colour for scene in self._world.scenes for figure in scene.figures]
        options = self._options(holder.colour, words.COLOURS, misled, there, everywhere)
        text = words.ASK_LOOK.format(topic=fact.topic, teller=fact.teller, thing=holder.thing)
        return {"q": text, **options, **_seen(figures, holder)}

    def compare(self, fact: Fact, other: Fact) -> dict[str, Any]:
        """What is seen in both clips? Heard in two clips and seen in both. The first is gold."""
        figures = self._world.scenes[fact.at].figures
        elsewhere = self._world.scenes[other.at].figures
        things = [figure.thing for figure in elsewhere]
        holder = next(figure for figure in figures if figure.thing in things)
        pair = [figure.thing for figure in (*figures, *elsewhere)]
        options = self._options(holder.thing, words.THINGS, [], pair, [])
        text = words.ASK_COMPARE.format(
            topic=fact.topic,
            teller=fact.teller,
            other_topic=other.topic,
            other_teller=other.teller,
        )
        return {"q": text, **options, **_seen(figures, holder)}

    def _options(
        self, right: str, values: Sequence[str], sure: Sequence[str], *near: Sequence[str]
    ) -> dict[str, str]:
        """Five options and the answer.

        Args:
            right: The right value.
            values: All values of its type.
            sure: Values that must be among the options.
            near: Values from nearby clips, nearest group first.
        """
        close: dict[str, None] = {}
        for group in near:
            close.update(dict.fromkeys(self._dice.sample(group)))
        taken = {right, *sure}
        closest = [value for value in close if value not in taken]
        far = self._dice.sample([v for v in values if v not in taken and v not in close])
        chosen = [right, *sure]
        while len(chosen) < N_OPTIONS:
            want_close = self._dice.chance(self._closeness)
            pool = closest if closest and (want_close or not far) else far
            chosen.append(pool.pop(0))
        shown = self._dice.sample(chosen)
        return {
            **{f"a{i}": option for i, option in enumerate(shown)},
            "answer": f"a{shown.index(right)}",
        }


def _known(value: str | None) -> list[str]:
    return [] if value is None else [value]


def _holder(figures: Sequence[Figure], person: str) -> Figure:
    return next(figure for figure in figures if figure.person == person)


def _seen(figures: Sequence[Figure], holder: Figure) -> dict[str, Any]:
    """Span and boxes of what one figure holds."""
    return {
        "ts": [float(holder.start_s), float(holder.end_s)],
        "bbox": figure_boxes(figures, holder),
    }
