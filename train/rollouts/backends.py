"""Generation for the trainer: transformers, a vLLM engine in this process, or a vLLM server.

A backend has a policy, which the rollout engine asks for replies. For each batch of episodes it
gives a player, which plays them with the trainer's current weights.

| backend | generates | episodes |
|---|---|---|
| `TransformersBackend` | with the trainer's model, in the trainer's thread | overlapped; in lockstep on demand, and if each forward is a collective |
| `ColocateBackend` | with TRL's vLLM engine, token by token, in its own thread | overlapped; in lockstep if one engine spans several processes |
| `ServerBackend` | with requests of token ids to a vLLM server | overlapped |

With every backend each process plays its own rows, so all processes have equally many.
"""  # noqa: E501 - a table

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from accelerate.logging import get_logger
from trl.distributed import DistributedBackend
from trl.models import unwrap_model_for_generation

from agents.generation.batches import generate_batch, to_reply
from agents.generation.chat import ChatCodec
from agents.generation.settings import GenerationSettings
from longvideo_env.game.policy import Policy, Reply
from longvideo_env.records.trajectory import Trajectory
from train.rollouts.lockstep import LockstepPolicy
from train.rollouts.overlapped import Request, Start
from train.rollouts.streaming import StreamingPolicy

if TYPE_CHECKING:
    from agents.generation.vllm_engine import EngineThread, TokenEngine
    from agents.generation.vllm_server import VLLMServer

logger = get_logger(__name__)


class Player(Protocol):
    """Plays episodes with the trainer's current weights.

    Attributes:
        busy_s: Seconds of generation so far.
    """

    @property
    def busy_s(self) -> float:
        """Seconds of generation so far."""
        ...

    def play(self, episodes: Sequence[Start]) -> list[Trajectory]:
        """Play all, and return their trajectories in order."""
        ...


class Backend(Protocol):
    """Generation for a trainer.

    Attributes:
        has_logprobs: Whether it returns log-probs because its engine is not the trainer's. TRL
            needs them for importance sampling.
    """

    has_logprobs: bool

    @property
    def policy(self) -> Policy:
        """The policy that the rollout engine asks for replies."""
        ...

    def open(self, trainer: Any) -> AbstractContextManager[Player]:
        """Get ready to generate, once for a whole batch of episodes."""
        ...


class TransformersBackend:
    """Generates with the trainer's model.

    Args:
        codec: The policy's.
        settings: How replies are drawn.
        concurrency: The most episodes in flight at once.
        overlap: Generate while other episodes wait for their tools.
    """

    has_logprobs = False

    def __init__(
        self,
        codec: ChatCodec,
        settings: GenerationSettings,
        concurrency: int = 64,
        *,
        overlap: bool = True,
    ) -> None:
        self.policy = LockstepPolicy(codec, concurrency)
        self._codec = codec
        self._settings = settings
        self._overlap = overlap
        self._told = False

    @contextmanager
    def open(self, trainer: Any) -> Iterator[Player]:
        """Gather or unwrap the trainer's model.

        Under ZeRO-3 with `ds3_gather_for_generation` the weights are gathered on entering.
        Generation is then local, and the processes synchronize on leaving. Without this option, and
        under FSDP, each forward is a collective, and all processes play in lockstep.
        """
        args, accelerator = trainer.args, trainer.accelerator
        distributed = DistributedBackend(accelerator)
        sharded = distributed.is_fsdp or (
            distributed.is_zero3 and not args.ds3_gather_for_generation
        )
        collective = sharded and accelerator.num_processes > 1
        if collective and self._overlap and not self._told:
            self._told = True
            logger.warning("Weights stay sharded during generation: rollouts run in lockstep.")
        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                accelerator,
                gather_deepspeed3_params=args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
            ) as model,
            distributed.summon_full_params(trainer.model_wrapped, recurse=False),
        ):
            generator = _Generator(model, accelerator, self._codec, self._settings, collective)
            yield _Rounds(
                self.policy,
                generator.generate,
                generator.agree,
                overlap=self._overlap and not collective,
            )


class ColocateBackend:
    """Generates with the vLLM engine that TRL keeps in this process.

    Args:
        codec: The policy's.
        settings: How replies are drawn.
        concurrency: The most episodes in flight at once.
        tensor_parallel_size: Processes that share one engine. If there are several, they must step
            it together, so episodes are played in lockstep.
    """

    has_logprobs = True

    def __init__(
        self,
        codec: ChatCodec,
        settings: GenerationSettings,
        concurrency: int = 64,
        tensor_parallel_size: int = 1,
    ) -> None:
        self._codec = codec
        self._settings = settings
        self._shared = tensor_parallel_size > 1
        self._streaming = StreamingPolicy(codec, concurrency)
        self._lockstep = LockstepPolicy(codec, concurrency)
        self.policy: Policy = self._lockstep if self._shared else self._streaming
        self._engine: TokenEngine | None = None
        self._thread: EngineThread | None = None
        if self._shared:
            logger.warning("One vLLM engine on several GPUs: rollouts run in lockstep.")

    @contextmanager
    def open(self, trainer: Any) -> Iterator[Player]:
        """Wake the engine if it sleeps during training. TRL has already loaded the weights."""
        vllm = trainer.vllm_generation
        if vllm.enable_sleep_mode:
            if vllm._llm_weights_sleeping:
                vllm.sync_weights()
            vllm.llm.wake_up(tags=["kv_cache"])
        try:
            yield self._player(trainer, vllm)
        finally:
            if vllm.enable_sleep_mode:
                vllm.llm.sleep(level=2)
                vllm._llm_weights_sleeping = True

    def _player(self, trainer: Any, vllm: Any) -> Player:
        from agents.generation.vllm_engine import EngineThread, TokenEngine

        if self._engine is None:
            self._engine = TokenEngine(vllm.llm, self._codec, self._settings)
        if self._shared:
            shared = _SharedEngine(self._engine, self._codec, vllm.tp_group, trainer.accelerator)
            return _Rounds(self._lockstep, shared.generate, shared.agree)
        if self._thread is None:
            self._thread = EngineThread(self._engine)
        thread = self._thread

        async def generate(request: Request) -> Reply:
            generated = await thread.generate(request.token_ids, request.seed)
            return to_reply(generated, self._codec)

        return _Stream(self._streaming, generate, lambda: thread.busy_s)


