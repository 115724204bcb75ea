"""The offline policy of `ask`: `quote`, or `quote:MODEL` with an embedding model.

It reads the first clip and the next best one, with their captions, and quotes the line that matches
the question best. With options it takes the one that such lines name. It has no understanding: a
floor for answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.evidence import FilmLines, stems
from agents.perception.embeddings import Embedder, open_embedder
from agents.policies.scripted import TextPolicy, lines_read
from longvideo_env.drivers.spaces import some_call
from longvideo_env.game.policy import Context, Reply
from longvideo_env.game.protocol.base import ANSWER, Action, option_label
from longvideo_env.schema import TimedText

PLAN = ("look", "ground", "look")
NOTHING = "nothing in the film speaks of this"
_ANY_LINE = 0.2
"""Weight of an option in a line that does not match the question."""


class QuotePolicy(TextPolicy):
    """See the module's docstring.

    Args:
        argument: An embedding model, or empty to use words only.
    """

    def __init__(self, argument: str = "") -> None:
        super().__init__()
        self._embedder: Embedder | None = open_embedder(argument) if argument else None

    async def act(self, context: Context, /) -> Reply:
        """Read two clips, then answer."""
        tools = {tool.name: tool for tool in context.game.offered}
        plan = [tools[name] for name in PLAN if name in tools][: context.game.max_turns - 1]
        question = context.question
        if context.turn <= len(plan):
            tool = plan[context.turn - 1]
            action = some_call(tool, context.seed, question.text.replace("<", " "))
            return Reply(context.write(action, f"Next step: {action.name}."))
        read = [text for text in lines_read(context) if text.strip()]
        lines = FilmLines([("", TimedText(text)) for text in dict.fromkeys(read)], self._embedder)
        if question.options:
            said = option_label(named_option(lines, question.text, question.options, context.seed))
        else:
            best = lines.best(question.text)
            said = best[0].line.text.replace("<", " ").strip() if best else NOTHING
        return Reply(context.write(Action(ANSWER, said or NOTHING), "Next step: answer."))


def named_option(lines: FilmLines, question: str, options: Sequence[str], seed: int) -> int:
    """The option whose own words occur in a line that matches the question. Ties are drawn."""
    values = option_values(lines, question, options)
    best = [i for i, value in enumerate(values) if value >= max(values) - 1e-9]
    return best[int(np.random.default_rng(seed).integers(len(best)))]


def option_values(lines: FilmLines, question: str, options: Sequence[str]) -> list[float]:
    """How strongly lines name each option; 0 if no line does."""
    asked = lines.scores(question)
    if not len(asked):
        return [0.0] * len(options)
    own = own_stems(question, options)
    return [float((lines.shares(words) * (_ANY_LINE + asked)).max()) for words in own]


def own_stems(question: str, options: Sequence[str]) -> list[list[str]]:
    """The stems of each option that are neither in the question nor in every option."""
    found = [stems(option) for option in options]
    common = set(stems(question)).union(set.intersection(*map(set, found)))
    return [[stem for stem in words if stem not in common] for words in found]
