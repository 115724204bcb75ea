"""A master policy on transformers: the spec `hf:PATH`, or `hf:BASE+ADAPTER` for a LoRA adapter.

Importing this module needs no extra.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agents.generation.chat import ChatCodec
from agents.generation.model_files import adapter_parts, check_adapter, check_path
from agents.generation.seeing_codec import SeeingCodec, takes_images
from agents.generation.settings import GenerationSettings
from agents.policies.starter import resolve_model
from longvideo_env.errors import InputError, MissingExtraError, PolicyError, SpecError
from longvideo_env.game.policy import Codec, Context, Reply
from longvideo_env.schema import FrameRef

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")
R = TypeVar("R")

_QUIET_TICKS = 3
_PROBE = "<answer>a0</answer>"


class MicroBatcher(Generic[T, R]):
    """Combines single requests into batches. Requests that are ready together run together.

    Batches run one after another in a separate thread, so the event loop can continue with tools
    and other episodes.

    Args:
        run: Takes a batch and returns one result per request, in order.
        max_batch_size: Maximum number of requests in a batch.
    """

    def __init__(self, run: Callable[[list[T]], Sequence[R]], max_batch_size: int) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._running: Sequence[asyncio.Future[R]] = ()

    def abandoned(self) -> bool:
        """Whether all requests of the running batch were cancelled. Called by its thread."""
        return all(future.done() for future in self._running)

    async def submit(self, request: T) -> R:
        """Run a request in the next batch with room.

        Raises:
            PolicyError: The batch failed, or the batcher is closed.
        """
        if self._closed:
            raise PolicyError("the policy is closed. Fix: build a new one.")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        return await future

    async def aclose(self) -> None:
        """Finish the pending requests, then end the thread."""
        self._closed = True
        if self._worker is not None and not self._worker.done():
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        while self._waiting:
            await self._let_others_join()
            size = min(len(self._waiting), self._max_batch_size)
            batch = [self._waiting.popleft() for _ in range(size)]
            # Skip requests that were cancelled in the meantime.
            batch = [(request, future) for request, future in batch if not future.done()]
            if batch:
                await self._run_batch(batch)

    async def _let_others_join(self) -> None:
        """Let all ready coroutines run until they have submitted or must wait."""
        quiet = 0
        while quiet < _QUIET_TICKS and len(self._waiting) < self._max_batch_size:
            before = len(self._waiting)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == before else 0

    async def _run_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        requests = [request for request, _ in batch]
        self._running = [future for _, future in batch]
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._run, requests)
            paired = list(zip(batch, results, strict=True))
        except Exception as error:  # noqa: BLE001 - the boundary: each request gets the error
            for _, future in batch:
                if not future.done():
                    future.set_exception(_batch_error(error, len(batch)))
            return
        for (_, future), result in paired:
            if not future.done():
                future.set_result(result)


class HFPolicy:
    """A causal language model, run by transformers in this process.

    Requests that are ready together are generated in one batch. A reply depends on its own context
    and seed, not on the batch, as far as the device gives equal results for other batch shapes. In
    float32 on a CPU the tokens are identical.

    Args:
        path: Folder of a model with its tokenizer, its id on the hub, or `mini-starter`. `+ADAPTER`
            adds the folder of a LoRA adapter.
        settings: Generation settings.
        device: Such as `cuda:0`; by default a GPU if there is one.
        dtype: Such as `bfloat16`; by default the checkpoint's own on a GPU, and float32 on a CPU.

    Raises:
        MissingExtraError: transformers is not installed.
        SpecError: No model can be loaded from the path, or its tokenizer has no chat template.
    """

    codec: Codec

    def __init__(
        self,
        path: str | Path,
        settings: GenerationSettings | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self._settings = settings or GenerationSettings()
        model, self._chat = load_model(path, device=device, dtype=dtype)
        self._model: PreTrainedModel | None = model
        self._base = split_adapter(str(path))[0]
        self.codec = self._chat
        self._batcher = MicroBatcher(self._generate, self._settings.max_batch_size)

    async def act(self, context: Context, /) -> Reply:
        """Generate a reply to the context.

        Raises:
            PolicyError: Generation failed.
        """
        return await self._batcher.submit((context.token_ids, context.seed, context.frames))

    def see(self, resolution: int) -> None:
        """Use the frames of messages as images.

        Raises:
            SpecError: The model takes no images, or its processor is missing.
        """
        if not isinstance(self._chat, SeeingCodec):
            self._chat = self.codec = SeeingCodec.of(self._base)
        self._chat.resolution = resolution

    async def aclose(self) -> None:
        """Finish the unfinished replies and free the model's memory."""
        import torch

        await self._batcher.aclose()
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _generate(self, requests: list[tuple[list[int], int, tuple[FrameRef, ...]]]) -> list[Reply]:
        from agents.generation.batches import generate_batch, to_reply

        assert self._model is not None, "the batcher runs no batch after closing"
        prompts = [prompt for prompt, _, _ in requests]
        seeds = [seed for _, seed, _ in requests]
        replies = generate_batch(
            self._model,
            self._chat,
            prompts,
            seeds,
            self._settings,
            abandoned=self._batcher.abandoned,
            frames=[frames for _, _, frames in requests],
        )
        return [to_reply(generated, self._chat) for generated in replies]


