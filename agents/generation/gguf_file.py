"""Converts GGUF files, llama.cpp's single-file models, into model folders.

    folder = gguf_folder("models/smollm2.Q4_1.gguf")      # converted once, then from the cache
    convert_gguf("models/smollm2.Q4_1.gguf", "runs/real")  # into a folder of your own

Weights become bfloat16. The end and padding tokens are set from the file's metadata, because
transformers 5.17 guesses them from other models of the same architecture.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvideo_env.errors import InputError, MissingExtraError
from longvideo_env.records.cached_folder import cached_folder, digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_VERSION = 1
"""Version of the conversion. Folders of another version are made again."""


def gguf_folder(path: str | Path) -> Path:
    """The folder of a converted GGUF file. Made at the first call and cached.

    Raises:
        MissingExtraError: transformers or gguf is not installed.
        SpecError: There is no such file, or transformers cannot read its model.
    """
    file = Path(path).expanduser().resolve()
    try:
        stat = file.stat()
    except OSError as error:
        raise InputError(f"there is no GGUF file {path}. Fix: check the path.") from error
    state = digest(_VERSION, str(file), stat.st_size, stat.st_mtime_ns)
    return cached_folder(f"gguf-{file.stem}", state, lambda folder: convert_gguf(file, folder))


def convert_gguf(path: str | Path, folder: str | Path) -> None:
    """Write a GGUF file as a folder of safetensors in bfloat16, with its tokenizer.

    Args:
        path: The file.
        folder: The output folder.

    Raises:
        MissingExtraError: transformers or gguf is not installed.
        SpecError: Transformers cannot read its model.
    """
    try:
        import torch
        from gguf import GGUFReader
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(error.name or "gguf", "train") from error
    file = Path(path)
    where: Any = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        metadata = GGUFReader(file).fields
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(**where)
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise InputError(
            f"{path} cannot be read as a GGUF model: {' '.join(str(error).split())} Fix: pass a "
            "complete file of a text model, or convert it with the tools of its makers."
        ) from error
    _set_special_tokens(tokenizer, {name: field.contents() for name, field in metadata.items()})
    tokenizer.clean_up_tokenization_spaces = False  # transformers warns of it for BPE otherwise
    config: Any = model.config
    del config.quantization_config  # the weights are no longer quantized
    config.dtype = torch.bfloat16
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    with torch.device("meta"):  # a new model, because one read from GGUF cannot be saved
        fresh: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    fresh.load_state_dict(model.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _set_special_tokens(tokenizer: PreTrainedTokenizerBase, metadata: dict[str, Any]) -> None:
    def token(name: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{name}_token_id")
        return None if index is None else str(tokenizer.convert_ids_to_tokens(int(index)))

    eos = token("eos")
    if eos is not None:
        tokenizer.eos_token = eos
    if token("bos") is not None:
        tokenizer.bos_token = token("bos")
    # If padding equals the end of a turn, another token is used for padding.
    choices = (token("padding"), token("unknown"))
    tokenizer.pad_token = next((pad for pad in choices if pad and pad != eos), eos)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress transformers' warnings about problems that are fixed here."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
