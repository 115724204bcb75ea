"""Converts saved episodes into the formats of other tools.

    rows, counts = conversations("runs/gpt/openai-gpt-4o", "openai", min_reward=1.0)

An episode becomes a conversation with tool calls. It is replayed from its record, without calling
tools, in the words of the protocol `functions`. A model trained on it therefore sees the same
format as with TRL and inspect_ai. For lmms-eval, every episode becomes a sample, right or wrong.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from longvideo_env.config import OWN_EYES, EnvConfig
from longvideo_env.errors import InputError
from longvideo_env.game.episode import Ended, Episode
from longvideo_env.game.protocol.base import ANSWER, Action, option_label
from longvideo_env.game.protocol.functions import FunctionProtocol, read_written
from longvideo_env.game.protocol.reasoning import REASONING_TAGS
from longvideo_env.integrations.calling import CallStage
from longvideo_env.records.trajectory import (
    Segment,
    Trajectory,
    TurnRecord,
    read_trajectories,
)
from longvideo_env.tools.tool import Tool, ToolReply, ToolResult

_THOUGHT = re.compile(
    rf"<({'|'.join(REASONING_TAGS)})(?:\s[^<>]{{0,80}})?>(.*?)</\1>", re.IGNORECASE | re.DOTALL
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One call of a conversation.

    Attributes:
        thought: Text written before the call, or empty.
        reasoning: Reasoning that the model's server or template returned separately, or empty.
        name: The tool.
        arguments: The arguments.
        reply: The tool's reply. After an answer, the closing text.
    """

    thought: str
    reasoning: str
    name: str
    arguments: Mapping[str, Any]
    reply: str

    @property
    def said(self) -> str:
        """Reasoning and text together, for formats with one field for both."""
        return "\n".join(filter(None, (self.reasoning, self.thought)))


@dataclass(frozen=True)
class Conversation:
    """An episode as a conversation of calls.

    Attributes:
        rules: The system message, or None.
        opening: The first user message.
        turns: The calls. The last one is the answer.
        tools: JSON schemas of the tools.
    """

    rules: str | None
    opening: str
    turns: Sequence[Turn]
    tools: Sequence[Row]


class SkippedError(Exception):
    """Why an episode is left out of the conversations."""


def openai(conversation: Conversation) -> Row:
    """Messages and tools for OpenAI's chat completions and fine-tuning."""
    messages = _messages(conversation)
    for message in messages:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        if reasoning := message.pop("reasoning_content", ""):  # the format has no field for it
            message["content"] = "\n".join(filter(None, (reasoning, message["content"])))
    return {"messages": messages, "tools": list(conversation.tools)}


def trl(conversation: Conversation) -> Row:
    """The same with arguments as objects, for chat templates and TRL's trainers."""
    return {"messages": _messages(conversation), "tools": list(conversation.tools)}


def sharegpt(conversation: Conversation) -> Row:
    """ShareGPT's format with tools, for LLaMA-Factory."""
    said: list[Row] = [{"from": "human", "value": conversation.opening}]
    for turn in conversation.turns:
        call = json.dumps({"name": turn.name, "arguments": dict(turn.arguments)})
        value = f"<think>\n{turn.said}\n</think>\n\n{call}" if turn.said else call
        said.append({"from": "function_call", "value": value})
        said.append({"from": "observation", "value": turn.reply})
    # In this format a conversation ends with the assistant.
    said.append({"from": "gpt", "value": conversation.turns[-1].reply})
    tools = json.dumps([tool["function"] for tool in conversation.tools], ensure_ascii=False)
    system = {} if conversation.rules is None else {"system": conversation.rules}
    return {"conversations": said, **system, "tools": tools}


FORMS: Mapping[str, Callable[[Conversation], Row]] = {
    form.__name__: form for form in (sharegpt, openai, trl)
}
LMMS_EVAL = "lmms-eval"


