"""Generation with transformers, shared by evaluation and training. Imports torch.

One call generates one batch of replies. Each row has its own random generator, stops on its own,
and returns exactly the tokens up to its stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from agents.generation.chat import ChatCodec
from agents.generation.seeing_codec import SeeingCodec
from agents.generation.settings import GenerationSettings
from longvideo_env.errors import PolicyError
from longvideo_env.game.policy import FinishReason, Reply
from longvideo_env.schema import FrameRef

__all__ = ["Generated", "GenerationSettings", "Unfinished", "generate_batch", "to_reply"]


@dataclass(frozen=True)
class Generated:
    """One generated reply.

    Attributes:
        token_ids: The sampled tokens, including the one that ended the reply.
        logprobs: Log-probability of each token at the sampling temperature (1 for greedy decoding),
            over all tokens, before top-k and top-p. A trainer gets the same from logits divided by
            the temperature.
        finish: Why the reply ended.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: FinishReason


@dataclass
class Unfinished:
    """An unfinished reply.

    Attributes:
        limit: Maximum number of tokens.
        token_ids: Tokens sampled so far.
        logprobs: See `Generated`.
        finish: Why it ended, or None.
    """

    limit: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason | None = None

    def done(self) -> Generated:
        """The finished reply."""
        return Generated(tuple(self.token_ids), tuple(self.logprobs), self.finish or "length")


@dataclass
class _Row(Unfinished):
    prompt: Sequence[int] = ()
    seed: int = 0
    frames: Sequence[FrameRef] = ()


