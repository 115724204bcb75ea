"""The state machine of one episode. It does no I/O and holds no client, model, clock or thread.

    episode = Episode(question, video, rules, seed)
    request = episode.start()            # a grounding request, or None: opened at the first clip
    episode.receive(result)              # its result -> Observation, or Ended if it failed
    move = episode.reply(text)           # a tool request, an Observation (malformed), or Ended
    episode.receive(result)              # -> Observation, or Ended

The Gymnasium env and the rollout engine are drivers of this one machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from longvideo_env.errors import EpisodeStateError
from longvideo_env.game.policy import FinishReason, Message
from longvideo_env.game.protocol.tags import Action, Malformed, ParsedReply, parse
from longvideo_env.game.rules import ActionKind, Rules
from longvideo_env.game.words import prompts
from longvideo_env.records.trajectory import Status, TurnRecord
from longvideo_env.schema import Question, Video
from longvideo_env.seeding import derive_seed
from longvideo_env.tools.toolbox import GroundingRequest, ToolRequest, ToolResult, VisionRequest


@dataclass(frozen=True, slots=True)
class Observation:
    """What the master agent gets to read next."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The episode is over."""

    status: Status


Move: TypeAlias = GroundingRequest | VisionRequest | Observation | Ended


class Episode:
    """One play of a question.

    Args:
        question: The question; no gold.
        video: Its video.
        rules: The rules of the game.
        seed: Seeds the tools' requests.

    Attributes:
        messages: The conversation so far, as chat messages.
        turns: What happened in each finished turn.
        parsed: Each reply, understood.
        visited: Clips shown, in order, without repeats.
        window: The clips seen now.
        first: The record of the grounding that chose the first clip, or None.
        status: How it ended, or None while it goes on.
        choice: Index of the option chosen, or None.
        error: What failed, if something did.
    """

    def __init__(self, question: Question, video: Video, rules: Rules, seed: int = 0) -> None:
        self.question = question
        self.video = video
        self.rules = rules
        self.seed = seed
        self.messages: list[Message] = []
        self.turns: list[TurnRecord] = []
        self.parsed: list[ParsedReply] = []
        self.visited: list[str] = []
        self.window: tuple[str, ...] = ()
        self.opened_at: tuple[str, ...] = ()
        self.first: TurnRecord | None = None
        self.status: Status | None = None
        self.choice: int | None = None
        self.error: str | None = None
        self._pending: ToolRequest | None = None
        self._action: Action | None = None
        self._finish: FinishReason | None = None
        self._usage: Mapping[str, Any] | None = None

    @property
    def words(self) -> str | None:
        """The answer in words, to a question without options."""
        if self.status != "answered" or self.question.options:
            return None
        return self.turns[-1].argument

    @property
    def turns_left(self) -> int:
        """Turns that the master agent still has."""
        return self.rules.max_turns - len(self.turns)

    @property
    def turn(self) -> int:
        """The turn that is under way, counted from 1."""
        return len(self.turns) + 1

    def start(self) -> GroundingRequest | None:
        """Open the video.

        Returns:
            A request for the first clip; None if there is no grounding agent, and the video was
            opened at its first clip.
        """
        if self._pending is not None or self.messages:
            raise EpisodeStateError("start() was called on an episode that is under way.")
        if not self.rules.grounded_start:
            self._open(self.video.clip_ids[0])
            return None
        request = self._grounding_request(None)
        self._pending = request
        return request

    def reply(
        self,
        text: str,
        finish: FinishReason | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> Move:
        """Take the master's reply.

        Args:
            text: All of it, with what the chat template opened it with.
            finish: Why it ended, for the record.
            usage: What it used, for the record.

        Returns:
            A tool request to run and hand to `receive`; an observation; or the end.
        """
        if self.status is not None or self._pending is not None or not self.messages:
            raise EpisodeStateError(
                "reply() was called while the episode "
                + ("is over." if self.status else "waits for a tool, or has not been started.")
            )
        parsed = parse(text, len(self.question.options), self.rules.actions)
        self.messages.append({"role": "assistant", "content": text})
        self.parsed.append(parsed)
        self._finish, self._usage = finish, usage
        if isinstance(parsed.outcome, Malformed):
            return self._malformed(parsed.outcome)
        self._action = parsed.outcome
        return {
            ActionKind.ANSWER: self._answer,
            ActionKind.GROUND: self._ground,
            ActionKind.LOOK: self._look,
        }[parsed.outcome.kind](parsed.outcome)

    def receive(self, result: ToolResult) -> Observation | Ended:
        """Take the result of the tool request that is pending."""
        request = self._pending
        if request is None:
            raise EpisodeStateError("receive() was called while no tool request is pending.")
        self._pending = None
        opening = not self.messages
        record = self._record(request, result, opening)
        if opening:
            self.first = record
        if not result.ok or result.value is None:
            if not opening:
                self.turns.append(record)
            return self.fail(f"{result.kind} ({result.agent}): {result.error}")
        if opening:
            return self._open(result.value)
        self.turns.append(record)
        if isinstance(request, GroundingRequest):
            self._show(result.value)
            text = prompts.grounded_prompt(self.video, self.window, self.rules, self.turns_left)
        else:
            text = prompts.looked_prompt(result.value, self.rules, self.turns_left)
        return self._observe(text)

    def fail(self, error: str) -> Ended:
        """End the episode because a tool or the policy failed: it will have no reward."""
        self.error = error
        return self._end("failed")

    def stop_for_context(self) -> Ended:
        """End the episode because the model's context has no room for another turn."""
        return self._end("out_of_context")

    def _open(self, clip_id: str) -> Observation:
        self._show(clip_id)
        self.opened_at = self.window
        text = prompts.question_prompt(self.question, self.video, self.window, self.rules)
        if self.rules.instructions:
            system = prompts.system_prompt(self.rules, len(self.question.options))
            self.messages.append({"role": "system", "content": system})
        return self._observe(text)

    def _answer(self, action: Action) -> Move:
        self.choice = action.choice if self.question.options else None
        self._finish_turn(action)
        return self._end("answered")

    def _ground(self, action: Action) -> Move:
        if self.turns_left == 1:
            return self._out_of_turns(action)
        if len(self.visited) == len(self.video.clips):
            self._finish_turn(action)
            return self._observe(prompts.all_visited_prompt(self.turns_left))
        self._pending = self._grounding_request(action.argument)
        return self._pending

    def _look(self, action: Action) -> Move:
        if self.turns_left == 1:
            return self._out_of_turns(action)
        self._pending = VisionRequest(
            self.question,
            self.video,
            action.argument or "",
            self.window,
            derive_seed(self.seed, "vision", self.turn),
        )
        return self._pending

    def _malformed(self, problem: Malformed) -> Move:
        self.turns.append(
            TurnRecord(
                self.turn, malformed=problem.kind.value, finish=self._finish, **self._spent()
            )
        )
        if self.turns_left == 0:
            return self._end("out_of_turns")
        return self._observe(prompts.malformed_prompt(problem.message, self.rules, self.turns_left))

    def _out_of_turns(self, action: Action) -> Ended:
        # A tool called in the last turn could tell nobody anything, so it is not called.
        self._finish_turn(action)
        return self._end("out_of_turns")

    def _finish_turn(self, action: Action) -> None:
        self.turns.append(
            TurnRecord(
                self.turn,
                action.kind.value,
                action.argument,
                finish=self._finish,
                **self._spent(),
            )
        )

    def _record(self, request: ToolRequest, result: ToolResult, opening: bool) -> TurnRecord:
        action = None if opening else self._action
        return TurnRecord(
            turn=0 if opening else self.turn,
            action=action.kind.value if action else None,
            argument=action.argument if action else None,
            request=request.record(),
            result={
                "agent": result.agent,
                "value": result.value,
                "error": result.error,
                "details": dict(result.details),
            },
            finish=None if opening else self._finish,
            **self._spent(result),
        )

    def _spent(self, result: ToolResult | None = None) -> dict[str, Any]:
        """What the turn used: the reply, and the tool if one was called."""
        tool = result.details.get("cost_usd") if result is not None else None
        reply = self._usage.get("cost_usd") if self._usage is not None else None
        known = [cost for cost in (reply, tool) if cost is not None]
        return {"usage": self._usage, "cost_usd": sum(known) if known else None}

    def _grounding_request(self, query: str | None) -> GroundingRequest:
        return GroundingRequest(
            self.question,
            self.video,
            query,
            tuple(self.visited),
            derive_seed(self.seed, "grounding", self.turn),
        )

    def _show(self, clip_id: str) -> None:
        self.window = self.video.window(clip_id, self.rules.window)
        self.visited += [c for c in self.window if c not in self.visited]

    def _observe(self, text: str) -> Observation:
        self.messages.append({"role": "user", "content": text})
        return Observation(text)

    def _end(self, status: Status) -> Ended:
        self.status = status
        return Ended(status)