class ServerBackend:
    """Generates with a vLLM server. TRL sends it the weights.

    Args:
        codec: The policy's.
        settings: How replies are drawn.
        base_url: The server's address, such as `http://host:8000`.
        concurrency: The most episodes in flight at once in this process. Each has one request at a
            time.
    """

    has_logprobs = True

    def __init__(
        self,
        codec: ChatCodec,
        settings: GenerationSettings,
        base_url: str,
        concurrency: int = 64,
    ) -> None:
        self.policy = StreamingPolicy(codec, concurrency)
        self._codec = codec
        self._settings = settings
        self._base_url = base_url
        self._server: VLLMServer | None = None

    @contextmanager
    def open(self, trainer: Any) -> Iterator[Player]:
        """Wait until the server has the weights."""
        from agents.generation.vllm_server import VLLMServer

        # Only the main process sends the weights. The others must wait for it.
        trainer.accelerator.wait_for_everyone()
        if self._server is None:
            eos = trainer.model.generation_config.eos_token_id
            self._server = VLLMServer(self._base_url, self._codec, self._settings, eos)
        server = self._server
        if trainer.served is not None:
            server.adapter = trainer.served.name

        async def generate(request: Request) -> Reply:
            generated = await server.generate(request.token_ids, request.seed)
            return to_reply(generated, self._codec)

        yield _Stream(self.policy, generate, lambda: server.busy_s)


@dataclass
class _Rounds:
    """Plays episodes whose replies are generated in batches."""

    policy: LockstepPolicy
    generate: Callable[[Sequence[Request]], Sequence[Reply]]
    agree: Callable[[bool], bool]
    overlap: bool = False
    busy_s: float = field(default=0.0, init=False)

    def play(self, episodes: Sequence[Start]) -> list[Trajectory]:
        return self.policy.play(episodes, self._timed, self.agree, overlap=self.overlap)

    def _timed(self, requests: Sequence[Request]) -> Sequence[Reply]:
        start = time.perf_counter()
        try:
            return self.generate(requests)
        finally:
            self.busy_s += time.perf_counter() - start


class _Stream:
    """Plays episodes whose replies are generated one by one."""

    def __init__(self, policy: StreamingPolicy, generate: Any, busy_s: Callable[[], float]) -> None:
        self._policy = policy
        self._generate = generate
        self._busy_s = busy_s
        self._before = busy_s()

    @property
    def busy_s(self) -> float:
        return self._busy_s() - self._before

    def play(self, episodes: Sequence[Start]) -> list[Trajectory]:
        return self._policy.play(episodes, self._generate)


@dataclass(frozen=True)
class _Generator:
    """Generates with the trainer's model.

    Attributes:
        collective: Whether each forward gathers weights from all processes. All processes must then
            run the same number of rounds, and the same number of forwards in a round.
    """

    model: torch.nn.Module
    accelerator: Any
    codec: ChatCodec
    settings: GenerationSettings
    collective: bool

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Generate one batch. Without requests, take part in the other processes' round."""
        with self.accelerator.autocast():  # as for TRL's log-probabilities
            generated = generate_batch(
                self.model,
                self.codec,
                [request.token_ids for request in requests],
                [request.seed for request in requests],
                self.settings,
                synced_gpus=self.collective,
                frames=[request.frames for request in requests],
            )
        return [to_reply(reply, self.codec) for reply in generated]

    def agree(self, more: bool) -> bool:
        """Whether any process has requests left."""
        return _agree(self.accelerator, more) if self.collective else more


@dataclass(frozen=True)
class _SharedEngine:
    """One vLLM engine over several processes. All of them run the same requests."""

    engine: TokenEngine
    codec: ChatCodec
    group: Any
    accelerator: Any

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Generate one batch of the whole group. This process keeps its own part."""
        size = torch.distributed.get_world_size(self.group)
        mine = torch.distributed.get_rank(self.group)
        parts: list[Any] = [None] * size
        torch.distributed.all_gather_object(
            parts, [(request.token_ids, request.seed) for request in requests], group=self.group
        )
        generated = self.engine.run([request for part in parts for request in part])
        start = sum(len(part) for part in parts[:mine])
        own = generated[start : start + len(requests)]
        return [to_reply(reply, self.codec) for reply in own]

    def agree(self, more: bool) -> bool:
        """Whether any process has requests left."""
        return _agree(self.accelerator, more)


def _agree(accelerator: Any, more: bool) -> bool:
    left = torch.tensor(int(more), device=accelerator.device)
    return bool(accelerator.reduce(left, reduction="sum").item())
