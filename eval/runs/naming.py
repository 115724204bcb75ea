"""The name of a run's folder: readable, safe on every file system, and unique to its policy.

    hf:mini-starter              hf-mini-starter
    hf:runs/demo/grpo-mini       hf-demo-grpo-mini
    hf:runs/base+runs/lora       hf-runs-base+runs-lora
    openai:gpt-4o@local          openai-gpt-4o@local
    openai:m@http://host:1/v1    openai-m@http-host-1-v1-0d9b4e

A short hash is added if the name leaves out a part of the spec, or if a run of another policy
already has the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from glob import escape
from hashlib import blake2b
from pathlib import Path

from eval.runs.store import CONFIG

_LONGEST = 80
_PATHS = ("hf", "vllm")
_UNSAFE = re.compile(r"[^A-Za-z0-9._@+,=-]+")


def shard_folder(folder: Path, index: int, count: int) -> Path:
    """The folder of one shard of a run."""
    return folder.with_name(f"{folder.name}.shard-{index}-of-{count}")


def run_folder(out: Path, policy: str, others: Iterable[str] = ()) -> Path:
    """The folder of a policy's run.

    Args:
        out: The folder of runs.
        policy: The policy.
        others: All policies of the same command, in their order.
    """
    name = folder_name(policy)
    taken = _owners(out, name)
    for other in others:
        if other == policy:
            break
        if folder_name(other).lower() == name.lower():
            taken = taken or {other}
    marked = out / f"{name}-{_mark(policy)}"
    own = not marked.exists() and (not taken or policy in taken)
    return out / name if own else marked


def folder_name(spec: str) -> str:
    """A name for a spec, with a hash if it leaves out a part."""
    kind, _, rest = spec.partition(":")
    parts, dropped = [rest], False
    if kind in _PATHS:
        # If a folder's name contains a plus, the result is only less readable.
        parts = rest.split("+")
    elif "/" in rest:
        dropped = True
    named = []
    for part in parts:
        pieces = [piece for piece in re.split("[/\\\\]+", part) if piece]
        if kind in _PATHS:
            kept = 2 + (pieces[:1] == ["runs"])
            dropped |= len(pieces) > kept or ".." in pieces or part[:1] == "/"
            pieces = [piece for piece in pieces if piece != ".."][-2:]
        named.append("-".join(pieces))
    plain = f"{kind}-{'+'.join(named)}".replace(":", "-") if rest else kind
    name = _UNSAFE.sub("-", plain).strip("-.")
    if dropped or name != plain or len(name) > _LONGEST:
        name = f"{name[:_LONGEST].strip('-.') or 'run'}-{_mark(spec)}"
    return name


def _mark(spec: str) -> str:
    return blake2b(spec.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()


def _owners(out: Path, name: str) -> set[str]:
    """The policies of the runs with a name: of the run, its shards or its variants."""
    name = escape(name)
    patterns = (f"{name}/{CONFIG}", f"{name}.shard-*/{CONFIG}", f"{name}/*/{CONFIG}")
    owners = set()
    for path in (path for pattern in patterns for path in sorted(out.glob(pattern))):
        try:
            owners.add(str(json.loads(path.read_text(encoding="utf-8"))["policy"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return owners
