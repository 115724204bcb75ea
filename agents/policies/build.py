"""Master policies: the function that turns a spec into one, and those that need no model."""

from __future__ import annotations

import re

import numpy as np

from agents.generation.settings import GenerationSettings
from agents.policies.teacher import MiniTeacher
from agents.ranking import content_words
from longvideo_env.drivers.spaces import random_action
from longvideo_env.errors import MissingExtraError, PolicyError, SpecError
from longvideo_env.game.policy import Codec, Context, Policy, Reply, TextCodec
from longvideo_env.game.protocol.tags import Action, format_action, option_label
from longvideo_env.game.rules import ActionKind

POLICY_SPECS = (
    "random",
    "scripted:answer",
    "scripted:ground-look-answer",
    "teacher:mini",
    "hf:mini-starter",
    "hf:PATH",
    "hf:BASE+ADAPTER",
    "vllm:PATH",
    "vllm:BASE+ADAPTER",
    "openai:MODEL[@ENDPOINT]",
)


_NO_LINE = re.compile(
    r"</?New_clip>|You have |This is your last|\[[\w-]+(?:_clip_\d+|@[\d:]+)\]$|\(no sub|$"
)
_TIMES = re.compile(r"^\[[^\]]*\] ")
_SCRIPTS: dict[str, tuple[ActionKind, ...]] = {
    "scripted:answer": (),
    "scripted:ground-look-answer": (ActionKind.GROUND, ActionKind.LOOK),
}


def check_policy_spec(spec: str) -> None:
    """Refuse a spec that names no policy, before any time is spent.

    Raises:
        SpecError: No such policy.
    """
    kind, _, argument = spec.partition(":")
    if kind == "teacher" and argument.partition(":")[0] == "mini":
        return
    if kind in ("hf", "vllm", "openai") and argument:
        return
    if spec != "random" and spec not in _SCRIPTS:
        raise SpecError(f"unknown policy {spec!r}; expected one of: {', '.join(POLICY_SPECS)}.")


def build_policy(spec: str, settings: GenerationSettings | None = None) -> Policy:
    """The policy that a spec names.

    Args:
        spec: One of `POLICY_SPECS`.
        settings: How models generate; policies without a model take no notice.

    Raises:
        SpecError: No such policy, or its model cannot be loaded.
        MissingExtraError: Its libraries are not installed.
    """
    check_policy_spec(spec)
    if spec == "random":
        return RandomPolicy()
    if spec in _SCRIPTS:
        return ScriptedPolicy(_SCRIPTS[spec])
    kind, _, argument = spec.partition(":")
    if kind == "teacher":
        return MiniTeacher(argument.partition(":")[2])
    if kind == "vllm":
        try:
            from agents.generation.vllm_engine import VLLMPolicy  # so is torch
        except ImportError as error:
            raise MissingExtraError("torch", "vllm") from error
        return VLLMPolicy(argument, settings)
    if kind == "openai":
        from agents.policies.api_policy import ApiPolicy  # its client is an extra

        return ApiPolicy(argument, settings or GenerationSettings())
    from agents.generation.hf import HFPolicy  # torch and transformers are an extra

    return HFPolicy(argument, settings or GenerationSettings())


class _TextPolicy:
    """What policies without tokens share."""

    codec: Codec

    def __init__(self) -> None:
        self.codec = TextCodec()

    async def aclose(self) -> None:
        """Nothing to let go of."""


class RandomPolicy(_TextPolicy):
    """Draws evenly among the actions on offer; in the last turn it answers at random."""

    async def act(self, context: Context, /) -> Reply:
        """Write a random well-formed action."""
        rng = np.random.default_rng(context.seed)
        if not context.question.options:
            raise PolicyError("the policy random needs options to choose from.")
        last = context.turn >= context.rules.max_turns
        actions = (ActionKind.ANSWER,) if last else context.rules.actions
        action = random_action(actions, len(context.question.options), rng)
        return Reply(format_action(action, context.rules.tags))


class ScriptedPolicy(_TextPolicy):
    """Takes some actions in order, then answers by overlap of words.

    The answer is the option that shares most words with what the policy has read.

    Words of the question say nothing about which option is right, and a word that stands in every
    option neither: both are left out. Longer options share more words by chance, so the shared
    words are divided by the square root of the option's. Ties are drawn with the turn's seed.

    Args:
        plan: Actions to take before the answer. Those not on offer are left out, and the last
            turn is kept for the answer.
    """

    def __init__(self, plan: tuple[ActionKind, ...]) -> None:
        super().__init__()
        self._plan = plan

    async def act(self, context: Context, /) -> Reply:
        """Write the next action of the plan, or the answer."""
        plan = [kind for kind in self._plan if kind in context.rules.actions]
        plan = plan[: context.rules.max_turns - 1]
        tags = context.rules.tags
        if context.turn <= len(plan):
            action, why = self._next(plan[context.turn - 1], context)
        elif context.question.options:
            action, why = Action(ActionKind.ANSWER, option_label(best_option(context))), "answer"
        else:
            action, why = Action(ActionKind.ANSWER, best_line(context)), "answer"
        reasoning = f"<{tags.reasoning}>Next step: {why}.</{tags.reasoning}>"
        return Reply(reasoning + format_action(action, tags))

    def _next(self, kind: ActionKind, context: Context) -> tuple[Action, str]:
        question = context.question
        if kind is ActionKind.GROUND:
            return Action(kind), "look for another clip"
        words = " ".join([question.text, *question.options]).replace("<", " ")
        return Action(kind, words), "ask what is to be seen"


def best_line(context: Context) -> str:
    """The line of all that was read which shares most words with the question; the first of these.

    It quotes and does not understand: a floor for answers in words.
    """
    wanted = content_words(context.question.text)
    lines = [
        line
        for message in context.messages
        if message["role"] == "user"
        for line in message["content"].rpartition("You are at:\n")[2].splitlines()
        if not _NO_LINE.match(line)
    ]
    best = max(lines, key=lambda line: len(content_words(line) & wanted), default="")
    return _TIMES.sub("", best).replace("<", " ").strip() or "nothing was said"


def best_option(context: Context) -> int:
    """Index of the option that shares most words with what came from subtitles and tools."""
    question = context.question
    options = [content_words(option) for option in question.options]
    empty = content_words(question.text) | set.intersection(*options)
    seen: set[str] = set()
    for message in context.messages:
        if message["role"] == "user":
            # In the first message the question and its options stand before the clips.
            seen |= content_words(message["content"].rpartition("You are at:\n")[2])
    scores = [len((words - empty) & seen) / max(len(words - empty), 1) ** 0.5 for words in options]
    best = [i for i, value in enumerate(scores) if value == max(scores)]
    rng = np.random.default_rng(context.seed)
    return best[int(rng.integers(len(best)))]