def load_model(
    path: str | Path, *, device: str | None = None, dtype: str | None = None
) -> tuple[PreTrainedModel, ChatCodec]:
    """Load a causal language model for generation, and its tokenizer as a codec.

    Raises:
        MissingExtraError: transformers is not installed.
        SpecError: No model can be loaded from the path, or its tokenizer has no chat template.
    """
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError("transformers", "train") from error
    base, adapter = split_adapter(str(path))
    if Path(base).is_dir():  # a download may take long, and keeps its bar
        logging.disable_progress_bar()
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype is None:
        dtype = "float32" if device == "cpu" else "auto"
    codec = load_codec(base, adapter)
    try:
        kind = AutoModelForImageTextToText if takes_images(base) else AutoModelForCausalLM
        loaded: Any = kind.from_pretrained(  # annotated as the model only
            base, dtype=dtype, output_loading_info=True, use_safetensors=True
        )
        model, loading = loaded
        if adapter is not None:
            model = _apply_adapter(model, adapter)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise _cannot_load(str(path), error) from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise InputError(
            f"the model in {base!r} lacks {len(missing)} of its weights, such as "
            f"{missing[0]}. Fix: copy or save the model again."
        )
    model.to(device).eval()
    return model, codec


def load_codec(base: str, adapter: str | None = None) -> ChatCodec:
    """The tokenizer of a model as a codec. If the adapter has its own tokenizer, that one.

    Raises:
        MissingExtraError: transformers is not installed.
        SpecError: There is no tokenizer, or it has no chat template or vocabulary.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "train") from error
    check_path(base)
    path = base
    if adapter is not None and Path(adapter, "tokenizer_config.json").is_file():
        path = adapter
    try:
        codec = ChatCodec(AutoTokenizer.from_pretrained(path))
    except SpecError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise _cannot_load(path, error) from error
    if codec.decode(codec.encode(_PROBE)).strip() != _PROBE:
        # transformers creates an empty tokenizer if its file is missing.
        raise InputError(
            f"the tokenizer in {path!r} cannot write {_PROBE!r}: its vocabulary is missing. "
            "Fix: copy or save the tokenizer again."
        )
    return codec


def split_adapter(path: str) -> tuple[str, str | None]:
    """Split `BASE+ADAPTER` into base model and adapter folder.

    The adapter is None for a plain path.

    Raises:
        SpecError: The part after `+` is not the folder of an adapter.
    """
    base, adapter = adapter_parts(path)
    if adapter is not None:
        check_adapter(adapter)
    return resolve_model(base), adapter


def _apply_adapter(model: Any, adapter: str) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    # Merged, so that a forward pass costs the same as without the adapter.
    return PeftModel.from_pretrained(model, adapter).merge_and_unload()


def _cannot_load(path: str, error: Exception) -> InputError:
    return InputError(
        f"no model can be loaded from {path!r}: {error} Fix: pass a folder with a complete model "
        "and its tokenizer, as `save_pretrained` writes it."
    )


def _batch_error(error: Exception, size: int) -> PolicyError:
    """A separate error for each request of a batch: each is raised in another coroutine."""
    if isinstance(error, PolicyError):
        problem = PolicyError(str(error))
    else:
        name = type(error).__name__
        problem = PolicyError(f"generating a batch of {size} failed: {name}: {error}")
    problem.__cause__ = error
    return problem
