"""Gymnasium spaces for prose.

`gymnasium.spaces.Text` requires a character set. With all of Unicode it takes seconds to build, and
its vectorised form pads strings. This space checks only type and length. In async vector
environments pass `vector_kwargs={"shared_memory": False}`.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import Space

from longvideo_env.config import WHEN
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import ANSWER, Action, option_label
from longvideo_env.spans import write_spans
from longvideo_env.tools.tool import Tool

MAX_TEXT_LENGTH = 4_000_000
"""Maximum length of a text in characters. Far above real texts; it catches mistakes."""


class TextSpace(Space[str]):
    """All strings of up to `max_length` characters."""

    def __init__(
        self, max_length: int = MAX_TEXT_LENGTH, seed: int | np.random.Generator | None = None
    ) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)
        self.max_length = max_length

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no array form."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """A short random string. Masks are not supported.

        Raises:
            ValueError: A mask was given.
        """
        if mask is not None or probability is not None:
            raise ValueError(f"{self} takes no mask, got one. Fix: call sample() without a mask.")
        letters = self.np_random.choice(list(string.ascii_letters + " "), size=20)
        return "".join(letters)[: self.max_length]

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string of at most `max_length` characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    def to_jsonable(self, sample_n: Iterable[str]) -> list[str]:
        """Strings are JSON already."""
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[str]:
        """Strings are JSON already."""
        return [str(sample) for sample in sample_n]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_length={self.max_length})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self).get("max_length") == vars(other).get(
            "max_length"
        )

    __hash__ = None  # type: ignore[assignment]  # spaces are mutable


class ReplySpace(TextSpace):
    """Replies of the master agent. Any text is allowed; `sample` draws well-formed replies.

    Args:
        game: Defines the actions and how they are written.
        n_options: Number of options, for sampled answers.
        max_length: Longest reply in characters.
        seed: Seed of the space's generator.
    """

    def __init__(
        self,
        game: Game,
        n_options: int = 5,
        max_length: int = MAX_TEXT_LENGTH,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(max_length, seed)
        self.game = game
        self.n_options = n_options

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """A random well-formed action, as text."""
        if mask is not None or probability is not None:
            raise ValueError(f"{self} takes no mask, got one. Fix: call sample() without a mask.")
        return self.game.protocol.write(random_action(self.game, self.n_options, self.np_random))


def random_action(game: Game, n_options: int, rng: np.random.Generator) -> Action:
    """Draw one of the offered actions. An answer is drawn uniformly from the options."""
    name = game.actions[int(rng.integers(len(game.actions)))]
    if name == ANSWER:
        return random_answer(game, n_options, rng)
    return some_call(game.tool(name), rng)


def random_answer(game: Game, n_options: int, rng: np.random.Generator) -> Action:
    """Draw an answer uniformly from the options.

    Without options: a minute of the first hour, or words.
    """
    if n_options:
        return Action(ANSWER, option_label(int(rng.integers(n_options))))
    if game.protocol.answers.ask == WHEN:
        start = float(rng.integers(3600))
        return Action(ANSWER, write_spans([(start, start + 60.0)]))
    return Action(ANSWER, "something")


def some_call(
    tool: Tool, rng: np.random.Generator | int, text: str = "What is happening?"
) -> Action:
    """A call of a tool. Required arguments are drawn at random; text arguments are `text`.

    Args:
        tool: The tool.
        rng: A generator, or a seed from which one is made if needed.
        text: Value of text arguments.
    """
    properties, parts = tool.schema.get("properties", {}), tool.schema.get("$defs", {})
    arguments = {name: _drawn(properties[name], rng, text, parts) for name in tool.required}
    return Action(tool.name, None, arguments)


def _drawn(
    schema: dict[str, Any],
    rng: np.random.Generator | int,
    text: str,
    parts: dict[str, Any],
) -> Any:
    if "$ref" in schema:
        schema = parts[schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    if schema.get("minItems") and "items" in schema:
        return [_drawn(schema["items"], rng, text, parts)]
    if "properties" in schema:
        inside = schema["properties"]
        return {name: _drawn(inside[name], rng, text, parts) for name in schema["required"]}
    if "enum" in schema:
        return schema["enum"][int(np.random.default_rng(rng).integers(len(schema["enum"])))]
    kind = str(schema.get("type"))
    if kind in ("integer", "number"):
        low = int(schema.get("minimum", 0))
        high = int(schema.get("maximum", low + 9))
        number = int(np.random.default_rng(rng).integers(low, high + 1))
        return number if kind == "integer" else float(number)
    plain: dict[str, Any] = {"boolean": False, "array": [], "object": {}}
    return plain.get(kind, text)
