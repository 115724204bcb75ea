"""TRL's `GRPOTrainer` with exact resuming from a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate.utils import gather_object
from torch.utils.data import Sampler
from transformers.trainer_utils import TrainOutput
from trl import GRPOTrainer
from trl.generation import vllm_generation
from trl.trainer.utils import RepeatSampler

from agents.generation.seeing_codec import SeeingCodec
from longvideo_env.errors import SpecError
from longvideo_env.seeding import derive_seed
from train.curriculum import Curriculum, CurriculumSampler
from train.held_out import HeldOut
from train.rollouts.credit import Credit, Earned, earned_by_turns, turn_of_tokens
from train.rollouts.shown import shown_with
from train.served_adapter import ServedAdapter, no_weights_over_nccl
from train.whole_checkpoints import WholeCheckpoints


class EpochSampler(RepeatSampler):
    """TRL's order of questions, drawn for each epoch from the seed and the epoch only.

    TRL draws the orders of all epochs from one generator. A resumed run starts that generator
    again, so from the second epoch on it would get other questions than the interrupted run.
    """

    def __init__(self, *, seed: int, **options: Any) -> None:
        """The options are those of `RepeatSampler`."""
        super().__init__(seed=seed, **options)
        self._run_seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        if self.shuffle:
            self.generator.manual_seed(derive_seed(self._run_seed, "epoch", epoch))


class EpisodeTrainer(WholeCheckpoints, GRPOTrainer):
    """`GRPOTrainer` with a resumable order of questions, and with vLLM also on a CPU."""

    _order: EpochSampler | CurriculumSampler | None = None
    _scoring = False

    def __init__(
        self,
        *,
        args: Any,
        credit: Credit | None = None,
        held_out: HeldOut | None = None,
        curriculum: Curriculum | None = None,
        send_adapter: bool = False,
        **options: Any,
    ) -> None:
        """The options of `GRPOTrainer`, and this project's.

        Args:
            args: TRL's options.
            credit: How turns are credited.
            held_out: The evaluation that `evaluate` plays.
            curriculum: Draws the questions. By default each question occurs once per epoch.
            send_adapter: Whether to send only the LoRA adapter to a vLLM server, as files.
            options: Further options of `GRPOTrainer`.
        """
        self._curriculum = curriculum
        self._credit = credit
        self._held_out = held_out
        if args.use_vllm and args.vllm_mode == "colocate":
            from agents.generation.vllm_engine import engine_environment

            with engine_environment() as on_cpu, _eager_engine() if on_cpu else nullcontext():
                super().__init__(args=args, **options)
        else:
            on_cpu = False
            with no_weights_over_nccl() if send_adapter else nullcontext():
                super().__init__(args=args, **options)
        self.served = ServedAdapter(self) if send_adapter else None
        if args.use_vllm:
            vllm: Any = self.vllm_generation
            send = partial(reload_weights, vllm) if on_cpu else vllm.sync_weights
            if self.served is not None:
                send = self.served.send
            vllm.sync_weights = partial(self._sync_weights, send)

    def release_engine(self) -> None:
        """Shut down TRL's vLLM engine, before the process group ends.

        A server's adapter is unloaded.
        """
        if self.served is not None:
            self.served.close()
        if self.use_vllm and self.vllm_mode == "colocate":
            self.vllm_generation.llm.llm_engine.engine_core.shutdown()

    def _sync_weights(self, send: Callable[[], None]) -> None:
        start = time.perf_counter()
        send()
        rollouts: Any = self.rollout_func
        rollouts.stopwatch.sync_s += time.perf_counter() - start

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Play the held-out questions, and log the figures as `eval_accuracy` and so on."""
        if self._held_out is None:
            raise SpecError("there are no held-out questions. Fix: give --eval-strategy steps.")
        model: Any = self.model
        training = model.training
        model.eval()  # TRL also chooses its log by this
        try:
            figures = self._held_out.play(self)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
            self.log(metrics)
        finally:
            model.train(training)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        assert self.model is not None
        self._scoring = True
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self._scoring = False
        if self._sees:
            batch |= self._shown(torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1))
        if self._credit is not None and self.model.training:
            batch["advantages"] = self._by_turn(batch["advantages"], batch["completion_ids"])
        return batch

    @property
    def _sees(self) -> bool:
        rollouts: Any = self.rollout_func
        return isinstance(rollouts.codec, SeeingCodec)

    def _shown(self, input_ids: torch.Tensor) -> dict[str, Any]:
        rollouts: Any = self.rollout_func
        return shown_with(rollouts.codec, [played for played, _ in rollouts.played], input_ids)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, *args: Any, **options: Any
    ) -> Any:
        # TRL has no images of a rollout_func's episodes until the training batch is complete.
        if self._scoring and self._sees:
            options |= self._shown(input_ids)
        scored: Any = super()._get_per_token_logps_and_entropies  # it carries no annotations
        return scored(model, input_ids, *args, **options)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the policy, and the image processor of a policy that sees frames."""
        super().save_model(output_dir, _internal_call)
        args: Any = self.args
        rollouts: Any = self.rollout_func
        if args.should_save and self._sees:
            rollouts.codec.processor.save_pretrained(output_dir or args.output_dir)

    def _by_turn(self, advantages: torch.Tensor, completion_ids: torch.Tensor) -> torch.Tensor:
        """Expand advantages (B,) to (B, T) and add the turns' credit. A collective."""
        assert self._credit is not None
        rollouts: Any = self.rollout_func
        engine = rollouts.engine
        mine = [
            earned_by_turns(played, engine.dataset.task(played.qid), engine.game, group)
            for played, group in rollouts.played
        ]
        # Groups may span processes.
        start = self.accelerator.process_index * len(mine)
        everywhere: list[Earned | None] = gather_object(mine)
        added = self._credit.of(everywhere)[start : start + len(mine)]
        by_token = advantages.unsqueeze(1).repeat(1, completion_ids.size(1))
        for row, ((played, _), turns) in enumerate(zip(rollouts.played, added, strict=True)):
            if turns:
                extra = [turns[turn - 1] for turn in turn_of_tokens(played)]
                by_token[row, : len(extra)] += torch.tensor(extra[: by_token.size(1)]).to(by_token)
        known = sum(earned is not None for earned in everywhere) / max(1, len(everywhere))
        self._metrics["train"]["credit/share_of_episodes"].append(known)
        return by_token

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train. If it resumes from a checkpoint's folder, load the curriculum from there."""
        if self._curriculum is not None and isinstance(resume_from_checkpoint, str):
            self._curriculum.load(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _save_rng_state(self, output_dir: str) -> None:
        # Not after the checkpoint: its last file marks it as complete.
        args: Any = self.args
        if self._curriculum is not None and args.should_save:
            self._curriculum.save(Path(output_dir))
        super()._save_rng_state(output_dir)

    def _run_epoch(self, model: Any, epoch: Any, *args: Any, **options: Any) -> Any:
        # A resumed run skips the first batches. With several processes the loader's `set_epoch`
        # then reaches a wrapper, but not the sampler.
        if self._order is not None:
            self._order.set_epoch(epoch)
        run: Any = super()._run_epoch  # it carries no annotations
        return run(model, epoch, *args, **options)

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        args: Any = self.args  # the base class names the base class of its options
        source: Any = self.train_dataset if dataset is None else dataset
        repeats = {
            "mini_repeat_count": args.num_generations,
            "batch_size": args.generation_batch_size // args.num_generations,
            "repeat_count": args.num_iterations * args.steps_per_generation,
        }
        if self._curriculum is not None:
            self._order = CurriculumSampler(
                curriculum=self._curriculum, data_source=source, **repeats
            )
        else:
            self._order = EpochSampler(
                data_source=source, **repeats, shuffle=args.shuffle_dataset, seed=args.seed
            )
        return self._order


def reload_weights(vllm: Any) -> None:
    """Give the trainer's weights to TRL's engine in this process.

    On a CPU vLLM repacks weights after loading them. So they cannot be loaded in place, as TRL
    does. `reload_weights` unpacks them and packs them again.
    """
    runner = vllm.llm.llm_engine.model_executor.driver_worker.model_runner
    runner.reload_weights(weights_iterator=vllm._iter_named_params())
    if vllm.model.config.tie_word_embeddings:
        # The head has no weights of its own to reload, so its packed copy would keep the old ones.
        head = runner.get_model().lm_head
        head.quant_method.process_weights_after_loading(head)
    vllm.llm.reset_prefix_cache()


@contextmanager
def _eager_engine() -> Iterator[None]:
    """Make TRL build its engine for a CPU: without compiling, in float32.

    TRL has no options for this.
    """
    eager = partial(vllm_generation.LLM, enforce_eager=True, dtype="float32")
    with patch.object(vllm_generation, "LLM", eager):
        yield