def generate_batch(
    model: nn.Module,
    codec: ChatCodec,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    settings: GenerationSettings,
    *,
    synced_gpus: bool = False,
    abandoned: Callable[[], bool] = lambda: False,
    frames: Sequence[Sequence[FrameRef]] = (),
) -> list[Generated]:
    """Generate a reply to each prompt in one batch.

    A row stops at the model's end-of-turn or end-of-sequence token (which is kept), when an action
    is closed, or at its limit: `max_turn_tokens`, or the remaining context. If the prompt leaves no
    room, the reply is empty and its finish is `context`.

    A row's tokens depend only on its own prompt and seed, not on other rows. During the call the
    model is in evaluation mode, and its checkpoint's generation defaults are ignored.

    Args:
        model: A causal language model, or a wrapper around one (PEFT).
        codec: The model's codec.
        prompts: Token ids, one list per row.
        seeds: One seed per row.
        settings: Generation settings. `max_batch_size` is not used here.
        synced_gpus: For ZeRO-3 and FSDP: the call is then a collective of all ranks. A rank without
            rows takes part with a row of padding.
        abandoned: Called before each token. True ends the batch, because its replies are no longer
            needed.
        frames: The frames of each prompt, for a model that takes images; by default none.

    Raises:
        PolicyError: The model's logits are not finite, or the batch was abandoned.
    """
    inner = _find_generator(model)
    context = _context_tokens(inner, settings)
    rows = [
        _Row(min(settings.max_turn_tokens, context - len(prompt)), prompt=prompt, seed=seed)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    for row, seen in zip(rows, frames, strict=False):
        row.frames = seen
    for row in rows:
        row.finish = "context" if row.limit < 1 else None
    batch = [row for row in rows if row.finish is None]
    if synced_gpus and not batch:
        batch = [_Row(1, prompt=[codec.end_of_turn_id])]
    if batch:
        _run(inner, codec, batch, settings, synced_gpus, abandoned)
    return [row.done() for row in rows]


def check_finite(logprob: float, n_tokens: int) -> None:
    """Check that the model's output is finite.

    Raises:
        PolicyError: The log-probability after `n_tokens` tokens is not finite.
    """
    if not math.isfinite(logprob):
        raise PolicyError(
            f"the model's logits are not finite after {n_tokens} tokens: its weights are broken or "
            "training diverged. Fix: use an earlier checkpoint, or a dtype with a wider range."
        )


def to_reply(generated: Generated, codec: ChatCodec) -> Reply:
    """Convert a generated reply to a `Reply`."""
    reply = Reply(
        text=codec.decode(generated.token_ids),
        token_ids=generated.token_ids,
        logprobs=generated.logprobs,
        prefix=codec.reply_prefix,
        finish=generated.finish,
        message=codec.read(generated.token_ids),
    )
    return codec.cut(reply)


def _run(
    model: PreTrainedModel,
    codec: ChatCodec,
    rows: list[_Row],
    settings: GenerationSettings,
    synced_gpus: bool,
    abandoned: Callable[[], bool],
) -> None:
    """Generate; fills in tokens, log-probs and finish of the rows."""
    stop_ids = codec.stop_ids(model.generation_config.eos_token_id)
    pad_id = codec.tokenizer.pad_token_id
    pad_id = codec.end_of_turn_id if pad_id is None else pad_id
    input_ids, mask = _pad_left([row.prompt for row in rows], pad_id)
    config = GenerationConfig(
        do_sample=False,  # _Sampler draws
        max_new_tokens=max(row.limit for row in rows),
        eos_token_id=sorted(stop_ids),
        pad_token_id=pad_id,
    )
    unsayable = codec.unsayable if isinstance(codec, SeeingCodec) else ()
    sampler = _Sampler(rows, settings, model.device, unsayable)
    generator: Any = model  # no class is both a GenerationMixin and a PreTrainedModel for mypy
    with torch.no_grad(), _evaluating(model), _without_defaults(model):
        generator.generate(
            input_ids.to(model.device),
            attention_mask=mask.to(model.device),
            **_pictures(codec, rows, input_ids, model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([sampler]),
            stopping_criteria=StoppingCriteriaList([_Stopper(rows, codec, stop_ids, abandoned)]),
            synced_gpus=synced_gpus,
        )


def _pictures(
    codec: ChatCodec, rows: Sequence[_Row], input_ids: Tensor, device: torch.device
) -> dict[str, Tensor]:
    """Image inputs for a model that sees. Empty for others."""
    frames = [frame for row in rows for frame in row.frames]
    if not frames or not isinstance(codec, SeeingCodec):
        return {}
    inputs = codec.pictures(frames) | codec.token_types(input_ids)
    return {name: value.to(device) for name, value in inputs.items()}


class _Sampler(LogitsProcessor):
    """Draws each row's token with the row's own generator, and masks all other tokens.

    Sampling adds Gumbel noise to the logits and takes the maximum. This draws from their softmax.
    Unlike inversion of the cumulative sum, it is hardly affected by rounding of the logits.
    """

    def __init__(
        self,
        rows: list[_Row],
        settings: GenerationSettings,
        device: torch.device,
        unsayable: Sequence[int] = (),
    ) -> None:
        self._rows = rows
        self._unsayable = list(unsayable)
        self._settings = settings
        self._generators = [torch.Generator(device).manual_seed(row.seed) for row in rows]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Draw. Shape: (batch, tokens), (batch, vocabulary) -> (batch, vocabulary)."""
        greedy = self._settings.temperature == 0
        logits = scores if greedy else scores / self._settings.temperature
        sayable = logits
        if self._unsayable:
            sayable = logits.clone()
            sayable[:, self._unsayable] = -torch.inf
        if greedy:
            tokens = sayable.argmax(dim=-1, keepdim=True)
        else:
            kept = _keep_likely(sayable, self._settings.top_k, self._settings.top_p)
            tokens = (kept + self._noise(kept)).argmax(dim=-1, keepdim=True)
        logprobs = logits.gather(-1, tokens) - logits.logsumexp(dim=-1, keepdim=True)
        drawn = zip(tokens[:, 0].tolist(), logprobs[:, 0].tolist(), strict=True)
        for row, (token, logprob) in zip(self._rows, drawn, strict=True):
            if row.finish is None:
                check_finite(logprob, len(row.token_ids))
                row.token_ids.append(token)
                row.logprobs.append(logprob)
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens, 0.0)

    def _noise(self, logits: Tensor) -> Tensor:
        """Gumbel noise. No noise is drawn for finished rows."""
        noise = torch.ones_like(logits)
        for i, (row, generator) in enumerate(zip(self._rows, self._generators, strict=True)):
            if row.finish is None:
                noise[i].exponential_(generator=generator)
        return -noise.clamp_min_(torch.finfo(noise.dtype).tiny).log_()


class _Stopper(StoppingCriteria):
    """Decides for each row whether it is finished, and records why."""

    def __init__(
        self,
        rows: list[_Row],
        codec: ChatCodec,
        stop_ids: set[int],
        abandoned: Callable[[], bool],
    ) -> None:
        self._rows = rows
        self._codec = codec
        self._stop_ids = stop_ids
        self._abandoned = abandoned

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        """Check each row's newest token. Shape: (batch, tokens) -> (batch,)."""
        if self._abandoned():
            raise PolicyError("these replies were cancelled.")
        for row in self._rows:
            if row.finish is None:
                row.finish = self._reason(row)
        done = [row.finish is not None for row in self._rows]
        return torch.tensor(done, device=input_ids.device)

    def _reason(self, row: _Row) -> FinishReason | None:
        newest = row.token_ids[-1]
        if newest in self._stop_ids:
            return "end_of_turn"
        if self._codec.closes_action(row.token_ids):
            return "stop"
        return "length" if len(row.token_ids) >= row.limit else None


def _keep_likely(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set all but the most likely tokens to -inf. Shape: (batch, vocabulary)."""
    if 0 < top_k < logits.shape[-1]:
        smallest = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        # A token is kept if the tokens before it do not reach top_p. The first is always kept.
        beyond = probabilities.cumsum(dim=-1) - probabilities >= top_p
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
    return logits


def _pad_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask. Shape: (batch, tokens) each."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def _context_tokens(model: PreTrainedModel, settings: GenerationSettings) -> int:
    """Maximum number of tokens of prompt and reply together."""
    # The attribute is missing for architectures without a limit of positions.
    bound = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    bounds = [n for n in (settings.max_context_tokens, bound) if n is not None]
    return min(bounds, default=1 << 40)


def _find_generator(model: nn.Module) -> PreTrainedModel:
    """The module with `generate`: the model, or the one inside a wrapper such as PEFT's."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and isinstance(module, GenerationMixin):
            return module
    raise TypeError(f"expected a transformers model that generates, got {type(model).__name__}.")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout, key-value cache on) within the context, module by module."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _without_defaults(model: PreTrainedModel) -> Iterator[None]:
    """Ignore the checkpoint's generation defaults within the context.

    `generate` uses them for all unset options. Qwen's contain a repetition penalty.
    """
    defaults = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = defaults
