"""Replies with function calls, formatted for terminals, transcripts and reports.

print(readable(reply))      # The mug may be on the table.
# look(query="the table")
"""

from __future__ import annotations

import json

from longvideo_env.game.protocol.functions import WrittenCall, read_written


def readable(text: str) -> str:
    """Reasoning and text, then each call as `look(query="the table")`. Other text is unchanged."""
    written = read_written(text)
    broken = [] if written.broken is None else [f"(cannot be read as a call: {written.broken})"]
    return "\n".join(filter(None, (spoken(text), *map(_call, written.calls), *broken)))


def spoken(text: str) -> str:
    """The same without the calls: reasoning and text."""
    written = read_written(text)
    return "\n".join(filter(None, (written.reasoning.strip(), written.content.strip())))


def _call(call: WrittenCall) -> str:
    if call.arguments is None:
        return f"{call.name}({call.raw})"
    given = (f"{key}={json.dumps(v, ensure_ascii=False)}" for key, v in call.arguments.items())
    return f"{call.name}({', '.join(given)})"
