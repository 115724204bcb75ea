"""The mini world: what happens, is said and is seen in one made-up video.

A video is planned from its questions: each fact (a topic and its day) is told in one clip, and
where the first clip is to be wrong, another clip, the decoy, talks of person and topic without
telling the fact. All draws are even over people, days, colours and things, so that no question's
text favours an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import cycle
from typing import TypeVar

import numpy as np

from longvideo_env.datasets.mini import vocabulary as words

CLIP_S = 60
QUESTIONS = 4
"""Questions for each video. They need 8 clips at most, which is as few as a video has."""

COMPARE_SHARE = 0.1

_T = TypeVar("_T")


class Kind(str, Enum):
    """What a question asks for, and whether BM25 opens the video at the right clip."""

    SAY_HERE = "say_here"
    SAY_ELSEWHERE = "say_elsewhere"
    LOOK_HERE = "look_here"
    LOOK_ELSEWHERE = "look_elsewhere"
    COMPARE = "compare"


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard the world is, by one number from 0 to 1, and what it asks.

    Attributes:
        level: The number.
        compare: Share of questions that compare two clips.
    """

    level: float
    compare: float = COMPARE_SHARE

    @property
    def typical_clips(self) -> int:
        """Clips of a video, give or take two."""
        return round(8 + 16 * self.level)

    @property
    def elsewhere(self) -> float:
        """Share of say and look questions whose first clip is wrong."""
        return 0.25 + 0.5 * self.level

    @property
    def closeness(self) -> float:
        """Share of wrong options that are values of the same video, its clip first of all."""
        return 0.2 + 0.8 * self.level

    @property
    def chatter(self) -> float:
        """Chance of each of two further lines in a clip."""
        return self.level


