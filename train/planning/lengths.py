"""How many tokens the prompts and observations of real questions take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from longvideo_env.datasets import Dataset
from longvideo_env.game.policy import Message
from longvideo_env.game.rules import Rules
from longvideo_env.game.words.prompts import clips_block, question_prompt, system_prompt
from longvideo_env.schema import Question, Video

CHARACTERS_PER_TOKEN = 3.0
"""Where there is no tokenizer: English takes four of Qwen's, names and tags fewer."""

N_ROLE_TOKENS = 8
"""What a chat template writes around a message."""

N_LOOK_TOKENS = 400
"""A long reply of a vision agent: some are asked for a paragraph."""


@dataclass(frozen=True)
class Lengths:
    """Token counts over some questions.

    Attributes:
        n_questions: How many were counted.
        prompt_median: Of the first prompt, opened at the video's longest clip.
        prompt_max: The same.
        observation_max: The most that a turn adds besides the reply.
    """

    n_questions: int
    prompt_median: int
    prompt_max: int
    observation_max: int

    def episode_max(self, max_turns: int, max_turn_tokens: int) -> int:
        """The most tokens of an episode: the last turn has no observation."""
        turns = max_turns * max_turn_tokens + (max_turns - 1) * self.observation_max
        return self.prompt_max + turns


def estimate_tokens(text: str) -> int:
    """A number of tokens on the safe side, without a tokenizer."""
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def count_lengths(
    dataset: Dataset, rules: Rules, count: Callable[[str], int], limit: int = 200
) -> Lengths:
    """Count over questions spread evenly over a dataset.

    Args:
        dataset: The questions and their videos.
        rules: The rules of the game.
        count: Number of tokens of a text.
        limit: The most questions to count.
    """
    places = np.linspace(0, len(dataset.tasks) - 1, min(limit, len(dataset.tasks)))
    tasks = [dataset.tasks[int(place)] for place in places]
    longest = cache(lambda video_id: longest_window(dataset.videos[video_id], rules))
    blocks = cache(lambda video_id: count(_block(dataset.videos[video_id], rules)))
    prompts, observations = [], [N_LOOK_TOKENS if rules.can_look else 0]
    for task in tasks:
        question = task.question
        video = dataset.video(question)
        window = longest(question.video_id)
        prompts.append(
            sum(
                count(m["content"]) + N_ROLE_TOKENS for m in opening(question, video, window, rules)
            )
        )
        if rules.can_ground:
            observations.append(blocks(question.video_id) + 40)
    return Lengths(len(tasks), int(np.median(prompts)), max(prompts), max(observations))


def opening(
    question: Question, video: Video, window: tuple[str, ...], rules: Rules
) -> list[Message]:
    """The messages of the first prompt, as an episode writes them."""
    messages: list[Message] = []
    if rules.instructions:
        text = system_prompt(rules, len(question.options))
        messages.append({"role": "system", "content": text})
    text = question_prompt(question, video, window, rules)
    return [*messages, {"role": "user", "content": text}]


def longest_window(video: Video, rules: Rules) -> tuple[str, ...]:
    """The evidence window with most to read."""
    windows = [video.window(clip_id, rules.window) for clip_id in video.clip_ids]
    return max(windows, key=lambda window: len(clips_block(video, window, rules)))


def _block(video: Video, rules: Rules) -> str:
    return clips_block(video, longest_window(video, rules), rules)
