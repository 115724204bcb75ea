"""Check that a model exists, without importing torch and in about a second.

check_model("Qwen/Qwen2.5-3B-Instruct")     # raises InputError if there is no such model
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from agents.policies.starter import GGUF, STARTER
from longvideo_env.errors import InputError

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HUB_S = 3.0


def check_model(path: str) -> None:
    """Check that a model, or `BASE+ADAPTER`, exists.

    Raises:
        InputError: There is no such folder, file or id of the hub.
    """
    base, adapter = adapter_parts(path)
    if adapter is not None:
        check_adapter(adapter)
    if base == STARTER:
        return
    if base.endswith(GGUF):
        if not Path(base).is_file():
            raise InputError(f"there is no GGUF file {base}. Fix: check the path.")
        return
    check_path(base)
    if not Path(base).is_dir():
        _check_hub(base)


def adapter_parts(path: str) -> tuple[str, str | None]:
    """Split `BASE+ADAPTER` into base and adapter. The adapter is None for a plain path."""
    base, plus, adapter = path.rpartition("+")
    return (path, None) if not plus or Path(path).exists() else (base, adapter)


def check_adapter(adapter: str) -> None:
    """Check that a folder holds an adapter.

    Raises:
        InputError: It does not.
    """
    if not Path(adapter, "adapter_config.json").is_file():
        raise InputError(
            f"{adapter!r} is not an adapter: expected an adapter_config.json. Fix: pass a folder "
            "that LoRA training wrote, as in BASE+ADAPTER."
        )
    if not any(Path(adapter).glob("*.safetensors")):
        raise InputError(
            f"{adapter!r} has no weights as safetensors. Other formats may run code and are not "
            "read. Fix: save the adapter again; peft's `save_pretrained` writes safetensors."
        )


def check_path(path: str) -> None:
    """Check that a path is a model's folder or a valid hub id.

    Raises:
        InputError: It is neither.
    """
    folder = Path(path)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise InputError(
                f"{path!r} is not a model: expected a config.json. Fix: pass a folder that "
                "`save_pretrained` wrote, such as a checkpoint of a training run."
            )
    elif not _HUB_ID.fullmatch(path):
        raise InputError(
            f"no model {path!r}: there is no such folder, and it is not a valid hub id. "
            "Fix: check the path."
        )


@lru_cache(maxsize=64)
def _check_hub(name: str) -> None:
    try:
        import httpx
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import (
            HfHubHTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
        )
        from huggingface_hub.file_download import repo_folder_name
    except ImportError:
        return  # loading the model says what is missing
    cached = repo_folder_name(repo_id=name, repo_type="model")
    if Path(constants.HF_HUB_CACHE, cached).is_dir():
        return
    url = hf_hub_url(name, "config.json")
    cause: Exception
    try:
        get_hf_file_metadata(url, timeout=_HUB_S)
        return
    except RepositoryNotFoundError as error:
        why, cause = "the hub has none, or requires a token (HF_TOKEN)", error
    except OfflineModeIsEnabled as error:
        why, cause = "HF_HUB_OFFLINE forbids downloads", error
    except (HfHubHTTPError, httpx.TimeoutException):
        return  # the hub is slow or has trouble; loading the model waits longer
    except httpx.TransportError as error:
        why, cause = "the hub cannot be reached", error
    raise InputError(
        f"there is no folder {name!r}, the hub cache has no such model, and {why}. Fix: check the "
        "path, or pass a folder with the model."
    ) from cause
