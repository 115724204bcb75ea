"""Master policies without a model: `random`, and scripts such as `scripted:ground-look-answer`.

They read the fields of observations and do not parse text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from agents.ranking import content_words
from longvideo_env.config import WHEN
from longvideo_env.drivers.spaces import random_action, random_answer, some_call
from longvideo_env.errors import PolicyError, SpecError
from longvideo_env.game.policy import Codec, Context, Observation, Reply, TextCodec
from longvideo_env.game.protocol.base import ANSWER, Action, option_label
from longvideo_env.spans import Span, merge_spans, write_spans

_STAMP = re.compile(r"^\[[^\]]*\] ")
"""Matches a time before a line of a tool's text."""


class TextPolicy:
    """Base of policies without tokens."""

    codec: Codec

    def __init__(self) -> None:
        self.codec = TextCodec()

    async def aclose(self) -> None:
        """Does nothing."""


class RandomPolicy(TextPolicy):
    """Draws uniformly from the offered actions. In the last turn it answers at random."""

    async def act(self, context: Context, /) -> Reply:
        """Write a random well-formed action."""
        rng = np.random.default_rng(context.seed)
        n_options = len(context.question.options)
        if not n_options and context.game.config.ask != WHEN:
            raise PolicyError("the policy `random` needs a question with options.")
        if context.is_last:
            rng.integers(1)  # the draw of the only action, to keep the sequence of draws
            return Reply(context.write(random_answer(context.game, n_options, rng)))
        return Reply(context.write(random_action(context.game, n_options, rng)))


class ScriptedPolicy(TextPolicy):
    """Uses some tools in order, then answers by word overlap.

    The answer is the option that shares most words with the text read so far. Free text: the line
    that shares most words with the question. "When?": the shown clips that do.

    Words of the question and words in every option do not help to choose, so both are ignored.
    Longer options share more words by chance, so the number of shared words is divided by the
    square root of the option's length. Ties are drawn with the turn's seed.

    Args:
        argument: Names of tools joined by `-`, ending with `answer`. Tools that are not offered are
            skipped, and the last turn is kept for the answer.

    Raises:
        SpecError: It does not end with `answer`.
    """

    def __init__(self, argument: str) -> None:
        super().__init__()
        *self._plan, last = argument.split("-")
        if last != ANSWER:
            raise SpecError(
                f"expected scripted:TOOL-TOOL-answer, such as scripted:ground-look-answer, got "
                f"'scripted:{argument}'."
            )

    async def act(self, context: Context, /) -> Reply:
        """Write the next action of the script, or the answer."""
        tools = {tool.name: tool for tool in context.game.offered}
        plan = [tools[name] for name in self._plan if name in tools][: context.game.max_turns - 1]
        if context.turn <= len(plan):
            tool = plan[context.turn - 1]
            words = " ".join([context.question.text, *context.question.options])
            action = some_call(tool, context.seed, words.replace("<", " "))
        elif context.question.options:
            action = Action(ANSWER, option_label(best_option(context)))
        elif context.game.config.ask == WHEN:
            action = Action(ANSWER, write_spans(best_view(context)))
        else:
            action = Action(ANSWER, best_line(context))
        return Reply(context.write(action, f"Next step: {action.name}."))


def lines_read(context: Context) -> Sequence[str]:
    """All text read so far: dialogue and tool replies."""
    lines: list[str] = []
    for seen in context.observations:
        lines += [line.text for line in seen.lines]
        lines += [_STAMP.sub("", line) for line in (seen.reply or "").splitlines()]
    return lines


def best_line(context: Context) -> str:
    """The line read that shares most words with the question. Ties go to the first.

    It only quotes: a floor for free-text answers.
    """
    wanted = content_words(context.question.text)
    lines = [line for line in lines_read(context) if line.strip()]
    best = max(lines, key=lambda line: len(content_words(line) & wanted), default="")
    return best.replace("<", " ").strip() or "nothing was said"


def best_view(context: Context) -> Sequence[Span]:
    """Times of the shown clips whose dialogue shares most words with the question."""
    wanted = content_words(context.question.text)

    def shared(seen: Observation) -> int:
        return len(content_words(" ".join(line.text for line in seen.lines)) & wanted)

    best = max((seen for seen in context.observations if seen.moved), key=shared)
    return merge_spans(best.times)


def best_option(context: Context) -> int:
    """Index of the option that shares most words with subtitles and tool replies."""
    question = context.question
    options = [content_words(option) for option in question.options]
    empty = content_words(question.text) | set.intersection(*options)
    seen = content_words(" ".join(lines_read(context)))
    scores = [len((words - empty) & seen) / max(len(words - empty), 1) ** 0.5 for words in options]
    best = [i for i, value in enumerate(scores) if value == max(scores)]
    rng = np.random.default_rng(context.seed)
    return best[int(rng.integers(len(best)))]
