"""Replay the episodes of a bundle. They must come out byte for byte.

The game, the prompts, the local tools and the reward are computed again. A model's replies are
taken from the recording if the bundle has one, or from the episode. So are the replies of tools
behind an endpoint. A prompt wrapped by a chat template is taken from the episode, after a check
that it holds the game's words.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, cast

from agents.generation.settings import GenerationSettings
from agents.policies.recorded import REMOTE, RecordedPolicy
from eval.bundle.bundle_checks import opened_runs, runs_of, texts_left_out
from eval.bundle.cleaning import LEFT_OUT, without_texts
from eval.bundle.contents import RECORDING_MEMBER, Bundle
from eval.bundle.material_checks import BundleFindings, OpenedRun
from eval.runs.budgets import Budget, EpisodeLimit
from longvideo_env import RolloutEngine
from longvideo_env.errors import LongVideoEnvError, PolicyError
from longvideo_env.game.judging import Judge
from longvideo_env.game.policy import Context, Message, Policy, Reply, TextCodec
from longvideo_env.game.reward import Play
from longvideo_env.records.trajectory import Segment, Trajectory
from longvideo_env.schema import FrameRef, Gold, Question
from longvideo_env.tools.recording import Recording, import_calls
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import ToolCall, ToolReply, ToolResult
from longvideo_env.tools.toolbox import Toolbox


def replay_bundle(bundle: Bundle, findings: BundleFindings, *, dataset: str | None = None) -> None:
    """Play all episodes again, and add the differences to the findings.

    Args:
        bundle: The bundle, already checked.
        findings: The findings to add to.
        dataset: Path of the dataset, if it is not at the path that the runs name.
    """
    runs = runs_of(bundle)
    with (
        opened_runs(bundle, runs, dataset) as opened,
        tempfile.TemporaryDirectory(prefix="longvideo-") as folder,
    ):
        try:
            recording = _restore(bundle, Path(folder))
        except LongVideoEnvError as error:
            findings.differs.append(f"{RECORDING_MEMBER}: {error}")
            return
        for one in opened:
            asyncio.run(_replay_run(one, recording, findings))


def _restore(bundle: Bundle, folder: Path) -> Recording | None:
    content = bundle.files.get(RECORDING_MEMBER)
    if content is None:
        return None
    path = folder / "recording.sqlite"
    import_calls(path, iter(content.decode().rstrip("\n").split("\n")))
    return Recording(path, "replay")


async def _replay_run(
    one: OpenedRun, recording: Recording | None, findings: BundleFindings
) -> None:
    if one.dataset is None or one.config is None:
        findings.unchecked.append(f"{one.name}: nothing was played again: {one.problem}")
        return
    if one.config.frames:
        why = "the master saw frames, and a bundle has no frames"
        findings.unchecked.append(f"{one.name}: nothing was played again: {why}")
        return
    remote = {
        r for r in ("grounding", "vision", "judge") if getattr(one.config, r).startswith(REMOTE)
    }
    # Agents behind an endpoint are not built, because they would need an address and a key.
    absent: dict[str, Any] = dict.fromkeys(remote, "none")
    here = replace(one.config, **absent)
    try:
        toolbox = build_toolbox(here, one.dataset)
        engine = RolloutEngine(
            dataset=one.dataset,
            config=one.config,
            toolbox=toolbox,
            policy=EpisodeReplies(next(iter(one.run.episodes.values()))),
            policy_spec=str(one.run.config.get("policy")),
            seed=int(one.run.config["seed"]),
            is_over=EpisodeLimit(_episode_budget(one.run.config)),
        )
    except (LongVideoEnvError, KeyError, ValueError, TypeError) as error:
        findings.unchecked.append(f"{one.name}: nothing was played again: {error}")
        return
    played, failed = 0, 0
    for t in one.run.episodes.values():
        if t.status == "failed":
            failed += 1
            continue
        engine.policy = _policy_of(one, t, recording)
        engine.toolbox = cast("Toolbox", EpisodeTools(toolbox, t, remote))
        if "judge" in remote:
            engine.judge = cast("Judge", EpisodeJudge(t))
        try:
            again = await engine.play(one.dataset.task(t.qid), t.sample)
            findings.differs += _compare(one.name, t, again)
        except (LongVideoEnvError, KeyError, TypeError, ValueError, AttributeError) as error:
            findings.differs.append(f"{one.name}: question {t.qid}: played again: {error!r}")
            continue
        played += 1
    if failed:
        findings.unchecked.append(f"{one.name}: {failed:,} failed episodes are not played again")
    if any(map(texts_left_out, one.run.episodes.values())) and not one.run.config.get(
        "policy", ""
    ).startswith(REMOTE):
        findings.unchecked.append(f"{one.name}: prompts of token policies: texts are left out")
    findings.checked.append(f"{one.name}: {played:,} episodes were played again")


def _compare(name: str, was: Trajectory, now: Trajectory) -> list[str]:
    """The fields of an episode that differ, by name."""
    before, after = _record(was), _record(now)
    if texts_left_out(was):
        after = without_texts(after)
    changed = [key for key in before if before[key] != after.get(key)]
    label = f"question {was.qid}" + (f", sample {was.sample}" if was.sample else "")
    error = f" ({now.error})" if now.error else ""
    return [f"{name}: {label}: played again, {', '.join(changed)} differ{error}"] if changed else []


def _record(t: Trajectory) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(t.to_json(timings=False))
    return record


def _episode_budget(config: Mapping[str, Any]) -> Budget:
    names = {item.name: f"episode_budget_{item.name}" for item in fields(Budget)}
    return Budget(**{name: config[key] for name, key in names.items() if key in config})


def _policy_of(one: OpenedRun, t: Trajectory, recording: Recording | None) -> Policy:
    spec = str(one.run.config.get("policy"))
    replies = EpisodeReplies(t)
    if recording is None or not spec.startswith(REMOTE):
        return replies
    known = {item.name for item in fields(GenerationSettings)}
    given = {k: v for k, v in one.run.config.items() if k in known}
    settings = GenerationSettings(**{**asdict(GenerationSettings()), **given})
    policy: Policy = RecordedPolicy(replies, spec, settings, recording)
    return policy


class EpisodeReplies:
    """A policy that repeats the replies of an episode, turn by turn.

    Args:
        played: The episode.
    """

    def __init__(self, played: Trajectory) -> None:
        self.codec: Any = EpisodeCodec(played)
        self._played = played
        self._by_turn = {s.turn: s for s in played.segments if s.sampled}

    async def act(self, context: Context, /) -> Reply:
        """The reply of the turn.

        Raises:
            PolicyError: The episode has no such turn.
        """
        segment = self._by_turn.get(context.turn)
        if segment is None:
            if self._played.status == "out_of_context":
                return Reply("", finish="context")
            raise PolicyError(f"the episode has no turn {context.turn}.")
        turn = self._played.turns[context.turn - 1]
        return Reply(
            segment.text,
            segment.token_ids,
            segment.logprobs,
            segment.prefix,
            turn.finish or "end_of_turn",  # type: ignore[arg-type]
            turn.usage,
            message=segment.message,
        )

    async def aclose(self) -> None:
        """Do nothing: there are no resources."""


class EpisodeCodec(TextCodec):
    """Renders messages as in the episode, if the episode's segments hold the messages' words.

    Args:
        played: The episode.
    """

    def __init__(self, played: Trajectory) -> None:
        # A text-only episode needs no template and is rendered again.
        self._has_tokens = any(s.token_ids is not None for s in played.segments)
        self._given = [s for s in played.segments if not s.sampled]

    def open(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Segment]:
        """The first prompt."""
        same = self._same(0, False, [m["content"] for m in messages])
        return same or super().open(messages, tools)

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        """The end of the assistant's turn."""
        return self._same(turn, True, []) or super().close(reply, turn)

    def observe(self, text: str, turn: int, frames: tuple[FrameRef, ...] = ()) -> list[Segment]:
        """The observation."""
        return self._same(turn, False, [text]) or super().observe(text, turn, frames)

    def answer(self, messages: Sequence[Message], turn: int) -> list[Segment]:
        """The results of calls."""
        same = self._same(turn, False, [messages[0]["content"]])
        return same or super().answer(messages, turn)

    def _same(self, turn: int, of_reply: bool, contents: Sequence[str]) -> list[Segment]:
        if not self._has_tokens:
            return []
        found = [s for s in self._given if (s.turn, s.role == "assistant") == (turn, of_reply)]
        text = "".join(s.text for s in found)
        if text.startswith(LEFT_OUT):
            return found
        place = 0
        for content in contents:
            place = text.find(content.strip(), place)
            if place < 0:
                return []
            place += len(content.strip())
        return found


