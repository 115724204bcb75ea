"""Every word that the environment says to the master agent.

`PROMPT_VERSION` goes up whenever a wording changes, because wordings move scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from longvideo_env.game.protocol.tags import neutralise, option_label
from longvideo_env.game.rules import Rules
from longvideo_env.schema import Question, TimedText, Video

PROMPT_VERSION = 1


def system_prompt(rules: Rules, n_options: int) -> str:
    """The rules of the game, for the actions on offer."""
    tags = rules.tags
    last = option_label(n_options - 1)
    lines = [
        f"You answer a {'multiple-choice ' if n_options else ''}question about a long video. You "
        "cannot see the video. You "
        "read the subtitles of a few of its clips at a time, and other agents help you.",
        f"You have {rules.max_turns} turn{'s' * (rules.max_turns > 1)}. In each, first think "
        f"inside <{tags.reasoning}> </{tags.reasoning}>, then do exactly one of these:",
    ]
    if rules.can_look:
        lines.append(
            f"- <{tags.look}>what you want to know</{tags.look}> asks the vision agent what the "
            f"frames of the current clips show. Its reply comes inside <{tags.looked}>."
        )
    if rules.can_ground:
        lines.append(
            f"- <{tags.ground}>what to look for</{tags.ground}> asks the grounding agent for "
            f"another part of the video. Its subtitles come inside <{tags.grounded}>."
        )
    answer = (
        f"- <{tags.answer}>a0</{tags.answer}> answers with the label of one option, a0 to {last}, "
    )
    if not n_options:
        answer = f"- <{tags.answer}>your answer</{tags.answer}> answers in a few words, "
    lines += [
        answer + "and ends the episode.",
        "Write nothing after the action. A reply without exactly one action costs a turn.",
    ]
    return "\n".join(lines)


def question_prompt(question: Question, video: Video, window: Sequence[str], rules: Rules) -> str:
    """The first user message: question, options, and the first evidence window."""
    options = "\n".join(
        f"{option_label(i)}: {neutralise(option)}" for i, option in enumerate(question.options)
    )
    return (
        f"Question: {neutralise(question.text)}\n{options}{chr(10) if options else ''}\n"
        f"The video {video.video_id} has {len(video.clips)} clip{'s' * (len(video.clips) > 1)}. "
        f"You are at:\n{clips_block(video, window, rules)}\n{turns_notice(rules.max_turns)}"
    )


def grounded_prompt(video: Video, window: Sequence[str], rules: Rules, turns_left: int) -> str:
    """The observation after the grounding agent named a clip."""
    return f"{clips_block(video, window, rules)}\n{turns_notice(turns_left)}"


def looked_prompt(text: str, rules: Rules, turns_left: int) -> str:
    """The observation after the vision agent described the clips."""
    tag = rules.tags.looked
    return f"<{tag}>{neutralise(text.strip())}</{tag}>\n{turns_notice(turns_left)}"


def all_visited_prompt(turns_left: int) -> str:
    """The observation when grounding is asked for but no clip is left."""
    return f"You have seen every clip of this video. {turns_notice(turns_left)}"


def malformed_prompt(problem: str, rules: Rules, turns_left: int) -> str:
    """The observation after a reply that was not exactly one action."""
    names = {"look": rules.tags.look, "ground": rules.tags.ground, "answer": rules.tags.answer}
    wanted = ", ".join(f"<{names[kind.value]}>" for kind in rules.actions)
    return (
        f"Your reply does not count: {problem} Write exactly one of {wanted}, closed, after your "
        f"reasoning. {turns_notice(turns_left)}"
    )


def clips_block(video: Video, window: Sequence[str], rules: Rules) -> str:
    """The clips of an evidence window with their subtitles."""
    tag = rules.tags.grounded
    clips = "\n".join(_clip_text(video, clip_id) for clip_id in window)
    return f"<{tag}>\n{clips}\n</{tag}>"


def turns_notice(turns_left: int) -> str:
    """How many turns are left; the last one says that it is the last."""
    if turns_left == 1:
        return "This is your last turn: answer now."
    return f"You have {turns_left} turns left."


def _clip_text(video: Video, clip_id: str) -> str:
    lines = [_line(line) for line in video[clip_id].subtitles]
    return "\n".join([f"[{clip_id}]", *(lines or ["(no subtitles)"])])


def _line(line: TimedText) -> str:
    """A line of dialogue, after its time in the clip where the source has it."""
    text = neutralise(line.text)
    return text if line.start_s is None else f"[{clock(line.start_s)}] {text}"


def clock(seconds: float) -> str:
    """Seconds as `mm:ss`; minutes go on beyond 59."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
