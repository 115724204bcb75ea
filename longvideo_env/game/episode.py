"""The state machine of one episode. It does no I/O and holds no client, model, clock or thread.

    episode = Episode(question, video, game, seed)
    call = episode.start()               # a call of the opening tool, or None if there is none
    episode.receive(result)              # its result -> Observation, or Ended if it failed
    move = episode.reply(text)           # a ToolCall, an Observation (malformed), or Ended
    episode.receive(result)              # -> Observation, or Ended

The Gymnasium environment and the rollout engine both use this class. It reads no images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from longvideo_env.config import WHEN
from longvideo_env.errors import EpisodeStateError
from longvideo_env.game.game import Game
from longvideo_env.game.policy import FinishReason, Message, Observation
from longvideo_env.game.protocol.arguments import expected
from longvideo_env.game.protocol.base import (
    ANSWER,
    Action,
    Malformed,
    MalformedKind,
    Outcome,
    ParsedReply,
)
from longvideo_env.game.sight import Sight, sight_of
from longvideo_env.records.trajectory import Status, TurnRecord
from longvideo_env.schema import Question, TimedText, Video
from longvideo_env.spans import Span
from longvideo_env.strict import plain_text
from longvideo_env.timeline import (
    Piece,
    clips_at,
    dialogue,
    length_s,
    pieces_of,
    whole_clips,
    within,
)
from longvideo_env.tools.tool import Tool, ToolCall, ToolReply, ToolResult


@dataclass(frozen=True, slots=True)
class Ended:
    """The episode is over."""

    status: Status


Move: TypeAlias = ToolCall | Observation | Ended


class Episode:
    """One play of a question.

    Args:
        question: The question; no gold.
        video: Its video.
        game: The game.
        seed: Seed of the tool calls.

    Attributes:
        messages: The conversation so far, as chat messages.
        observations: What the master agent was shown, as fields.
        turns: What happened in each finished turn.
        replies: The master's replies, as the protocol read them.
        parsed: Each reply, parsed.
        visited: Clips shown, in order, without repeats.
        view: The clips in view now.
        span: The stretch of the video in view, if a tool moved the view to one.
        seen: Everything that was shown or described, as stretches of clips.
        opened_at: The clips in view at the start.
        first: The record of the call that chose the first clip, or None.
        status: How the episode ended, or None if unfinished.
        choice: Index of the option chosen, or None.
        error: What failed, or None.
    """

    def __init__(self, question: Question, video: Video, game: Game, seed: int = 0) -> None:
        self.question = question
        self.video = video
        self.game = game
        self.seed = seed
        self.messages: list[Message] = []
        self.observations: list[Observation] = []
        self.turns: list[TurnRecord] = []
        self.replies: list[str] = []
        self.parsed: list[ParsedReply] = []
        self.visited: list[str] = []
        self.view: tuple[str, ...] = ()
        self.span: Span | None = None
        self.seen: list[Piece] = []
        self.opened_at: tuple[str, ...] = ()
        self.first: TurnRecord | None = None
        self.status: Status | None = None
        self.choice: int | None = None
        self.error: str | None = None
        self._length_s = length_s(video)
        self._pending: ToolCall | None = None
        self._action: Action | None = None
        self._finish: FinishReason | None = None
        self._usage: Mapping[str, Any] | None = None

    @property
    def words(self) -> str | None:
        """The free-text answer to a question without options."""
        if self.status != "answered" or self.question.options:
            return None
        return self.turns[-1].argument

    @property
    def turns_left(self) -> int:
        """Number of turns that the master agent has left."""
        return self.game.max_turns - len(self.turns)

    @property
    def turn(self) -> int:
        """The current turn, from 1."""
        return len(self.turns) + 1

    def start(self) -> ToolCall | None:
        """Open the video.

        Returns:
            A call for the first clip. None if no tool opens the video: it is then open at its
            start.
        """
        if self._pending is not None or self.messages:
            raise EpisodeStateError("start() was called twice on one episode.")
        if self.game.opening is None:
            self._open(ToolReply(view=self.video.clip_ids[0]))
            return None
        arguments = self.game.opening.check({})
        if isinstance(arguments, str):
            raise EpisodeStateError(f"{self.game.opening.name} cannot open a video: {arguments}.")
        spans = self.game.opening.asked_spans(arguments, self._length_s)
        assert not isinstance(spans, str), spans
        return self._ask(self.game.opening, arguments, spans)

    def reply(
        self,
        text: str,
        finish: FinishReason | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> Move:
        """Take the master's reply.

        Args:
            text: The full reply, including the part that the chat template wrote.
            finish: Why the reply ended.
            usage: Tokens, requests and money that it used.

        Returns:
            A tool call to run, whose result goes to `receive`; an observation; or the end.

        Raises:
            ActionError: The reply is not text.
        """
        self._check_waiting("reply")
        text = plain_text(text)
        parsed = self.game.protocol.parse(text, self.question.options)
        return self._take(parsed, self.game.protocol.said(text, self.turn), text, finish, usage)

    def act(self, outcome: Outcome, text: str, *, has_reasoning: bool = False) -> Move:
        """Take an action that is not text of the game's protocol, such as a function call.

        Args:
            outcome: The action with checked arguments, or what is wrong with it.
            text: Its text in the conversation.
            has_reasoning: Whether reasoning came with it.

        Returns:
            As `reply`.
        """
        self._check_waiting("act")
        message: Message = {"role": "assistant", "content": text}
        return self._take(ParsedReply(outcome, has_reasoning), message, text)

    def stop(self) -> Ended:
        """End the episode as if no turn were left."""
        return self._end("out_of_turns")

    def receive(self, result: ToolResult) -> Observation | Ended:
        """Take the result of the pending tool call."""
        call = self._pending
        if call is None:
            raise EpisodeStateError("receive() was called, but no tool call is pending.")
        self._pending = None
        opening = not self.messages
        record = self._record(call, result, None if opening else self._action)
        if opening:
            self.first = record
        else:
            self.turns.append(record)
        if result.reply is None:
            return self.fail(f"{call.tool} ({result.agent}): {result.error}")
        if not opening:
            return self._show(call.tool, result.reply)
        if result.reply.view is None and not result.reply.text:
            return self.fail(f"{call.tool} ({result.agent}): it named no clip to open the video at")
        return self._open(result.reply)

    def fail(self, error: str) -> Ended:
        """End the episode as failed, because a tool or the policy failed. It has no reward."""
        self.error = error
        return self._end("failed")

    def stop_for_context(self) -> Ended:
        """End the episode because the model's context has no room for another turn."""
        return self._end("out_of_context")

    def stop_for_budget(self) -> Ended:
        """End the episode because its budget of tokens or money is used up."""
        return self._end("out_of_budget")

    def _check_waiting(self, name: str) -> None:
        if self.status is not None or self._pending is not None or not self.messages:
            raise EpisodeStateError(
                f"{name}() was called, but the episode "
                + ("is over." if self.status else "waits for a tool or was not started.")
            )

    def _take(
        self,
        parsed: ParsedReply,
        message: Message,
        text: str,
        finish: FinishReason | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> Move:
        self.messages.append(message)
        self.replies.append(text)
        self.parsed.append(parsed)
        self._finish, self._usage = finish, usage
        if isinstance(outcome := parsed.outcome, Malformed):
            return self._malformed(outcome)
        self._action = outcome
        if outcome.name == ANSWER:
            return self._answer(outcome)
        tool = self.game.tool(outcome.name)
        spans = tool.asked_spans(outcome.arguments, self._length_s)
        if isinstance(spans, str):
            said = {"tag": self.game.protocol.tag(tool.name), "said": outcome.argument or ""}
            wrong = {**said, "problem": spans, "expected": expected(tool)}
            return self._malformed(Malformed(MalformedKind.WRONG_ARGUMENTS, wrong))
        return self._use(tool, outcome, spans)

    def _open(self, reply: ToolReply) -> Observation:
        self._see(reply)
        self.opened_at = self.view or clips_at(self.video, reply.spans)
        if self.game.instructions:
            rules = self.game.rules_text(len(self.question.options))
            self.messages.append({"role": "system", "content": str.__str__(rules)})
        where = self.view if self.span is None else self.span
        text = self.game.opening_text(self.question, self.video, where, reply.text)
        lines = self._lines() if (moved := reply.view is not None) else reply.lines
        fields: dict[str, Any] = {"moved": moved, "reply": reply.text or None, "lines": lines}
        fields |= {"options": self.question.options, "length_s": self._length_s}
        return self._observe(text, "opening", sight=self._sight(reply), **fields)

    def _show(self, tool: str, reply: ToolReply) -> Observation:
        view = ""
        fields: dict[str, Any] = {"tool": tool, "reply": reply.text or None, "lines": reply.lines}
        self._see(reply)
        if reply.view is not None:
            where = self.view if self.span is None else self.span
            view = self.game.view_text(self.video, where)
            fields |= {"moved": True, "lines": self._lines()}
        n_options = len(self.question.options)
        text = self.game.reply_text(tool, reply.text, view, self.turns_left, n_options)
        return self._observe(text, "reply", sight=self._sight(reply), **fields)

    def _answer(self, action: Action) -> Move:
        self.choice = action.choice if self.question.options else None
        self._finish_turn(action)
        return self._end("answered")

    def _use(self, tool: Tool, action: Action, spans: tuple[Span, ...]) -> Move:
        if self.turns_left == 1:
            # No turn follows in which the master could read the reply, so the tool is not called.
            self._finish_turn(action)
            return self._end("out_of_turns")
        call = self._ask(tool, action.arguments, spans)
        reason = None if tool.refuse is None else tool.refuse(call)
        if reason is None:
            return call
        self._pending = None
        self._finish_turn(action)
        n_options = len(self.question.options)
        text = self.game.refused_text(tool.name, reason, self.turns_left, n_options)
        return self._observe(text, "refused", tool=tool.name)

    def _ask(self, tool: Tool, arguments: Mapping[str, Any], spans: tuple[Span, ...]) -> ToolCall:
        self._pending = tool.call(
            self.question,
            self.video,
            arguments,
            spans,
            view=self.view,
            visited=tuple(self.visited),
            seed=(self.seed, tool.name, self.turn),
        )
        return self._pending

    def _malformed(self, problem: Malformed) -> Move:
        kind, details = problem.kind.value, problem.details
        tool = self.game.tool_tagged(str(details.get("tag", "")))
        if problem.kind is MalformedKind.WRONG_ARGUMENTS and tool and tool.spans is not None:
            limits = f"{details['problem']}; the video runs from 0 to {self._length_s:g} s"
            problem = Malformed(problem.kind, {**details, "problem": limits})
        self._finish_turn(malformed=kind)
        if self.turns_left == 0:
            return self._end("out_of_turns")
        text = self.game.malformed_text(problem, self.turns_left, len(self.question.options))
        return self._observe(text, "malformed", problem=kind)

    def _window(self, reply: ToolReply | None) -> tuple[str, ...]:
        """The clips to which a reply moves the view."""
        if reply is None or reply.clip is None:
            return () if reply is None else clips_at(self.video, reply.shown)
        return self.video.window(reply.clip, self.game.window)

    def _record(self, call: ToolCall, result: ToolResult, action: Action | None) -> TurnRecord:
        """The record of a call: of the opening where there is no action."""
        return self._turn(
            action,
            result.reply,
            turn=self.turn if action else 0,
            request=call.record(),
            result=result.record(),
            finish=self._finish if action else None,
            moves=self.game.tool(call.tool).moves,
            shown=self._window(result.reply),
            seen=pieces_of(self.video, result.reply.shown) if result.reply else (),
        )

    def _finish_turn(self, action: Action | None = None, malformed: str | None = None) -> None:
        """Record a turn without a tool call."""
        moves = action is not None and action.name != ANSWER and self.game.tool(action.name).moves
        more = {"turn": self.turn, "finish": self._finish, "moves": moves}
        self.turns.append(self._turn(action, None, malformed=malformed, **more))

    def _turn(self, action: Action | None, reply: ToolReply | None, **more: Any) -> TurnRecord:
        """The record of a turn, with the usage of the reply and, if called, the tool."""
        tool = None if reply is None else reply.details.get("cost_usd")
        cost = None if self._usage is None else self._usage.get("cost_usd")
        if tool is not None:
            cost = tool if cost is None else cost + tool
        if action is not None:
            more["action"], more["argument"] = action.name, action.argument
        return TurnRecord(usage=self._usage, cost_usd=cost, **more)

    def _see(self, reply: ToolReply) -> None:
        """Move the view and record what was shown."""
        if reply.clip is not None:
            self.view, self.span = self.video.window(reply.clip, self.game.window), None
            self.seen += whole_clips(self.video, self.view)
            shown = self.view
        else:
            spans = reply.shown
            shown = clips_at(self.video, spans)
            self.seen += pieces_of(self.video, spans)
            if isinstance(reply.view, tuple):
                self.view, self.span = clips_at(self.video, [reply.view]), reply.view
        self.visited += [c for c in shown if c not in self.visited]

    def _lines(self) -> tuple[TimedText, ...]:
        if self.span is not None:
            return within(dialogue(self.video), [self.span])
        return tuple(line for clip_id in self.view for line in self.video[clip_id].subtitles)

    def _sight(self, reply: ToolReply) -> Sight | None:
        """The frames shown with a tool's reply. None for a master that reads text only."""
        most = self.game.config.frames
        return sight_of(self.video, self.view, self.span, reply, most) if most else None

    def _observe(self, text: str, kind: str, **fields: Any) -> Observation:
        if (sight := fields.get("sight")) is not None:
            text = f"{text.rstrip()}\n{self.game.frames_text(self.video, sight).rstrip()}"
        # A plain copy: the type `Shown` must not leave the game.
        text = str.__str__(text)
        user: Message = {"role": "user", "content": text}
        last = self.messages[-1] if self.messages else user
        answers = last["role"] == "assistant"
        self.messages += self.game.protocol.heard(last, text) if answers else [user]
        if sight is not None and sight.frames:
            self.messages[-1]["frames"] = sight.frames
        if self.question.ask == WHEN:
            fields["times"] = tuple(map(self.video.clip_times, self.view))
        self.observations.append(Observation(text, kind, self.turns_left, self.view, **fields))
        return self.observations[-1]

    def _end(self, status: Status) -> Ended:
        self.status = status
        return Ended(status)
