"""OpenEnv's messages: actions, observations, states and errors.

The formats match openenv 0.4 to 0.10 (`openenv.core.env_server.types`), which this module does not
import. No message contains gold. Reward and result are in the reply that ends the episode.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

ENV_NAME = "longtvqa"
ENDINGS = ("status", "reward_valid", "reward_terms", "is_success", "grounded", "error")
"""Metadata fields that only the last reply of an episode has."""

INVALID_JSON, UNKNOWN_TYPE = "INVALID_JSON", "UNKNOWN_TYPE"
VALIDATION_ERROR, EXECUTION_ERROR = "VALIDATION_ERROR", "EXECUTION_ERROR"
CAPACITY_REACHED, SESSION_ERROR = "CAPACITY_REACHED", "SESSION_ERROR"


def _as_text(value: Any) -> Any:
    """Turn a value that a client parsed as JSON, such as a reply `42`, back into text."""
    return json.dumps(value) if isinstance(value, int | float | list) else value


class LongTVQAAction(BaseModel):
    """One reply of the master agent."""

    model_config = ConfigDict(extra="forbid")

    metadata: dict[str, Any] = Field(default_factory=dict, description="Not read")
    text: Annotated[str, BeforeValidator(_as_text)] = Field(
        description="The whole reply: reasoning and one action, as the opening explains"
    )


class LongTVQAObservation(BaseModel):
    """What the master agent is shown, and where the episode stands."""

    model_config = ConfigDict(extra="forbid")

    done: bool = Field(default=False, description="Whether the episode is over")
    reward: float | None = Field(
        default=None,
        description="0 until the episode is over; then its reward, or null where it has none "
        "because a tool failed",
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="Empty until the episode is over; then " + ", ".join(ENDINGS),
    )
    text: str = Field(description="For the master to read; after a reset the whole opening")
    qid: int | str = Field(description="The question")
    video_id: str = Field(description="Its video")
    turn: int = Field(description="Turns taken")
    turns_left: int = Field(description="Turns that are left")
    visited: list[str] = Field(description="Ids of the clips shown so far")
    window: list[str] = Field(description="Ids of the clips seen now")
    action: str | None = Field(default=None, description="The last turn's action")
    malformed: str | None = Field(default=None, description="What was wrong with the last turn")


class LongTVQAState(BaseModel):
    """Where a session stands."""

    model_config = ConfigDict(extra="allow")

    episode_id: str | None = Field(default=None, description="Unique id of the episode")
    step_count: int = Field(default=0, ge=0, description="Turns taken in the episode")
    qid: int | str | None = Field(default=None, description="The question")
    video_id: str | None = Field(default=None, description="Its video")
    turns_left: int | None = Field(default=None, description="Turns that are left")
    done: bool = Field(default=False, description="Whether the episode is over")


class ResetData(BaseModel):
    """What a reset takes. `split` and `index` are OpenEnv's way to name a task."""

    model_config = ConfigDict(extra="forbid")

    seed: int | None = Field(default=None, ge=0)
    episode_id: str | None = Field(default=None, max_length=255)
    qid: int | str | None = None
    split: str | None = None
    index: int | None = Field(default=None, ge=0)


class CallData(BaseModel):
    """An action of OpenEnv's clients for tools."""

    model_config = ConfigDict(extra="forbid")

    type: str
    tool_name: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


@cache
def schemas() -> dict[str, Any]:
    """The response to `GET /schema`."""
    observation = LongTVQAObservation.model_json_schema()
    return {
        "action": LongTVQAAction.model_json_schema(),
        "observation": observation,
        "state": LongTVQAState.model_json_schema(),
        "reset_observation": observation,
    }


def observation(
    shown: str, info: dict[str, Any], reward: float | None, done: bool
) -> dict[str, Any]:
    """An observation message from the result of an environment's reset or step."""
    ending = {name: info[name] for name in ENDINGS} if done else {}
    sent: dict[str, Any] = {
        "observation": {
            "metadata": ending,
            "text": shown,
            "qid": info["qid"],
            "video_id": info["video_id"],
            "turn": info["turn"],
            "turns_left": info["turns_left"],
            "visited": info["visited"],
            "window": info["window"],
            "action": info.get("action"),
            "malformed": info.get("malformed"),
        },
        "reward": reward,
        "done": done,
    }
    return sent | {"metadata": ending} if ending else sent


def frame(kind: str, data: dict[str, Any]) -> str:
    """A message to a WebSocket client."""
    return orjson.dumps({"type": kind, "data": data}).decode()


def error_frame(message: str, code: str, **more: Any) -> str:
    """An error message to a WebSocket client."""
    return frame("error", {"message": message, "code": code, **more})


def problems(error: ValidationError) -> list[dict[str, Any]]:
    """The faults of a message, field by field."""
    return [
        {"type": one["type"], "loc": list(one["loc"]), "msg": one["msg"]}
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def said(error: ValidationError) -> str:
    """The faults of a message in one line."""
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'message'}: {one['msg']}" for one in problems(error)
    )
