"""Generation by vLLM, shared by evaluation (the spec `vllm:PATH`) and training. Imports torch.

The engine is driven request by request (`add_request`, `step`), so a reply can start at any time
and stop on its own: continuous batching over all episodes. A reply stops as with transformers: at
the end-of-turn token, at the token that closes an action (not inside reasoning), or at its limit.
The request is removed before the engine's next step, so no token is generated after an action.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import torch

from agents.generation.batches import Generated, Unfinished, check_finite, to_reply
from agents.generation.chat import ChatCodec
from agents.generation.hf import load_codec, split_adapter
from agents.generation.settings import GenerationSettings
from longvideo_env.errors import InputError, MissingExtraError, PolicyError
from longvideo_env.game.policy import Codec, Context, FinishReason, Reply

CPU_SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Environment of vLLM on a CPU, unless set: 1 GiB of cache, and no threads bound to cores."""


@dataclass
class _Row(Unfinished):
    key: str = ""  # the engine's request id


class TokenEngine:
    """A vLLM engine that takes token ids and returns exactly the tokens of each reply.

    Log-probs are those of the sampling distribution. With top-k or top-p, they cover only the
    remaining tokens.

    Args:
        llm: A `vllm.LLM` made with `logprobs_mode="processed_logprobs"`.
        codec: The model's codec.
        settings: Generation settings.
        lora: A `LoRARequest` to apply to every reply, or None.
    """

    def __init__(
        self, llm: Any, codec: ChatCodec, settings: GenerationSettings, lora: Any = None
    ) -> None:
        self._engine = llm.llm_engine
        self._codec = codec
        self._settings = settings
        self._lora = lora
        config = self._engine.model_config
        defaults = config.try_get_generation_config()
        self._eos = defaults.get("eos_token_id")
        bounds = (settings.max_context_tokens, config.max_model_len)
        self._context = min(bound for bound in bounds if bound is not None)
        self._rows: dict[str, _Row] = {}
        self._counter = itertools.count()

    @property
    def busy(self) -> bool:
        """Whether a reply is unfinished."""
        return bool(self._rows)

    def add(self, prompt: Sequence[int], seed: int) -> str | None:
        """Start a reply.

        Returns:
            Its key, or None if the prompt leaves no room for it.
        """
        limit = min(self._settings.max_turn_tokens, self._context - len(prompt))
        if limit < 1:
            return None
        key = str(next(self._counter))
        internal = self._engine.add_request(
            key,
            {"prompt_token_ids": list(prompt)},
            self._sampling(limit, seed),
            lora_request=self._lora,
        )
        self._rows[key] = _Row(limit, key=internal)
        return key

    def step(self) -> dict[str, Generated]:
        """Generate one token for each unfinished reply. Returns finished replies by key."""
        done: dict[str, Generated] = {}
        for output in self._engine.step():
            row = self._rows.get(output.request_id)
            if row is None:
                continue
            self._append(row, output.outputs[0])
            if row.finish is not None:
                done[output.request_id] = row.done()
                if not output.finished:
                    self._engine.abort_request([row.key], internal=True)
                del self._rows[output.request_id]
        return done

    def abort(self, key: str) -> None:
        """Cancel a reply."""
        row = self._rows.pop(key, None)
        if row is not None:
            self._engine.abort_request([row.key], internal=True)

    def run(self, requests: Sequence[tuple[Sequence[int], int]]) -> list[Generated]:
        """Generate a reply to each (prompt, seed), in this thread."""
        keys = [self.add(prompt, seed) for prompt, seed in requests]
        done: dict[str, Generated] = {}
        while self.busy:
            done |= self.step()
        return [NO_ROOM if key is None else done[key] for key in keys]

    def _sampling(self, limit: int, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            top_k=self._settings.top_k,
            max_tokens=limit,
            seed=seed,
            stop_token_ids=sorted(self._codec.stop_ids(self._eos)),
            logprobs=0,  # only of the sampled token
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    def _append(self, row: _Row, delta: Any) -> None:
        """Append the new tokens, up to the one that ends the reply."""
        for token, logprobs in zip(delta.token_ids, delta.logprobs, strict=True):
            logprob = logprobs[token].logprob
            check_finite(logprob, len(row.token_ids))
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            row.finish = self._reason(row)
            if row.finish is not None:
                return
        if delta.finish_reason is not None:
            row.finish = "length" if delta.finish_reason == "length" else "end_of_turn"

    def _reason(self, row: _Row) -> FinishReason | None:
        if row.token_ids[-1] in self._codec.stop_ids(self._eos):
            return "end_of_turn"
        if self._codec.closes_action(row.token_ids):
            return "stop"
        return "length" if len(row.token_ids) >= row.limit else None


NO_ROOM = Generated((), (), "context")
"""The reply to a prompt that leaves no room for one."""


@dataclass(frozen=True)
class _Ask:
    prompt: Sequence[int]
    seed: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Generated]


