"""A scripted teacher for the `mini` world, for the first demonstrations.

It knows the phrases of `mini`, so it can solve its questions. On purpose it sometimes guesses, or
calls a tool that it does not need. Its episodes then show every kind of step, often at the wrong
time, so that training still has to learn when to ask and when to answer.
"""

from __future__ import annotations

import re

import numpy as np

from agents.policies.teacher_steps import STEPS, Step, Wanted
from longvideo_env.datasets.mini.vocabulary import TOPICS
from longvideo_env.drivers.spaces import some_call
from longvideo_env.errors import SpecError
from longvideo_env.game.policy import Codec, Context, Reply, TextCodec
from longvideo_env.game.protocol.base import ANSWER, Action, option_label
from longvideo_env.tools.tool import Tool

_ASKS_SAY = re.compile(r"when is the (?P<topic>\w+) that (?P<person>\w+) talks about \?")
_ASKS_LOOK = re.compile(
    r"when (?P<person>\w+) talks about the (?P<topic>\w+) , what colour is the (?P<thing>\w+) of"
)
_ASKS_COMPARE = re.compile(
    r"both when \w+ talks about the (?P<first>\w+) and when \w+ talks about the (?P<second>\w+) \?"
)
_HOLDS = re.compile(r"holds a \w+ (\w+) \.")
DRILL, PAIRS = "drill", "pairs"
COMPARE, FEW = "compare", "few"
N_RECITED = 3
N_PAIRS = 24
SAME_SHARE = 0.4
"""The share of pairs whose two topics are the same."""
N_HELD = 3
"""Number of things in each of two compared clips."""


class MiniTeacher:
    """Plays `mini` one step at a time, and makes mistakes on purpose.

    Spec: `teacher:mini` or `teacher:mini:GUESS:DETOUR`. Before each right step it guesses an answer
    with probability GUESS, or else calls an unneeded tool with probability DETOUR. Without these
    numbers it does neither. It always guesses questions that compare two clips. It plays every
    built-in game with the offered tools.

    `teacher:mini:GUESS:DETOUR:compare` can compare. It looks at one clip, grounds, and looks at the
    other with the names of the things in the first; things in both then come first. Such a question
    takes twice as many steps, so it guesses half as often before each.

    A `:few` at the end makes results short enough for a tiny model: a search requests two captions
    instead of sixteen, a crop one minute instead of four.

    `teacher:mini:drill` does not play. It names the labels of three options in random order and
    answers with the last. A small model learns to look up labels last, so each episode shows it
    three times. Three, not all five: otherwise the last could be inferred from the others.

    `teacher:mini:pairs` does not play either. It writes topics next to the topic that is asked, and
    after each pair `is` if both are the same word, or a comma. Then it guesses. LongVT's game takes
    this step, and a small model learns it from the game alone too slowly. For a question that
    compares two clips it only guesses.

    Raises:
        SpecError: A probability is not in 0 to 1.
    """

    codec: Codec

    def __init__(self, argument: str = "") -> None:
        self.codec = TextCodec()
        self._drill = _DRILLS.get(argument)
        rest, self._few = _without(argument, FEW)
        numbers, self._compares = _without(rest, COMPARE)
        self._guess, self._detour = (1.0, 0.0) if self._drill else _probabilities(numbers)

    async def act(self, context: Context, /) -> Reply:
        """Write the next step."""
        rng = np.random.default_rng(context.seed)
        last = context.is_last
        compared = self._compares and _ASKS_COMPARE.search(context.question.text) is not None
        reasoning, action = self._right_step(context, rng)
        if self._drill is not None:
            reasoning, action = self._drill(context, rng)
        elif rng.random() < self._guess / (1 + compared) or (last and action.name != ANSWER):
            reasoning, action = _guess(context, rng)
        elif not last and rng.random() < self._detour:
            reasoning, action = _detour(context, rng)
        return Reply(context.write(action, f" {reasoning} "))

    async def aclose(self) -> None:
        """Nothing to let go of."""

    def _right_step(self, context: Context, rng: np.random.Generator) -> tuple[str, Action]:
        text = context.question.text
        seen = [
            "\n".join([*(line.text for line in one.lines), one.reply or ""])
            for one in context.observations
        ]
        asks = _ASKS_SAY.search(text) or _ASKS_LOOK.search(text)
        if asks is None:
            pair = _ASKS_COMPARE.search(text) if self._compares else None
            if pair is None or not STEPS.keys().isdisjoint(context.game.actions):
                return _guess(context, rng)
            return _compare_step([pair["first"], pair["second"]], context, rng)
        wanted = Wanted(**asks.groupdict(), few=self._few)
        for tool in context.game.offered:
            if tool.name in STEPS:
                step = STEPS[tool.name](wanted, context)
                return _guess(context, rng) if step is None else _taken(step, context, rng)
        if wanted.thing is None:
            return _say_step(wanted.topic, seen, context, rng)
        return _look_step(asks.groupdict(), seen, context, rng)


def _taken(step: Step, context: Context, rng: np.random.Generator) -> tuple[str, Action]:
    if isinstance(step.then, Action):
        return step.reasoning, step.then
    return _conclude(step.reasoning, step.then, context, rng)


def _say_step(
    topic: str, seen: list[str], context: Context, rng: np.random.Generator
) -> tuple[str, Action]:
    for told in re.finditer(rf"the {topic} is on (\w+) \.", "\n".join(seen)):
        return _conclude(f"the {topic} is on {told[1]}", told[1], context, rng)
    return _elsewhere(topic, context, rng)