def _messages(conversation: Conversation) -> list[Row]:
    rules = conversation.rules
    messages: list[Row] = [] if rules is None else [{"role": "system", "content": rules}]
    messages.append({"role": "user", "content": conversation.opening})
    for number, turn in enumerate(conversation.turns, start=1):
        function = {"name": turn.name, "arguments": dict(turn.arguments)}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        apart = {"reasoning_content": turn.reasoning} if turn.reasoning else {}
        said = {"role": "assistant", "content": turn.thought, **apart}
        messages.append({**said, "tool_calls": [call]})
        if number < len(conversation.turns):  # no message follows the answer
            named = {"name": turn.name, "content": turn.reply}
            messages.append({"role": "tool", "tool_call_id": call["id"], **named})
    return messages


def conversations(
    run: str | Path, form: str, *, min_reward: float | None = None
) -> tuple[Iterator[Row], Counter[str]]:
    """The correct episodes of a run as conversations.

    Args:
        run: The run's folder.
        form: One of `FORMS`.
        min_reward: Instead of correct episodes, take those with at least this reward.

    Returns:
        An iterator of rows, and a counter of reasons for left-out episodes, filled during
        iteration.

    Raises:
        SpecError: There is no run, or its dataset has changed.
    """
    stage = CallStage(_config(Path(run)))
    counts: Counter[str] = Counter()
    schemas = [schema_of(tool) for tool in stage.tools]
    episodes = Path(run) / "episodes.jsonl"

    def rows() -> Iterator[Row]:
        for trajectory in read_trajectories(episodes):
            try:
                _check_worth(trajectory, min_reward)
                yield FORMS[form](replay(stage, trajectory, schemas))
                counts["written"] += 1
            except SkippedError as skipped:
                counts[str(skipped)] += 1

    return rows(), counts


def lmms_samples(run: str | Path) -> Iterator[Row]:
    """Every episode as a line of lmms-eval's `*_samples_TASK.jsonl`.

    `longvideo_env_score` is 1 for a right answer and 0 for a wrong one. It is missing if a tool
    failed or the right answer is unknown. Several plays of a question give several lines.
    """
    stage = CallStage(_config(Path(run)))
    for trajectory in read_trajectories(Path(run) / "episodes.jsonl"):
        task = _task(stage, trajectory)
        answer, choice = task.gold.answer, trajectory.choice
        document = {
            "question": trajectory.question,
            "options": list(trajectory.options),
            "video_id": trajectory.video_id,
        }
        text = json.dumps(document, indent=2, ensure_ascii=False)
        written = "" if choice is None else option_label(choice)
        said = [segment.text for segment in trajectory.segments if segment.sampled]
        scored = trajectory.correct is not None
        yield {
            "doc_id": trajectory.qid,
            "target": str(task.gold.text or "") if answer is None else option_label(answer),
            "input": trajectory.question,
            "resps": ["".join(said)],
            "filtered_resps": written,
            "doc_hash": sha256(text.encode()).hexdigest(),
            "sample": trajectory.sample,
            "status": trajectory.status,
            **({"longvideo_env_score": float(bool(trajectory.correct))} if scored else {}),
        }


def replay(stage: CallStage, trajectory: Trajectory, tools: Sequence[Row]) -> Conversation:
    """Replay an episode from its record. No tool is called.

    Raises:
        SkippedError: A turn is malformed, or the episode does not end with an answer.
        SpecError: The dataset has changed.
    """
    if any(segment.frames for segment in trajectory.segments):
        raise SkippedError("its master saw frames, which text cannot contain")
    task = _task(stage, trajectory)
    video = stage.dataset.video(task)
    episode = Episode(task.question, video, stage.game, trajectory.seed)
    if episode.start() is not None:
        if trajectory.first is None:
            raise SkippedError("it was opened by another game")
        episode.receive(_result(trajectory.first))
    opening = episode.messages[-1]["content"]
    by_calls = trajectory.protocol == FunctionProtocol.name
    thoughts = {s.turn: _thoughts(s, by_calls) for s in trajectory.segments if s.sampled}
    turns = []
    for record in trajectory.turns:
        name, arguments = _call(stage, record)
        shown = stage.game.protocol.tag(name)
        move = episode.act(_action(record, arguments), "")
        if record.request is not None and not isinstance(move, Ended):
            move = episode.receive(_result(record))
        last = str.__str__(stage.game.ended_text(episode.choice, episode.status or ""))
        reply = last if isinstance(move, Ended) else episode.messages[-1]["content"]
        turns.append(Turn(*thoughts.get(record.turn, ("", "")), shown, arguments, reply))
    if episode.status != "answered":
        raise SkippedError("it has no answer")
    return Conversation(stage.rules(len(task.question.options)), opening, turns, tools)


