"""LongVT: think over the whole film, crop a stretch of it, look again, answer.

Paper: LongVT, arXiv 2511.20785. Code: EvolvingLMMs-Lab/LongVT, commit 08d755b9.

Same as there: one tool, `crop_video(video_path, start_time, end_time)` in seconds of the whole
video, with start before end and both in bounds; Hermes form (`<think>`, `<tool_call>`,
`<tool_response>`, `<answer>`); the film is first shown by frames spread over all of it; the reward
is accuracy + format + temporal IoU of the last crop with the gold stretch, of weight 1 each.
`reward=longvt-recall` takes the share of the gold stretch that the crop covers instead,
`reward=longvt-any-call` 1 for any crop where the answer is right.

Otherwise, and why:
- A master that reads text has the frames described by the vision agent, at the start and in each
  crop, and a crop shows its dialogue. With `frames=N,vision=self` the master sees them, as there
  (at most 512, then 128 a crop); here N each time.
- A crop counts as what it covers of each clip, because gold is known by clip; a stretch that runs
  over the end of a clip is compared there as one.
- `video_path` may be left out, and any text is taken: there is one video.
- Eight turns. There, tokens are what ends an episode (16,384 of replies and results).
- A wrong call costs its turn and says the limits; there the server raises and the text comes back.
- Accuracy is exact match for options. In words a judge may be asked (`judge=`), as there.
- The words are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from longvideo_env.game.game import GameSpec
from longvideo_env.game.protocol.base import Malformed, TagSet
from longvideo_env.game.reward import Play
from longvideo_env.schema import Gold
from longvideo_env.spans import Span, common_s
from longvideo_env.timeline import Piece, seconds_of
from longvideo_env.tools.tool import ToolCall, ToolReply, tool

FIRST_FRAMES = 16
"""Number of moments, spread evenly over the film, that are described at the start."""


def _first_frames(_: Mapping[str, Any], length_s: float) -> list[Span]:
    each = length_s / FIRST_FRAMES
    moments = [(i + 0.5) * each for i in range(FIRST_FRAMES)]
    return [(at, min(at + 1.0, length_s)) for at in moments]


@tool(role="vision", spans=_first_frames)
async def skim_video(request: ToolCall) -> ToolReply:
    """Describes frames spread over the whole film."""
    reply: ToolReply = await request.agent.look(request)
    return ToolReply(reply.text, details=reply.details, spans=request.spans)


def _crop(arguments: Mapping[str, Any], length_s: float) -> list[Span]:
    return [(arguments["start_time"], arguments["end_time"])]


@tool(role="vision", moves=True, spans=_crop)
async def crop_video(
    request: ToolCall,
    start_time: Annotated[float, Field(examples=[0])],
    end_time: Annotated[float, Field(examples=[60])],
    video_path: str = "video",
) -> ToolReply:
    """Shows one stretch of the video: what is said in it, and what is seen.

    Args:
        start_time: start in seconds of the whole video
        end_time: end in seconds, later than the start
        video_path: the video
    """
    reply: ToolReply = await request.agent.look(request)
    return ToolReply(reply.text, view=request.spans[0], details=reply.details)


def crops(play: Play) -> list[tuple[Piece, ...]]:
    """What each crop covered, in order: pieces of clips."""
    return [turn.seen for turn in play.turns if turn.action == crop_video.name and turn.seen]


def well_formed(play: Play, _: Gold) -> float:
    """1 if every reply has one thought and one call or answer, and the last reply answers."""
    fine = [r.has_reasoning and not isinstance(r.outcome, Malformed) for r in play.parsed]
    return float(play.status == "answered" and all(fine))


def _shared(play: Play, gold: Gold) -> tuple[float, float, float] | None:
    """Seconds of overlap, of the last crop, and of gold. None if gold has no stretch."""
    wanted = list(gold.clues)
    if not wanted and gold.clip_id is not None and gold.span is not None:
        wanted = [(gold.clip_id, *gold.span)]
    if not wanted:
        return None
    last = [piece for crop in crops(play)[-1:] for piece in crop]
    common = sum(
        common_s(_inside(last, clip_id), _inside(wanted, clip_id))
        for clip_id in {clip_id for clip_id, _, _ in wanted}
    )
    return common, seconds_of(last), seconds_of(wanted)


def _inside(pieces: Sequence[Piece], clip_id: str) -> list[Span]:
    return [(start, end) for one, start, end in pieces if one == clip_id]


def crop_iou(play: Play, gold: Gold) -> float | None:
    """Temporal IoU of the last crop with the gold stretch; 0 without a crop."""
    found = _shared(play, gold)
    if found is None:
        return None
    common, cropped, whole = found
    either = cropped + whole - common
    return common / either if either > 0 else 0.0


def crop_recall(play: Play, gold: Gold) -> float | None:
    """The share of the gold stretch that the last crop covers; 0 without a crop."""
    found = _shared(play, gold)
    return None if found is None else found[0] / found[2] if found[2] > 0 else 0.0


def any_crop(play: Play, gold: Gold) -> float:
    """1 if the answer is right and there was any crop."""
    return float(bool(crops(play)) and bool(gold.is_right(play.choice)))


REWARD = {"answer": 1.0, "well_formed": 1.0, "crop_iou": 1.0}
RECALL = {"answer": 1.0, "well_formed": 1.0, "crop_recall": 1.0}
ANY_CALL = {"answer": 1.0, "well_formed": 1.0, "any_crop": 1.0}

WORDS = """
{% block opening %}
Question: {{ question }}
{% for option in options %}
{{ option.label }}: {{ option.text }}
{% endfor %}

The video is {{ length_s }} seconds long; its path is {{ video_id }}.
{% if reply %}
Frames spread over all of it show:
{{ reply }}
{% endif %}
{% if view %}
{{ view }}
{% endif %}
{{ turns }}
{% endblock %}

{% block view %}
{% for clip in clips %}
Said from {{ clip.clip_id }}:
{% for line in clip.lines %}
{% if line.time %}[{{ line.time }}] {% endif %}{{ line.text }}
{% else %}
(nothing)
{% endfor %}
{% endfor %}
{% endblock %}

{% block reply %}
<{{ tags.reply }}>{% if reply %}Seen: {{ reply }}
{% endif %}{{ view }}</{{ tags.reply }}>
{{ turns }}
{% endblock %}
"""

GAME = GameSpec(
    tools=(crop_video,),
    opening=skim_video,
    protocol="hermes",
    max_turns=8,
    reward="longvt",
    tag_set=TagSet("longvt", reasoning="think", reply="tool_response", view="tool_response"),
    words=WORDS,
)
