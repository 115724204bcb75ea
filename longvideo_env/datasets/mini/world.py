"""The mini world: what happens, is said and is seen in one generated video.

A video is planned from its questions. Each fact (a topic and its day) is stated in one clip. If the
first clip should be wrong, another clip, the decoy, names person and topic without stating the
fact. People, days, colours and things are drawn uniformly, so that no question's text favours an
answer.
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
"""Questions per video. They need at most 8 clips, the minimum length of a video."""

COMPARE_SHARE = 0.1

_T = TypeVar("_T")


class Kind(str, Enum):
    """Kind of a question, and whether BM25 opens the video at the right clip."""

    SAY_HERE = "say_here"
    SAY_ELSEWHERE = "say_elsewhere"
    LOOK_HERE = "look_here"
    LOOK_ELSEWHERE = "look_elsewhere"
    COMPARE = "compare"


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Difficulty of the world as one number from 0 to 1, and its mix of questions.

    Attributes:
        level: The number.
        compare: Share of questions that compare two clips.
    """

    level: float
    compare: float = COMPARE_SHARE

    @property
    def typical_clips(self) -> int:
        """Typical number of clips of a video; the actual number is within two."""
        return round(8 + 16 * self.level)

    @property
    def elsewhere(self) -> float:
        """Share of say and look questions whose first clip is wrong."""
        return 0.25 + 0.5 * self.level

    @property
    def closeness(self) -> float:
        """Share of wrong options taken from the same video, preferably from the same clip."""
        return 0.2 + 0.8 * self.level

    @property
    def chatter(self) -> float:
        """Probability of each of two extra lines in a clip."""
        return self.level


@dataclass(frozen=True, slots=True)
class Figure:
    """A person in the picture, and when they are visible."""

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
        figures: Two or three people. No two hold things of the same colour.
        lines: Speaker and words, evenly spread over the clip.
        passing_day: A day mentioned in passing, or None.
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
    """A topic and its day, and where in the video it is stated.

    Attributes:
        topic: Such as wedding.
        teller: Who states it.
        day: When it is.
        at: Position of the clip where it is stated.
        decoy: Position of the clip that mentions it without stating it, or None.
    """

    topic: str
    teller: str
    day: str
    at: int
    decoy: int | None = None

    @property
    def line(self) -> tuple[str, str]:
        """Speaker and words of the line that states it."""
        return self.teller, words.TOLD.format(topic=self.topic, day=self.day)


@dataclass(frozen=True, slots=True)
class World:
    """One video: its scenes in order, all facts, and the questions' facts.

    Attributes:
        scenes: One for each clip.
        facts: Every fact stated in it.
        asked: For each question: its kind and its one or two facts.
    """

    scenes: tuple[Scene, ...]
    facts: tuple[Fact, ...]
    asked: tuple[tuple[Kind, tuple[Fact, ...]], ...]


class Dice:
    """Fast uniform draws from a generator.

    Args:
        rng: The random generator.
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
        """`n` different items in random order; by default all of them."""
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
    # The eight facts that questions may ask about share no teller and no day.
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
    # Half of the other clips state unrelated facts, so stating a fact is no hint for the answer.
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
    """Builds the scenes of one video.

    Attributes:
        dice: Source of all random draws.
        difficulty: How hard the video is.
        scenes: Scenes made so far, by position.
        passing_days: Days to mention in passing. Days of the last facts come first, because a
            frequent day would weigh less in BM25 than the day of the fact.
    """

    dice: Dice
    difficulty: Difficulty
    scenes: dict[int, Scene]
    passing_days: Iterator[str]

    def play(self, kind: Kind, facts: tuple[Fact, ...]) -> None:
        """Make the scenes that a question needs."""
        things: Sequence[Sequence[str]] = [()]
        if kind is Kind.COMPARE:
            # Five things over two scenes. One is in both.
            both, *others = self.dice.sample(words.THINGS, 5)
            things = [self.dice.sample([both, *others[i : i + 2]]) for i in (0, 2)]
        for fact, held in zip(facts, things, strict=True):
            beside = kind is Kind.SAY_HERE and self.dice.chance(self.difficulty.closeness)
            self.tell(fact, self.figures(fact.teller, things=held), beside=beside)
            if fact.decoy is not None:
                self.mislead(fact, fact.decoy, trap=kind is Kind.LOOK_ELSEWHERE)

    def tell(self, fact: Fact, figures: tuple[Figure, ...], *, beside: bool = False) -> None:
        """Make the scene in which a fact is stated. Its teller says nothing else in it.

        With `beside`, another day is mentioned in passing.
        """
        passing = next(self.passing_days) if beside else None
        speakers = [figure.person for figure in figures if figure.person != fact.teller]
        lines = self._talk(speakers, passing, self._n_lines() - 1)
        lines.insert(self.dice.below(len(lines) + 1), fact.line)
        self._keep(fact.at, figures, lines, passing)

    def mislead(self, fact: Fact, at: int, *, trap: bool) -> None:
        """Make the decoy scene. It names teller and topic more often than the scene with the fact.

        A day of another topic is mentioned in passing. With `trap`, the teller may be visible and
        silent, with the same thing in another colour; more often at a higher `closeness`.
        """
        held = self.scenes[fact.at].figure_of(fact.teller)
        if trap and held is not None and self.dice.chance(self.difficulty.closeness):
            colour = self.dice.pick([c for c in words.COLOURS if c != held.colour])
            figures = self.figures(fact.teller, things=(held.thing,), colour=colour)
        else:
            figures = self.figures(absent=fact.teller)
        speakers = [figure.person for figure in figures if figure.person != fact.teller]
        passing = next(self.passing_days)
        # As many lines as the scene with the fact, because BM25 penalises longer clips.
        lines = self._talk(speakers, passing, len(self.scenes[fact.at].lines) - 2)
        for text in self.dice.pick(words.HEARSAY):
            said = text.format(teller=fact.teller, topic=fact.topic)
            lines.insert(self.dice.below(len(lines) + 1), (self.dice.pick(speakers), said))
        self._keep(at, figures, lines, passing)

    def idle(self) -> Scene:
        """Make a scene without a fact."""
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
            things: What the people hold, starting with `first`. Drawn at random if left out.
            colour: The colour of what `first` holds. Drawn at random if left out.
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