class EpisodeJudge:
    """A judge that repeats the verdict of an episode.

    Args:
        played: The episode.
    """

    def __init__(self, played: Trajectory) -> None:
        self._judged = played.judged

    async def see(self, play: Play, question: Question, gold: Gold) -> Play:
        """The play with the episode's verdict."""
        return replace(play, judged=self._judged)


class EpisodeTools:
    """Runs local tools. The replies of remote tools are taken from the episode.

    Args:
        toolbox: The local tools.
        played: The episode.
        remote: The roles of remote agents.
    """

    def __init__(self, toolbox: Toolbox, played: Trajectory, remote: set[str]) -> None:
        self._toolbox, self._remote = toolbox, remote
        turns = (*([played.first] if played.first else []), *played.turns)
        self._results = [(t.request, t.result) for t in turns if t.request and t.result]

    async def call(self, call: ToolCall) -> ToolResult:
        """The result of a call."""
        role = next((tool.role for tool in self._toolbox.tools if tool.name == call.tool), None)
        if role not in self._remote:
            return await self._toolbox.call(call)
        wanted = call.record()
        for request, result in self._results:
            if {**request, "seed": None} == {**_plain(wanted), "seed": None}:
                reply = ToolReply.from_record(result)
                return ToolResult(call.tool, result["agent"], reply, result["error"], 0.0)
        return ToolResult(call.tool, "none", None, "the episode made no such call", 0.0)


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain
