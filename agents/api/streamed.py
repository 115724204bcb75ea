"""Reads chat completions: streams (joined by the `openai` package), texts and counts."""

from __future__ import annotations

from typing import Any

OPENING = b"data:"
"""Start of a stream. A completion in one piece starts with a brace."""


def is_streamed(content: bytes) -> bool:
    """Whether a response's body is a stream of events."""
    return content.lstrip().startswith((OPENING, b"event:", b": "))


def joined(content: bytes) -> dict[str, Any]:
    """Join a stream of chunks into one completion.

    Raises:
        ValueError: The stream is incomplete, reports an error, or is not a stream.
    """
    import orjson
    from openai.lib.streaming.chat import ChatCompletionStreamState
    from openai.types.chat import ChatCompletionChunk

    state = ChatCompletionStreamState[None]()
    chunks = [line[len(OPENING) :].strip() for line in content.splitlines() if _is_data(line)]
    try:
        for chunk in chunks:
            if chunk != b"[DONE]":
                state.handle_chunk(ChatCompletionChunk.construct(**orjson.loads(chunk)))
        completion = state.current_completion_snapshot.model_dump(warnings=False)
        ended = completion["choices"][0]["finish_reason"]
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"not a stream of a chat completion: {error}") from error
    if not ended:
        raise ValueError("the stream is incomplete")
    return completion


def _is_data(line: bytes) -> bool:
    return line.startswith(OPENING)


def text_of(value: object) -> str:
    """A text of a reply. Empty if it has none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def count_of(value: object) -> int:
    """The number of tokens that a server reports, or 0. A wrong count must not fail a reply."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), 1 << 40)
