"""The game as a task of inspect_ai, found by its entry point.

    inspect eval longvideo_env/longtvqa --model openai/gpt-4o -T dataset=mini -T split=test

Tools are offered by function calling. `-T` takes every field of `EnvConfig`, and `limit` and
`seed`. The standard error of the accuracy is clustered by video. An episode in which a tool failed
has no score; inspect_ai counts it as unscored. As usual for inspect_ai, the log contains the right
label of each question. Models never see it.
"""

from __future__ import annotations

import json
from typing import Any

from longvideo_env.config import EnvConfig
from longvideo_env.errors import MissingExtraError, SpecError
from longvideo_env.game.protocol.base import MalformedKind, option_label
from longvideo_env.game.reward import Score as GameScore
from longvideo_env.integrations.calling import CalledEpisode, CallStage
from longvideo_env.schema import Task as Question
from longvideo_env.spans import write_spans
from longvideo_env.tools.tool import Tool

try:
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import (
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
        execute_tools,
        get_model,
    )
    from inspect_ai.scorer import Score, Scorer, Target, accuracy, mean, scorer, stderr
    from inspect_ai.solver import Generate, Solver, TaskState, solver
    from inspect_ai.tool import ToolCall, ToolDef, ToolParams
except ImportError as error:
    raise MissingExtraError("inspect_ai", "inspect") from error

_SCORES = "longtvqa"
"""Key in a sample's store for the result of the episode."""


@task
def longtvqa(limit: int | None = None, seed: int = 0, **options: Any) -> Task:
    """Questions about long videos, with the tools of the game.

    Args:
        limit: Only the first N questions.
        seed: Seed of the tools' random draws and of the order of shuffled options.
        options: The fields of `EnvConfig`; the default split is `test`.

    Raises:
        LongVideoEnvError: An option or the dataset is invalid.
    """
    if limit is not None and limit < 1:
        raise SpecError(f"limit must be at least 1, got {limit}.")
    stage = CallStage(EnvConfig.from_mapping({"split": "test", **options}))
    tasks = stage.dataset.tasks
    n = len(tasks) if limit is None else min(limit, len(tasks))
    samples = [_sample(stage.open_task(tasks[i], seed).task) for i in range(n)]
    return Task(
        dataset=MemoryDataset(samples, name=f"{stage.config.dataset} {stage.config.split}"),
        solver=play_by_calls(stage, seed),
        scorer=game_scorer(),
    )


def _sample(task: Question) -> Sample:
    question, answer = task.question, task.gold.answer
    words = write_spans(task.gold.when) if task.gold.when else task.gold.text or ""
    target = words if answer is None else option_label(answer)
    return Sample(
        id=question.qid,
        input=question.text,
        choices=list(question.options) or None,
        target=target,
        metadata={"video_id": question.video_id, **dict(question.facts)},
    )


@solver
def play_by_calls(stage: CallStage, seed: int) -> Solver:
    """Plays one episode: the model calls tools until it answers or no turn is left."""
    schemas = [(tool, ToolParams.model_validate(_parameters(tool))) for tool in stage.tools]

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        play = stage.open(state.sample_id, seed)
        rules = stage.rules(len(play.episode.question.options))
        opening = await play.start_async()
        system: list[ChatMessage] = [] if rules is None else [ChatMessageSystem(content=rules)]
        state.messages = [*system, ChatMessageUser(content=opening)]
        tools = [_tool_def(tool, parameters, play) for tool, parameters in schemas]
        model = get_model()
        while not play.over:
            state.output = await model.generate(state.messages, tools)
            message = state.output.message
            state.messages.append(message)
            play.has_reasoning = _has_reasoning(message)
            state.messages += await _heard(play, message, state.messages, tools)
        state.store.set(_SCORES, _facts(play, await play.score_async()))
        state.completed = True
        return state

    return solve


async def _heard(
    play: CalledEpisode, message: ChatMessageAssistant, messages: list[ChatMessage], tools: Any
) -> list[ChatMessage]:
    """The messages after a reply. Each reply is one turn, even if its calls are invalid."""
    calls = message.tool_calls or []
    if not calls:
        return [ChatMessageUser(content=play.refuse(MalformedKind.NO_ACTION, message.text))]
    if len(calls) > 1:
        details = {"n": len(calls), "tags": tuple(call.function for call in calls[:5])}
        text = play.refuse(MalformedKind.SEVERAL_ACTIONS, message.text, **details)
        return [_replied(call, text) for call in calls]
    (call,) = calls
    taken = len(play.episode.parsed)
    replies: list[ChatMessage] = (await execute_tools(messages, tools)).messages
    if len(play.episode.parsed) > taken:
        return replies
    # inspect_ai rejected the call before it reached the game. The turn counts all the same.
    return [_replied(call, await play.call_async(call.function, call.arguments))]


def _has_reasoning(message: ChatMessageAssistant) -> bool:
    parts = [] if isinstance(message.content, str) else message.content
    return bool(message.text.strip()) or any(part.type == "reasoning" for part in parts)


def _replied(call: ToolCall, text: str) -> ChatMessageTool:
    return ChatMessageTool(content=text, tool_call_id=call.id, function=call.function)


def _tool_def(tool: Tool, parameters: ToolParams, play: CalledEpisode) -> ToolDef:
    async def execute(**values: Any) -> str:
        given = {name: value for name, value in values.items() if value is not None}
        return await play.call_async(tool.name, given)

    return ToolDef(execute, tool.name, tool.purpose, parameters, parallel=False, max_output=0)


def _parameters(tool: Tool) -> dict[str, Any]:
    """A tool's schema with a description of each argument, as inspect_ai requires."""
    schema: dict[str, Any] = json.loads(json.dumps(tool.schema))
    for name, item in schema.get("properties", {}).items():
        item.setdefault("description", tool.described(name))
    return {key: schema[key] for key in ("properties", "required") if key in schema}


def _facts(play: CalledEpisode, score: GameScore) -> dict[str, Any]:
    episode = play.episode
    values = {
        "accuracy": None if score.correct is None else float(score.correct),
        "reward": score.reward,
        "grounded": None if score.grounded is None else float(score.grounded),
        "turns": float(len(episode.turns)),
        "tool_calls": float(sum(turn.request is not None for turn in episode.turns)),
        "malformed": float(sum(turn.malformed is not None for turn in episode.turns)),
    }
    choice = None if episode.choice is None else option_label(episode.choice)
    return {
        "values": {name: float("nan") if v is None else v for name, v in values.items()},
        "valid": score.correct is not None,
        "answer": choice or episode.words,
        "explanation": episode.error or score.error or f"status: {episode.status}",
        "terms": dict(score.terms),
        "visited": list(episode.visited),
        "status": episode.status,
        **({"answer_scores": dict(score.answer)} if score.answer else {}),
    }


@scorer(
    metrics={
        "accuracy": [accuracy(), stderr(cluster="video_id")],
        **{name: [mean()] for name in ("reward", "grounded", "turns", "tool_calls", "malformed")},
    },
    name="longtvqa",
)
def game_scorer() -> Scorer:
    """The game's reward and facts for the episode."""

    async def score(state: TaskState, target: Target) -> Score:
        facts = state.store.get(_SCORES)
        if facts is None:
            return Score.unscored(explanation="the episode was not played to its end")
        about = {name: facts[name] for name in ("terms", "visited", "status")}
        said = {"answer": facts["answer"], "explanation": facts["explanation"], "metadata": about}
        if not facts["valid"]:
            return Score.unscored(**said)
        return Score(value=facts["values"], **said)

    return score