def _look_step(
    asks: dict[str, str], seen: list[str], context: Context, rng: np.random.Generator
) -> tuple[str, Action]:
    topic, person, thing = asks["topic"], asks["person"], asks["thing"]
    told = [i for i, text in enumerate(seen) if f"the {topic} is on" in text]
    if not told:
        return _elsewhere(topic, context, rng)
    for text in seen[told[0] :]:
        looked = re.search(rf"{person} holds a (\w+) {thing} \.", text)
        if looked is not None:
            found = f"{person} holds a {looked[1]}"
            return _conclude(found, looked[1], context, rng)
    if told[-1] != max(i for i, one in enumerate(context.observations) if one.moved):
        return _guess(context, rng)  # the clip was passed, and there is no way back
    look = _tool(context, moves=False)
    if look is None:
        return _guess(context, rng)
    query = f"{person} {thing} colour"
    return f"the {topic} is on look .", Action(look.name, query)


def _compare_step(
    topics: list[str], context: Context, rng: np.random.Generator
) -> tuple[str, Action]:
    here: str | None = None  # the topic of the clip in view
    things: dict[str, list[str]] = {}  # the things seen in the clip of a topic
    for one in context.observations:
        if one.lines:
            said = "\n".join(line.text for line in one.lines)
            here = next((topic for topic in topics if f"the {topic} is on" in said), None)
        if here is not None and (seen := _HOLDS.findall(one.reply or "")):
            things[here] = seen
    known = next((found for found in things.values() if len(found) == N_HELD), None)
    if here is None or (things.get(here) is known is not None):
        left = next((topic for topic in topics if topic not in things), None)
        if left is None:
            return _guess(context, rng)  # a clip was passed before all its things were seen
        told = f"{' , '.join(known)} , " if known else ""
        reasoning, action = _elsewhere(left, context, rng)
        return f"{told}{reasoning}", action
    if known is not None and things.get(here, [""])[0] in known:
        return _conclude(f"both {things[here][0]}", things[here][0], context, rng)
    look = _tool(context, moves=False)
    if look is None:
        return _guess(context, rng)
    return f"the {here} is on look .", Action(look.name, " ".join(["holds", *(known or ())]))


def _tool(context: Context, *, moves: bool) -> Tool | None:
    """The tool that moves to another clip, or the one about the clip in view."""
    return next((tool for tool in context.game.offered if tool.moves is moves), None)


def _conclude(
    found: str, value: str, context: Context, rng: np.random.Generator
) -> tuple[str, Action]:
    if value not in context.question.options:
        return _guess(context, rng)
    return _pick(found, context.question.options.index(value), context)


def _elsewhere(topic: str, context: Context, rng: np.random.Generator) -> tuple[str, Action]:
    ground = _tool(context, moves=True)
    if ground is None:
        return _guess(context, rng)
    return f"the {topic} , go on .", Action(ground.name)


def _guess(context: Context, rng: np.random.Generator) -> tuple[str, Action]:
    index = int(rng.integers(len(context.question.options)))
    return _pick(f"guess {context.question.options[index]}", index, context)


def _recite(context: Context, rng: np.random.Generator) -> tuple[str, Action]:
    options = context.question.options
    order = [int(i) for i in rng.permutation(len(options))[:N_RECITED]]
    label = context.game.protocol.answers.label
    told = " , ".join(f"{options[i]} {label(i)}" for i in order)
    return f"{told} .", Action(ANSWER, option_label(order[-1]))


def _pair(context: Context, rng: np.random.Generator) -> tuple[str, Action]:
    text = context.question.text
    asks = _ASKS_SAY.search(text) or _ASKS_LOOK.search(text)
    reasoning, action = _guess(context, rng)
    if asks is None:
        return reasoning, action
    asked = asks["topic"]
    others = [topic for topic in TOPICS if topic != asked]
    said = []
    for is_same in rng.random(N_PAIRS) < SAME_SHARE:
        heard = asked if is_same else others[int(rng.integers(len(others)))]
        said.append(f"{heard} the {asked} {'is' if is_same else ','}")
    return f"{' '.join(said)} {reasoning}", action


_DRILLS = {DRILL: _recite, PAIRS: _pair}


def _pick(found: str, index: int, context: Context) -> tuple[str, Action]:
    shown = context.game.protocol.answers.label(index)
    return f"{found} {shown} .", Action(ANSWER, option_label(index))


def _detour(context: Context, rng: np.random.Generator) -> tuple[str, Action]:
    tools = context.game.offered
    if not tools:
        return _guess(context, rng)
    tool = tools[int(rng.integers(len(tools)))]
    if tool.name in STEPS or len(tool.required) > 1:
        return "look .", some_call(tool, rng, "the place")
    if tool.moves:
        return "go on .", Action(tool.name)
    return "look .", Action(tool.name, "the place")


def _without(argument: str, word: str) -> tuple[str, bool]:
    """An argument without a word at its end, and whether it had that word."""
    rest = argument.removesuffix(f":{word}")
    return rest, rest != argument


def _probabilities(argument: str) -> tuple[float, float]:
    if not argument:
        return 0.0, 0.0
    try:
        guess, detour = map(float, argument.split(":"))
    except ValueError as error:
        raise SpecError(
            f"expected teacher:mini:GUESS:DETOUR, with or without :{COMPARE} and :{FEW}, "
            f"teacher:mini:{DRILL}, or teacher:mini:{PAIRS}, got {argument!r}."
        ) from error
    if not (0 <= guess <= 1 and 0 <= detour <= 1):
        raise SpecError(f"expected probabilities from 0 to 1, got {argument!r}.")
    return guess, detour
