"""Check that a model exists, without importing torch and in about a second.

check_model("Qwen/Qwen2.5-3B-Instruct")     # raises InputError if there is no such model
"""

from __future__ import annotations

import os
import re
import socket
from functools import lru_cache
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from agents.policies.starter import GGUF, STARTER
from longvideo_env.errors import InputError

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HUB_S = 3.0
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_ON = {"1", "on", "yes", "true"}


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


def hub_cache() -> Path:
    """The folder in which the hub library caches models."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


@lru_cache(maxsize=64)
def _check_hub(name: str) -> None:
    if (hub_cache() / f"models--{name.replace('/', '--')}").is_dir():
        return
    head = f"there is no folder {name!r}, the hub cache has no such model, and "
    fix = "Fix: check the path, or pass a folder with the model."
    if any(os.environ.get(variable, "").lower() in _ON for variable in _OFFLINE):
        raise InputError(f"{head}HF_HUB_OFFLINE forbids downloads. {fix}")
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        urlopen(Request(f"{hub}/{name}/resolve/main/config.json", method="HEAD"), timeout=_HUB_S)
    except HTTPError as error:
        secret = os.environ.get("HF_TOKEN") or (hub_cache().parent / "token").is_file()
        if error.code == 404 or (error.code == 401 and not secret):
            why = "the hub has none, or requires a token"
            raise InputError(f"{head}{why}. {fix[:-1]}; or set HF_TOKEN.") from error
    except URLError as error:
        if isinstance(error.reason, (socket.gaierror, ConnectionError)):
            raise InputError(f"{head}the hub cannot be reached. {fix}") from error
    except OSError:  # the hub is slow; the library waits longer
        return
