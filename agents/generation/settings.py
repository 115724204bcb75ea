"""Generation settings as plain values. Needs no torch, so command lines can show them."""

from __future__ import annotations

from dataclasses import dataclass, field

from longvideo_env.errors import SpecError
from longvideo_env.strict import check_fields

STOPS_TAKEN = 4
"""Maximum number of stop sequences of a server (OpenAI's limit, and vLLM's default)."""


@dataclass(frozen=True)
class GenerationSettings:
    """How a model generates replies.

    Raises:
        SpecError: A value is out of range.
    """

    max_turn_tokens: int = field(
        default=512, metadata={"help": "Most tokens a turn (the paper trains with 1500)."}
    )
    temperature: float = field(
        default=0.0, metadata={"help": "Sampling temperature; 0 takes the likeliest token."}
    )
    top_p: float = field(default=1.0, metadata={"help": "Nucleus sampling; 1 is off."})
    top_k: int = field(default=0, metadata={"help": "Sample from the k likeliest; 0 is off."})
    max_context_tokens: int | None = field(
        default=None,
        metadata={"help": "Most tokens of an episode; by default what the model can hold."},
    )
    max_batch_size: int = field(
        default=16, metadata={"help": "Most episodes in one batch of generation."}
    )

    max_model_len: int | None = field(
        default=None,
        metadata={
            "help": "vllm: the context that memory is kept for, in tokens; by default the model's."
        },
    )
    tensor_parallel_size: int = field(
        default=1, metadata={"help": "vllm: GPUs over which a model is spread."}
    )
    gpu_memory_utilization: float = field(
        default=0.9, metadata={"help": "vllm: share of a GPU's memory to use."}
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_turn_tokens < 1 or self.max_batch_size < 1:
            raise SpecError(
                "max_turn_tokens and max_batch_size must be at least 1, got "
                f"{self.max_turn_tokens} and {self.max_batch_size}."
            )
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise SpecError(
                "expected temperature >= 0, 0 < top_p <= 1 and top_k >= 0, got "
                f"{self.temperature}, {self.top_p} and {self.top_k}."
            )
        if self.tensor_parallel_size < 1 or not 0 < self.gpu_memory_utilization <= 1:
            raise SpecError(
                "expected tensor_parallel_size >= 1 and 0 < gpu_memory_utilization <= 1, got "
                f"{self.tensor_parallel_size} and {self.gpu_memory_utilization}."
            )