@dataclass(frozen=True, slots=True)
class Figure:
    """A person in the picture, and the time in which they are to be seen."""

    person: str
    action: str
    colour: str
    thing: str
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What one clip shows and what is said in it.

    Attributes:
        place: Where it is.
        figures: Two or three people, no two of whom hold the same colour.
        lines: Speaker and words, evenly spread over the clip.
        passing_day: A day mentioned by the way, or None.
    """

    place: str
    figures: tuple[Figure, ...]
    lines: tuple[tuple[str, str], ...]
    passing_day: str | None = None

    def figure_of(self, person: str) -> Figure | None:
        """The person in this scene, or None."""
        return next((figure for figure in self.figures if figure.person == person), None)


@dataclass(frozen=True, slots=True)
class Fact:
    """A topic and its day, and where in the video it is told.

    Attributes:
        topic: Such as wedding.
        teller: Who tells it.
        day: When it is.
        at: Position of the clip where it is told.
        decoy: Position of the clip that talks of it without telling it, or None.
    """

    topic: str
    teller: str
    day: str
    at: int
    decoy: int | None = None

    @property
    def line(self) -> tuple[str, str]:
        """Speaker and words of the line that tells it."""
        return self.teller, words.TOLD.format(topic=self.topic, day=self.day)


@dataclass(frozen=True, slots=True)
class World:
    """One video: its scenes in order, all facts, and the questions' facts.

    Attributes:
        scenes: One for each clip.
        facts: Every fact that is told in it.
        asked: For each question, its kind and the one or two facts that it is about.
    """

    scenes: tuple[Scene, ...]
    facts: tuple[Fact, ...]
    asked: tuple[tuple[Kind, tuple[Fact, ...]], ...]


class Dice:
    """Fast even draws from a generator.

    Args:
        rng: Where all chance comes from.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._units = _units(rng)

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return next(self._units) < share

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(next(self._units) * n)

    def pick(self, items: Sequence[_T]) -> _T:
        """One of the items."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[_T], n: int | None = None) -> list[_T]:
        """That many different items, all of them by default, in random order."""
        pool = list(items)
        n = len(pool) if n is None else n
        for i in range(n):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:n]


def make_world(dice: Dice, difficulty: Difficulty) -> World:
    """Make one video."""
    kinds = [_draw_kind(dice, difficulty) for _ in range(QUESTIONS)]
    n_clips = min(24, max(8, difficulty.typical_clips + dice.below(5) - 2))
    places = dice.sample(range(n_clips))
    tellers, days = dice.sample(words.PEOPLE), dice.sample(words.DAYS)
    # The eight facts that may be asked for share no teller and no day.
    facts = zip(dice.sample(words.TOPICS), cycle(tellers), cycle(days), strict=False)
    stage = _Stage(dice, difficulty, {}, cycle(reversed(days)))
    asked: list[tuple[Kind, tuple[Fact, ...]]] = []
    told: list[Fact] = []
    for kind in kinds:
        elsewhere = kind in (Kind.SAY_ELSEWHERE, Kind.LOOK_ELSEWHERE)
        mine = tuple(
            Fact(*next(facts), places.pop(), places.pop() if elsewhere else None)
            for _ in range(2 if kind is Kind.COMPARE else 1)
        )
        stage.play(kind, mine)
        asked.append((kind, mine))
        told += mine
    # Half of the other clips tell facts nobody asks for: that a clip tells something says nothing.
    for place, rest in zip(places[: len(places) // 2], facts, strict=False):
        told.append(Fact(*rest, place))
        stage.tell(told[-1], stage.figures(told[-1].teller))
    scenes = tuple(stage.scenes.get(i) or stage.idle() for i in range(n_clips))
    return World(scenes, tuple(told), tuple(asked))


def _units(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(256).tolist()


def _draw_kind(dice: Dice, difficulty: Difficulty) -> Kind:
    if dice.chance(difficulty.compare):
        return Kind.COMPARE
    if dice.chance(0.5):
        return Kind.SAY_ELSEWHERE if dice.chance(difficulty.elsewhere) else Kind.SAY_HERE
    return Kind.LOOK_ELSEWHERE if dice.chance(difficulty.elsewhere) else Kind.LOOK_HERE


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where the scenes of one video are made.

    Attributes:
        dice: For all draws.
        difficulty: How hard the video is.
        scenes: Those made so far, by position.
        passing_days: Days to mention by the way, those that facts use last first: a day said
            often would weigh less in BM25 than the day of the fact.
    """

    dice: Dice
    difficulty: Difficulty
    scenes: dict[int, Scene]
    passing_days: Iterator[str]

    def play(self, kind: Kind, facts: tuple[Fact, ...]) -> None:
        """Make the scenes that a question needs."""
        things: Sequence[Sequence[str]] = [()]
        if kind is Kind.COMPARE:
            # Five things over two scenes, of which one is in both.
            both, *others = self.dice.sample(words.THINGS, 5)
            things = [self.dice.sample([both, *others[i : i + 2]]) for i in (0, 2)]
        for fact, held in zip(facts, things, strict=True):
            beside = kind is Kind.SAY_HERE and self.dice.chance(self.difficulty.closeness)
            self.tell(fact, self.figures(fact.teller, things=held), beside=beside)
            if fact.decoy is not None:
                self.mislead(fact, fact.decoy, trap=kind is Kind.LOOK_ELSEWHERE)

    def tell(self, fact: Fact, figures: tuple[Figure, ...], *, beside: bool = False) -> None:
        """The scene in which a fact is told: by its teller, who says nothing else in it.

        With `beside`, another day is mentioned by the way.
        """
        passing = next(self.passing_days) if beside else None
        speakers = [figure.person for figure in figures if figure.person != fact.teller]
        lines = self._talk(speakers, passing, self._n_lines() - 1)
        lines.insert(self.dice.below(len(lines) + 1), fact.line)
        self._keep(fact.at, figures, lines, passing)

    def mislead(self, fact: Fact, at: int, *, trap: bool) -> None:
        """The scene that names teller and topic more often than the one that tells the fact.

        A day of another topic is mentioned by the way. With `trap`, the closer the
        distractors, the more often the teller is to be seen, silent, with the same thing in
        another colour.
        """
        held = self.scenes[fact.at].figure_of(fact.teller)
        if trap and held is not None and self.dice.chance(self.difficulty.closeness):
            colour = self.dice.pick([c for c in words.COLOURS if c != held.colour])
            figures = self.figures(fact.teller, things=(held.thing,), colour=colour)
        else:
            figures = self.figures(absent=fact.teller)
        speakers = [figure.person for figure in figures if figure.person != fact.teller]
        passing = next(self.passing_days)
        # As many lines as where the fact is told: BM25 holds a longer clip's length against it.
        lines = self._talk(speakers, passing, len(self.scenes[fact.at].lines) - 2)
        for text in self.dice.pick(words.HEARSAY):
            said = text.format(teller=fact.teller, topic=fact.topic)
            lines.insert(self.dice.below(len(lines) + 1), (self.dice.pick(speakers), said))
        self._keep(at, figures, lines, passing)

    def idle(self) -> Scene:
        """A scene without a fact."""
        figures = self.figures()
        lines = self._talk([figure.person for figure in figures], None, self._n_lines())
        return Scene(self.dice.pick(words.PLACES), figures, tuple(lines))

    def figures(
        self,
        first: str | None = None,
        *,
        things: Sequence[str] = (),
        colour: str | None = None,
        absent: str | None = None,
    ) -> tuple[Figure, ...]:
        """Two or three people in random order.

        Args:
            first: Someone who must be there.
            things: What people hold, the one that must be there first; drawn where left out.
            colour: The colour of what the one that must be there holds; drawn where left out.
            absent: Someone who must not be there.
        """
        dice = self.dice
        n = max(len(things), 2 + dice.below(2))
        others = [person for person in words.PEOPLE if person not in (first, absent)]
        people = dice.sample(others, n if first is None else n - 1)
        people = people if first is None else [first, *people]
        colours = dice.sample([c for c in words.COLOURS if c != colour], n)
        colours = colours if colour is None else [colour, *colours]
        made = [
            Figure(
                person=people[i],
                action=dice.pick(words.ACTIONS),
                colour=colours[i],
                thing=things[i] if i < len(things) else dice.pick(words.THINGS),
                start_s=5 * dice.below(5),
                end_s=CLIP_S - 5 * dice.below(4),
            )
            for i in range(n)
        ]
        return tuple(dice.sample(made))

    def _keep(
        self,
        at: int,
        figures: tuple[Figure, ...],
        lines: list[tuple[str, str]],
        passing: str | None,
    ) -> None:
        self.scenes[at] = Scene(self.dice.pick(words.PLACES), figures, tuple(lines), passing)

    def _talk(self, speakers: Sequence[str], day: str | None, n: int) -> list[tuple[str, str]]:
        said = self.dice.sample(words.SMALL_TALK, n)
        if day is not None:
            said[self.dice.below(n)] = words.PASSING.format(day=day)
        return [(self.dice.pick(speakers), text) for text in said]

    def _n_lines(self) -> int:
        return 3 + sum(self.dice.chance(self.difficulty.chatter) for _ in range(2))
