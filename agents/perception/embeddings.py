"""Text embeddings for search by meaning: an ONNX folder, or a sentence-transformers model.

    embedder = open_embedder("models/minilm")    # holds model.onnx and tokenizer.json
    vectors = embedder.embed(["He found the key."])    # unit vectors. Shape: (1, 384)

A folder with `model.onnx` runs on onnxruntime, without torch (extra `embed`). Token vectors are
averaged, as MiniLM, MPNet, E5 and GTE require. Any other name uses sentence-transformers, if
installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from longvideo_env.errors import InputError, MissingExtraError, SpecError
from longvideo_env.records.files import cache_root
from longvideo_env.records.identity import digest_file, digest_folder, short_hash

BATCH = 32
MOST_TOKENS = 256
_ONNX = ("model.onnx", "onnx/model.onnx")
_TOKENIZER = "tokenizer.json"
AT_HAND = ("sentence-transformers/all-MiniLM-L6-v2", "Xenova/all-MiniLM-L6-v2")
"""Models that `model_at_hand` looks for in the hub's cache."""


class Embedder(Protocol):
    """Turns texts into vectors.

    Attributes:
        digest: Embedders with equal digests give equal vectors.
    """

    digest: str

    def __hash__(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors. Shape: (texts, width)."""
        ...


class OnnxEmbedder:
    """An ONNX model with its tokenizer. Texts are truncated to 256 tokens.

    Raises:
        SpecError: The folder has no such model.
        MissingExtraError: onnxruntime or tokenizers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError(error.name or "onnxruntime", "embed") from error
        model = next(folder / name for name in _ONNX if (folder / name).is_file())
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
            session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(
                f"embed: the model in {folder} cannot be loaded ({error!s:.200}). "
                "Fix: pass a folder with model.onnx and tokenizer.json."
            ) from error
        self._session: Any = session
        self._tokenizer.enable_truncation(MOST_TOKENS)
        self._tokenizer.enable_padding()
        self._inputs = {item.name for item in session.get_inputs()}
        self.digest = short_hash(f"{digest_folder(folder)} {digest_file(model)} {MOST_TOKENS}")

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors. Shape: (texts, width)."""
        # Sorted by length, for less padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: dict[int, np.ndarray] = {}
        for at in range(0, len(order), BATCH):
            some = order[at : at + BATCH]
            found.update(zip(some, self._embed([texts[i] for i in some]), strict=True))
        return np.stack([found[i] for i in range(len(texts))]) if texts else np.zeros((0, 0))

    def _embed(self, texts: list[str]) -> np.ndarray:
        encoded = self._tokenizer.encode_batch(texts)
        mask = np.asarray([one.attention_mask for one in encoded], dtype=np.int64)
        given = {
            "input_ids": np.asarray([one.ids for one in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        (out, *_) = self._session.run(None, {k: v for k, v in given.items() if k in self._inputs})
        vectors = np.asarray(out, dtype=np.float32)
        if vectors.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            vectors = (vectors * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
        return _unit(vectors)


class SentenceEmbedder:
    """A model of sentence-transformers: a folder, or an id on the hub.

    Raises:
        SpecError: There is no such model.
        MissingExtraError: sentence-transformers is not installed.
    """

    def __init__(self, name: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise SpecError(
                f"embed: {name!r} is not a folder with model.onnx and tokenizer.json, and "
                "sentence-transformers is not installed. Fix: pass such a folder, or pip install "
                "sentence-transformers."
            ) from error
        try:
            self._model: Any = SentenceTransformer(name)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"embed: no model {name!r} ({error!s:.200}).") from error
        self.digest = short_hash(
            digest_folder(name) if Path(name).is_dir() else f"sentence-transformers {name}"
        )

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors. Shape: (texts, width)."""
        return _unit(np.asarray(self._model.encode(list(texts), show_progress_bar=False)))


def model_at_hand() -> str:
    """The folder of a model in the hub's cache, without a download.

    Raises:
        SpecError: There is no such model.
        MissingExtraError: onnxruntime or tokenizers is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import tokenizers  # noqa: F401
        from huggingface_hub import try_to_load_from_cache
    except ImportError as error:
        raise MissingExtraError(error.name or "onnxruntime", "embed") from error
    for name in AT_HAND:
        for file in _ONNX:
            model = try_to_load_from_cache(name, file)
            tokenizer = try_to_load_from_cache(name, _TOKENIZER)
            if isinstance(model, str) and isinstance(tokenizer, str):
                return str(Path(tokenizer).parent)
    raise InputError(
        f"no embedding model is installed. Fix: hf download {AT_HAND[0]} onnx/model.onnx "
        "tokenizer.json, or --meaning FOLDER."
    )


@lru_cache(maxsize=2)
def open_embedder(name: str) -> Embedder:
    """The model of a folder or name.

    Raises:
        SpecError: There is no such model.
        MissingExtraError: A library is not installed.
    """
    if not name:
        raise SpecError("expected embed:MODEL, with a model's folder or its name on the hub.")
    folder = Path(name).expanduser()
    if any((folder / file).is_file() for file in _ONNX):
        return OnnxEmbedder(folder)
    return SentenceEmbedder(name)


def embed_cached(embedder: Embedder, texts: Sequence[str]) -> np.ndarray:
    """The vectors of texts, cached on disk. Shape: (texts, width)."""
    name = short_hash("\x1f".join([embedder.digest, *texts]))
    file = cache_root() / "embeddings" / f"{name}.npy"
    try:
        vectors = np.load(file)
        if len(vectors) == len(texts):
            return np.asarray(vectors)
    except (OSError, ValueError):
        pass
    vectors = embedder.embed(texts)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(partial := file.with_suffix(f".{id(vectors)}.partial"), "wb") as target:
            np.save(target, vectors)
        partial.replace(file)
    except OSError:
        pass  # without the cache it only takes longer
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
