"""The arguments of a tool as a model writes them, in any protocol."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from longvideo_env.tools.tool import Tool


@lru_cache(maxsize=256)
def expected(tool: Tool) -> str:
    """What the tag of a tool should hold, as the model would write it."""
    shown = {}
    for name, item in tool.schema.get("properties", {}).items():
        kinds = [item, *item.get("anyOf", ())]
        kind = next((str(k["type"]) for k in kinds if k.get("type", "null") != "null"), "any")
        shown[name] = (
            f"{kind}: {tool.described(name)}" if kind != "string" else tool.described(name)
        )
    if len(shown) == 1:
        return next(iter(shown.values()))
    return json.dumps(shown, ensure_ascii=False) if shown else ""


def values_of(tool: Tool, text: str) -> dict[str, Any] | str:
    """The unchecked arguments in a tag, or what is wrong with them."""
    if not tool.parameters:
        return "it takes nothing"
    (first, *more) = tool.parameters
    properties = tool.schema["properties"]
    if not more and properties[first].get("type") not in ("array", "object"):
        return {first: text}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not more:
        return {first: values}
    return values if isinstance(values, dict) else "it is not a JSON object"
