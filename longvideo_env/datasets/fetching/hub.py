"""Datasets on the Hugging Face hub: downloaded once, then read from the local cache.

`hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`. The library huggingface_hub resumes broken downloads,
checks what it got, shows progress, and respects HF_HUB_OFFLINE, HF_HOME, HF_ENDPOINT and HF_TOKEN.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from longvideo_env.errors import DatasetNotFoundError, MissingExtraError, SpecError

PREFIX = "hf:"
TEXT_FILES = ("*.json", "*.jsonl")
"""Files with questions, subtitles and captions. Only `prepare` downloads frames."""

_REPO = re.compile(r"(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>[\w./-]{1,100}))?\Z")


def parse_hub_spec(spec: str) -> tuple[str, str | None]:
    """The repository and revision of `hf:OWNER/NAME@REVISION`.

    Raises:
        SpecError: The spec has another form.
    """
    match = _REPO.match(spec.removeprefix(PREFIX))
    if match is None or ".." in spec:
        raise SpecError(
            f"expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION, got {spec!r:.120}; for example "
            "hf:longvideoagent/LongTVQA_plus."
        )
    return match["repo"], match["revision"]


# Cached for the process, so that the hub is not asked again for every environment.
@lru_cache(maxsize=32)
def hub_folder(spec: str, patterns: tuple[str, ...] = TEXT_FILES) -> Path:
    """The local folder of a dataset on the hub. Downloads missing files.

    Raises:
        DatasetNotFoundError: No such dataset, or it is not in the cache and the hub cannot be
            reached.
        MissingExtraError: huggingface_hub is not installed.
        SpecError: The spec is of another form.
    """
    repo, revision = parse_hub_spec(spec)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "data") from error
    try:
        folder = snapshot_download(
            repo, repo_type="dataset", revision=revision, allow_patterns=list(patterns)
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DatasetNotFoundError(
            f"the dataset {spec!r} is not in the local cache and cannot be downloaded "
            f"({first:.160}).",
            mend="check its name and the connection (HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN), or "
            "download the files yourself and pass their folder.",
        ) from error
    return Path(folder)