def schema_of(tool: Tool) -> Row:
    """A tool's declaration in the OpenAI format."""
    parameters = {key: value for key, value in tool.schema.items() if key != "additionalProperties"}
    function = {"name": tool.name, "description": tool.purpose, "parameters": parameters}
    return {"type": "function", "function": function}


def _check_worth(trajectory: Trajectory, min_reward: float | None) -> None:
    if trajectory.status == "failed":
        raise SkippedError("a tool or the policy failed")
    if min_reward is None and not trajectory.correct:
        raise SkippedError("it is not right")
    if min_reward is not None and (
        trajectory.reward is None or trajectory.reward < min_reward - 1e-9
    ):
        raise SkippedError("its reward is below --min-reward")
    if any(turn.malformed for turn in trajectory.turns):
        raise SkippedError("a reply in it is malformed")


def _task(stage: CallStage, trajectory: Trajectory) -> Any:
    task = stage.dataset.task(trajectory.qid)
    if trajectory.option_order is not None:
        task = task.reorder(trajectory.option_order)
    if trajectory.options and task.question.options != trajectory.options:
        raise InputError(
            f"question {trajectory.qid!r} has other options in {stage.config.dataset!r} than in "
            "the run. Fix: restore the dataset that the run was made with."
        )
    return task


def _call(stage: CallStage, record: TurnRecord) -> tuple[str, Mapping[str, Any]]:
    name, written = record.action, record.argument
    if name is None:
        raise SkippedError("a reply in it is malformed")
    if name == ANSWER:
        return name, {ANSWER: written or ""}
    if name not in stage.game.actions:
        raise SkippedError("it uses a tool that the run's game does not offer")
    tool = stage.game.tool(name)
    if record.request is not None:
        given = dict(record.request["arguments"])
    elif tool.takes_text:
        given = {tool.takes_text: written} if written else {}
    else:
        given = json.loads(written) if written else {}
    return name, {key: value for key, value in given.items() if value is not None}


def _action(record: TurnRecord, arguments: Mapping[str, Any]) -> Action:
    return Action(str(record.action), record.argument, arguments)


def _result(record: TurnRecord) -> ToolResult:
    result, request = dict(record.result or {}), dict(record.request or {})
    reply = ToolReply.from_record(result)
    return ToolResult(str(request.get("tool")), str(result.get("agent")), reply)


def _thoughts(segment: Segment, by_calls: bool) -> tuple[str, str]:
    """The text beside the action of a reply, and the separate reasoning."""
    if by_calls:
        written = read_written(segment.written)
        return written.content.strip(), written.reasoning.strip()
    found = _THOUGHT.finditer(segment.written)
    return "\n".join(match[2].strip() for match in found).strip(), ""


_NOT_HERE = {"prompts", "protocol", "frames", "resolution"}
"""Options of the run that change how the game is shown, but not what is played."""


def _config(run: Path) -> EnvConfig:
    try:
        kept = json.loads((run / "config.json").read_text(encoding="utf-8"))
        known = {item.name for item in fields(EnvConfig)} - _NOT_HERE
        options = {name: value for name, value in kept.items() if name in known}
        if options.get("vision") == OWN_EYES:
            options["vision"] = "captions"  # no agent is called
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"no run in {run} ({error}). Fix: pass the folder with episodes.jsonl."
        ) from error
    if not {"dataset", "split"} <= set(options):
        raise InputError(f"{run / 'config.json'} names no dataset and split.")
    return EnvConfig.from_mapping(options | {"recording": "off", "recording_file": None})
