"""What a chat completion says: streams (put together by the `openai` package), texts and counts."""

from __future__ import annotations

from typing import Any

OPENING = b"data:"
"""How a stream begins; a completion in one piece begins with a brace."""


def is_streamed(content: bytes) -> bool:
    """Whether a response's body is a stream of events."""
    return content.lstrip().startswith((OPENING, b"event:", b": "))


def joined(content: bytes) -> dict[str, Any]:
    """The completion that a stream of chunks makes.

    Raises:
        ValueError: The stream breaks off, reports an error, or is none.
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
        raise ValueError("the stream broke off")
    return completion


def _is_data(line: bytes) -> bool:
    return line.startswith(OPENING)


def text_of(value: object) -> str:
    """A text of a reply; nothing where it has none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def count_of(value: object) -> int:
    """A number of tokens that a server claims; its own faults are no reason to lose a reply."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), 1 << 40)