class EngineThread:
    """Drives an engine in its own thread. Coroutines may request replies at any time.

    Args:
        engine: The engine. It must not be stepped elsewhere while replies are unfinished.

    Attributes:
        busy_s: Seconds spent in steps so far.
    """

    def __init__(self, engine: TokenEngine) -> None:
        self.busy_s = 0.0
        self._engine = engine
        self._inbox: SimpleQueue[_Ask | None] = SimpleQueue()
        self._asked: dict[str, _Ask] = {}
        self._device = torch.cuda.current_device() if torch.cuda.is_available() else None
        self._thread = Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    async def generate(self, prompt: Sequence[int], seed: int) -> Generated:
        """Generate a reply. An error of the engine is raised for every unfinished reply."""
        if not self._thread.is_alive():
            raise PolicyError("the engine was closed. Fix: build a new policy.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Generated] = loop.create_future()
        self._inbox.put(_Ask(prompt, seed, loop, future))
        return await future

    def close(self) -> None:
        """Stop the thread. Unfinished replies are cancelled."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        if self._device is not None:
            torch.cuda.set_device(self._device)  # the current device is a thread-local setting
        while self._take_in():
            self._drop_cancelled()
            start = time.perf_counter()
            try:
                done = self._engine.step() if self._engine.busy else {}
            except Exception as error:  # noqa: BLE001 - the boundary: each request gets the error
                self._give_up(error)
                continue
            self.busy_s += time.perf_counter() - start
            for key, generated in done.items():
                _resolve(self._asked.pop(key), generated)

    def _take_in(self) -> bool:
        """Start the requested replies. If there are none, wait for a request."""
        try:
            while (ask := self._inbox.get(block=not self._engine.busy)) is not None:
                try:
                    key = self._engine.add(ask.prompt, ask.seed)
                except Exception as error:  # noqa: BLE001 - of this request, such as a bad prompt
                    _reject(ask, error)
                    continue
                if key is None:
                    _resolve(ask, NO_ROOM)
                else:
                    self._asked[key] = ask
        except Empty:
            return True
        self._give_up(PolicyError("the engine was closed."))
        return False

    def _drop_cancelled(self) -> None:
        for key, ask in list(self._asked.items()):
            if ask.future.cancelled():
                self._engine.abort(key)
                del self._asked[key]

    def _give_up(self, error: Exception) -> None:
        for key, ask in self._asked.items():
            self._engine.abort(key)
            _reject(ask, error)
        self._asked.clear()


def _resolve(ask: _Ask, generated: Generated) -> None:
    ask.loop.call_soon_threadsafe(_set, ask.future, generated, None)


def _reject(ask: _Ask, error: Exception) -> None:
    ask.loop.call_soon_threadsafe(_set, ask.future, None, error)


def _set(
    future: asyncio.Future[Generated], value: Generated | None, error: Exception | None
) -> None:
    if future.done():  # the case if its episode was cancelled
        return
    if value is None:
        future.set_exception(error or RuntimeError("no reply"))
    else:
        future.set_result(value)


class VLLMPolicy:
    """A causal language model, run by vLLM. All episodes share its batches.

    Args:
        path: Folder of a model with its tokenizer, its id on the hub, or `mini-starter`. `+ADAPTER`
            adds the folder of a LoRA adapter.
        settings: Generation settings, including the memory to use.

    Raises:
        MissingExtraError: vllm is not installed.
        SpecError: No model can be loaded from the path, or its tokenizer has no chat template.
    """

    codec: Codec

    def __init__(self, path: str, settings: GenerationSettings | None = None) -> None:
        settings = settings or GenerationSettings()
        base, adapter = split_adapter(path)
        self._chat = load_codec(base, adapter)
        self.codec = self._chat
        self._llm: Any = _load(base, adapter, settings)
        engine = TokenEngine(self._llm, self._chat, settings, _lora_request(adapter))
        self._thread = EngineThread(engine)

    async def act(self, context: Context, /) -> Reply:
        """Generate a reply to the context.

        Raises:
            PolicyError: Generation failed.
        """
        try:
            generated = await self._thread.generate(context.token_ids, context.seed)
        except PolicyError as error:
            raise PolicyError(str(error)) from error  # a separate error for each coroutine
        except Exception as error:
            raise PolicyError(f"vLLM failed: {type(error).__name__}: {error}") from error
        return to_reply(generated, self._chat)

    async def aclose(self) -> None:
        """Free the engine's memory for the next checkpoint."""
        from vllm.distributed import cleanup_dist_env_and_memory

        await asyncio.to_thread(self._thread.close)
        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        gc.collect()
        cleanup_dist_env_and_memory()


@contextmanager
def engine_environment() -> Iterator[bool]:
    """Set the environment for creating an engine. Yields whether it will run on a CPU."""
    if torch.cuda.is_available():
        yield False
        return
    for name, value in CPU_SETTINGS.items():
        os.environ.setdefault(name, value)
    # On a CPU vLLM inspects the attributes of all modules. One of llvmlite's (imported by numba,
    # and so by bm25s) claims to have every attribute.
    hidden = sys.modules.pop("llvmlite.binding.ffi", None)
    try:
        yield True
    finally:
        if hidden is not None:
            sys.modules["llvmlite.binding.ffi"] = hidden


def _load(base: str, adapter: str | None, settings: GenerationSettings) -> Any:
    try:
        from vllm import LLM
    except ImportError as error:
        raise MissingExtraError("vllm", "vllm") from error
    options: dict[str, Any] = {}
    if adapter is not None:
        options |= {"enable_lora": True, "max_lora_rank": _lora_rank(adapter)}
    try:
        with engine_environment() as on_cpu:
            if on_cpu:
                options |= {"dtype": "float32", "enforce_eager": True}
            return LLM(
                model=base,
                max_model_len=settings.max_model_len or settings.max_context_tokens,
                tensor_parallel_size=settings.tensor_parallel_size,
                gpu_memory_utilization=settings.gpu_memory_utilization,
                enable_prefix_caching=True,
                logprobs_mode="processed_logprobs",
                disable_log_stats=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"vLLM cannot load {base!r}: {' '.join(str(error).split())}") from error


def _lora_rank(adapter: str) -> int:
    config = json.loads(Path(adapter, "adapter_config.json").read_text(encoding="utf-8"))
    # vLLM only supports these ranks. An adapter fits the next larger one.
    return next(size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= config["r"])


def _lora_request(adapter: str | None) -> Any:
    if adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(Path(adapter).name, 1, adapter)
