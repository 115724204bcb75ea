"""TRL's `GRPOTrainer`, made to go on from a checkpoint exactly where it was."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Sampler
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from longvideo_env.seeding import derive_seed


class EpochSampler(RepeatSampler):
    """TRL's order of questions, drawn for each epoch from the seed and the epoch alone.

    TRL draws each epoch's order from one generator, which a resumed run starts again: from the
    second epoch on it would see other questions than the run that was interrupted.
    """

    def __init__(self, *, seed: int, **options: Any) -> None:
        """The options are those of `RepeatSampler`."""
        super().__init__(seed=seed, **options)
        self._run_seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        if self.shuffle:
            self.generator.manual_seed(derive_seed(self._run_seed, "epoch", epoch))


class EpisodeTrainer(GRPOTrainer):
    """`GRPOTrainer` with a resumable order of questions."""

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        args: Any = self.args  # the base class names the base class of its options
        return EpochSampler(
            data_source=self.train_dataset if dataset is None else dataset,
            mini_repeat_count=args.num_generations,
            batch_size=args.generation_batch_size // args.num_generations,
            repeat_count=args.num_iterations * args.steps_per_generation,
            shuffle=args.shuffle_dataset,
            seed=args.seed,
        )
