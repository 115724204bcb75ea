"""Draw the questions of a batch by how often they were answered right so far (`--curriculum`).

    curriculum = Curriculum(len(questions), seed=42)
    curriculum.draw(epoch=0, number=3, size=16)      # places of 16 different questions
    curriculum.count([(17, True), (17, False)])      # question 17 was played twice

A group whose rollouts are all right or all wrong teaches nothing. A question's weight is
4 p (1 - p) with p = (right + 1) / (played + 2): the "learnability" of SFL (arXiv 2408.15099). A
question that was never played has the full weight 1. The weight of a question that is always or
never right falls, but not below `FLOOR`, because the policy changes.

Draws depend on the seed, the batch and the counts so far. Every draw is saved. A resumed run
repeats the draws made before its checkpoint, including the batch that the data loader had fetched
ahead. It then continues with the checkpoint's counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from trl.trainer.utils import RepeatSampler

from longvideo_env.errors import DataError
from longvideo_env.seeding import derive_seed

FILE = "curriculum.json"
"""Its file in a checkpoint."""

FLOOR = 0.1
"""The least weight of a question."""


class Curriculum:
    """Counts of right rollouts, and the questions drawn with them.

    Args:
        n_questions: The number of questions.
        seed: The run's seed.
    """

    def __init__(self, n_questions: int, seed: int) -> None:
        self.right = np.zeros(n_questions, dtype=int)
        self.played = np.zeros(n_questions, dtype=int)
        self._seed = seed
        self._drawn: dict[str, list[int]] = {}

    @property
    def weights(self) -> np.ndarray:
        """The weight of each question in the draw, not normalized. Shape: (questions,)."""
        share = (self.right + 1) / (self.played + 2)
        return np.asarray(np.maximum(FLOOR, 4 * share * (1 - share)))

    def draw(self, epoch: int, number: int, size: int) -> list[int]:
        """Indices of the questions of one batch, all different. The same call repeats the draw."""
        key = f"{epoch}/{number}"
        if key not in self._drawn:
            rng = np.random.default_rng(derive_seed(self._seed, "curriculum", epoch, number))
            weights = self.weights
            drawn = rng.choice(len(weights), size, replace=False, p=weights / weights.sum())
            self._drawn[key] = [int(place) for place in drawn]
        return self._drawn[key]

    def count(self, outcomes: Iterable[tuple[int, bool]]) -> None:
        """Count episodes: the index of each one's question, and whether it was right."""
        for place, right in outcomes:
            self.played[place] += 1
            self.right[place] += right

    @property
    def figures(self) -> dict[str, float]:
        """The logged shares of questions: played, always right and never right so far."""
        met = self.played > 0
        share = self.right / np.maximum(1, self.played)
        return {
            "curriculum/met": float(met.mean()),
            "curriculum/always_right": float((met & (share == 1)).mean()),
            "curriculum/never_right": float((met & (share == 0)).mean()),
        }

    def save(self, folder: Path) -> None:
        """Write draws and counts beside a checkpoint's other files."""
        state = {
            "right": self.right.tolist(),
            "played": self.played.tolist(),
            "drawn": self._drawn,
        }
        (folder / FILE).write_text(json.dumps(state) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            DataError: The checkpoint has no such file, or the file is of other questions.
        """
        path = folder / FILE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            right, played = (np.array(state[key], dtype=int) for key in ("right", "played"))
            drawn = {str(key): [int(i) for i in places] for key, places in state["drawn"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"the curriculum cannot be read: {error}.",
                str(path),
                mend="resume without --curriculum, or from a checkpoint that was made with it.",
            ) from error
        if not len(right) == len(played) == len(self.right):
            raise DataError(
                f"the curriculum has {len(right)} questions, but the run has {len(self.right)}.",
                str(path),
                mend="resume with the same --dataset, --split and --limit.",
            )
        self.right, self.played, self._drawn = right, played, drawn


class CurriculumSampler(RepeatSampler):
    """TRL's repeated batches. The curriculum draws the questions of one batch at a time."""

    def __init__(self, *, curriculum: Curriculum, **options: Any) -> None:
        """The options are those of `RepeatSampler`."""
        super().__init__(**options, shuffle=False)
        self._curriculum = curriculum
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        for number in range(self.num_samples // self.batch_size):
            places = self._curriculum.draw(self._epoch, number, self.batch_size)
            for _ in range(self.repeat_count):
                for place in places:
                    yield from [place] * self.mini_repeat_count
