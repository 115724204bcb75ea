"""Count the tokens of the prompts and observations of real questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from longvideo_env.datasets import Dataset
from longvideo_env.game.game import Game
from longvideo_env.game.policy import Message
from longvideo_env.schema import Question, Video

CHARACTERS_PER_TOKEN = 3.0
"""Used without a tokenizer. With Qwen's, English has about four, names and tags have fewer."""

N_ROLE_TOKENS = 8
"""Tokens that a chat template adds around a message."""

N_LOOK_TOKENS = 400
"""Tokens of a long reply by a vision agent, about a paragraph."""


@dataclass(frozen=True)
class Lengths:
    """Token counts over some questions.

    Attributes:
        n_questions: Number of questions counted.
        prompt_median: Median length of the first prompt, opened at the video's longest clip.
        prompt_max: Greatest length of the same prompt.
        observation_max: The most tokens that a turn adds besides the reply.
    """

    n_questions: int
    prompt_median: int
    prompt_max: int
    observation_max: int

    def episode_max(self, max_turns: int, max_turn_tokens: int) -> int:
        """The most tokens of an episode. Its last turn has no observation."""
        turns = max_turns * max_turn_tokens + (max_turns - 1) * self.observation_max
        return self.prompt_max + turns


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens without a tokenizer, rather too high than too low."""
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def count_lengths(
    dataset: Dataset, game: Game, count: Callable[[str], int], limit: int = 200
) -> Lengths:
    """Count the tokens of questions that are spread evenly over a dataset.

    Args:
        dataset: The questions and their videos.
        game: The game.
        count: Number of tokens of a text.
        limit: The most questions to count.
    """
    places = np.linspace(0, len(dataset.tasks) - 1, min(limit, len(dataset.tasks)))
    tasks = [dataset.tasks[int(place)] for place in places]
    longest = cache(lambda video_id: longest_window(dataset.videos[video_id], game))
    blocks = cache(lambda video_id: count(_block(dataset.videos[video_id], game)))
    prompts, observations = (
        [],
        [N_LOOK_TOKENS if any(not tool.moves for tool in game.offered) else 0],
    )
    n_options = {len(task.question.options) for task in tasks}
    schemas = {n: _schemas(game, n, count) for n in n_options}
    for task in tasks:
        question = task.question
        video = dataset.video(question)
        window = longest(question.video_id)
        messages = opening(question, video, window, game)
        said = sum(count(m["content"]) + N_ROLE_TOKENS for m in messages)
        prompts.append(said + schemas[len(question.options)])
        if any(tool.moves for tool in game.offered):
            observations.append(blocks(question.video_id) + 40)
    return Lengths(len(tasks), int(np.median(prompts)), max(prompts), max(observations))


def opening(question: Question, video: Video, window: tuple[str, ...], game: Game) -> list[Message]:
    """The messages of the first prompt, as in an episode."""
    messages: list[Message] = []
    if game.instructions:
        text = game.rules_text(len(question.options))
        messages.append({"role": "system", "content": text})
    text = game.opening_text(question, video, window)
    return [*messages, {"role": "user", "content": text}]


def longest_window(video: Video, game: Game) -> tuple[str, ...]:
    """The evidence window with the longest text."""
    windows = [video.window(clip_id, game.window) for clip_id in video.clip_ids]
    return max(windows, key=lambda window: len(game.view_text(video, window)))


def _schemas(game: Game, n_options: int, count: Callable[[str], int]) -> int:
    """Tokens of the tools that are offered beside the messages."""
    return sum(count(json.dumps(schema)) for schema in game.schemas(n_options))


def _block(video: Video, game: Game) -> str:
    return str(game.view_text(video, longest_window(video, game)))
