"""Turn trajectories into rows of tokens and labels for supervised fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from agents.generation.chat import ChatCodec
from longvideo_env.errors import SpecError
from longvideo_env.game.policy import Message, Reply
from longvideo_env.records.trajectory import Segment, Trajectory

IGNORED = -100
"""The label that transformers gives a token without a loss."""


def to_row(trajectory: Trajectory, codec: ChatCodec) -> dict[str, list[int]]:
    """One trajectory as `input_ids` and `labels`. Only the policy's tokens have labels.

    A trajectory of text (from a script or an API) is rendered with the codec, turn by turn, like
    the rollout engine's episodes. Its function calls are written by the chat template. A trajectory
    with tokens is not changed. The end-of-turn token after a reply is also learned, so the model
    stops by itself.

    Raises:
        SpecError: The tokens are not the codec's, another protocol was played, or frames were seen.
    """
    segments = trajectory.segments
    if any(segment.frames for segment in segments):
        raise SpecError(
            f"question {trajectory.qid} was played by a master that sees frames, but supervised "
            "fine-tuning learns from text only. Fix: give episodes played with frames=0."
        )
    played, protocol = trajectory.protocol, codec.protocol.name
    if played != protocol:
        raise SpecError(
            f"question {trajectory.qid} was played with protocol={played}, but the training has "
            f"protocol={protocol}. Fix: give --protocol {played}."
        )
    if any(segment.sampled and segment.token_ids is not None for segment in segments):
        _check_tokens(segments, codec)
    else:
        segments = tuple(_rendered(segments, codec))
    row: dict[str, list[int]] = {"input_ids": [], "labels": []}
    for segment in segments:
        ids = list(segment.token_ids or ())
        said = segment.sampled or segment.role == "assistant"
        row["input_ids"] += ids
        row["labels"] += ids if said else [IGNORED] * len(ids)
    return row


def select(
    trajectories: Iterable[Trajectory], min_reward: float | None
) -> tuple[list[Trajectory], int]:
    """Rejection sampling: keep the episodes with at least this reward. Failed ones are never kept.

    Returns:
        The kept episodes, and the number of all episodes.
    """
    found = list(trajectories)
    kept = [
        t
        for t in found
        if t.reward is not None and (min_reward is None or t.reward >= min_reward - 1e-9)
    ]
    return kept, len(found)


def _rendered(segments: Sequence[Segment], codec: ChatCodec) -> list[Segment]:
    prompt: list[Message] = [
        {"role": segment.role, "content": segment.text}
        for segment in segments
        if not segment.turn and segment.role != "tools"
    ]
    tools = [json.loads(segment.text) for segment in segments if segment.role == "tools"]
    rendered = codec.open(prompt, *tools)
    said: Message = prompt[-1]
    last = max((s.turn for s in segments if s.sampled), default=0)
    for segment in segments:
        turn = segment.turn
        if turn and segment.sampled:
            said = codec.protocol.said(segment.written, turn)
            text = codec.write(segment.written, turn)
            ids = codec.encode(text)
            reply = Reply(text, ids, message=codec.read(ids))
            rendered.append(Segment("assistant", text, True, turn, ids, message=reply.message))
            if turn == last or not codec.protocol.continues:
                rendered += codec.close(reply, turn)
        elif segment.role == "tool":
            rendered += codec.answer(codec.protocol.heard(said, segment.text), turn)
        elif turn:
            rendered += codec.observe(segment.text, turn)
    return rendered


def _check_tokens(segments: Sequence[Segment], codec: ChatCodec) -> None:
    for segment in segments:
        if segment.token_ids is not None and codec.decode(segment.token_ids) != segment.text:
            raise SpecError(
                "expected trajectories written with this model's tokenizer, but the tokens of "
                f"{segment.text[:40]!r} decode to {codec.decode(segment.token_ids)[:40]!r}. Fix: "
                "train the model that wrote them, or one with the same tokenizer."
            )


def as_columns(rows: Sequence[dict[str, list[int]]]) -> dict[str, list[Any]]:
    """Rows as columns."""
    return {key: [row[key] for row in rows] for key in ("input_ids", "labels")}
