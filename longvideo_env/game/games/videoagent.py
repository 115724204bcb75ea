"""VideoAgent: read captions of a few frames, decide whether they are enough, fetch more, answer.

Paper: VideoAgent, arXiv 2403.10517. Code: wxh1996/VideoAgent, commit 09f6121.

Same as there: frames at 1 a second, each with a caption; five frames spread over the whole film come
first; if they are not enough, the master describes frames to look for, each between two times, and
gets the best one for each with its caption; after three rounds it must answer.

Otherwise, and why:
- One reply decides: to answer, or to fetch frames. There a second call rates the answer's confidence
  from 1 to 3 and a third writes the descriptions; here the decision is the choice of the action.
- A frame's caption is what the dataset knows of that second: descriptions of what is seen, and the
  line that is spoken, without which no question on dialogue could be answered. There captions come
  from LaViLa or CogAgent and say nothing of speech.
- Frames are found by BM25 over these captions; there by CLIP between description and frame.
- Any two times may be given; there they are those between two frames that were seen.
- At most eight descriptions a round.
- A reply that cannot be read is a malformed turn; there the last captions go to a final answer.
- The words are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic wants it below Python 3.12

from longvideo_env.game.game import GameSpec
from longvideo_env.media.frames import spread
from longvideo_env.schema import clock
from longvideo_env.spans import Span
from longvideo_env.timeline import length_s
from longvideo_env.tools.passages import Passage, Passages, passages
from longvideo_env.tools.tool import ToolCall, ToolReply, tool

FIRST_FRAMES = 5
FRAME_S = 1.0


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
class FrameRequest(TypedDict):
    """A frame to look for.

    Attributes:
        start_time: From this second of the video on.
        end_time: Up to this second.
        description: What the frame should show.
    """

    start_time: Annotated[float, Field(examples=[0])]
    end_time: Annotated[float, Field(examples=[60])]
    description: Annotated[str, Field(max_length=1000)]


@tool(in_place=True)
def caption_uniform_frames(request: ToolCall) -> ToolReply:
    """Gives the captions of five frames spread over the whole film."""
    last = max(int(length_s(request.video)) - 1, 0)
    wanted = spread(range(last + 1), FIRST_FRAMES)
    frames = {int(frame.span[0]): frame for frame in _frames(request).all}
    blank = [Passage((float(i), min(i + 1.0, length_s(request.video))), "") for i in wanted]
    return _captions([frames.get(int(frame.span[0]), frame) for frame in blank])


def _between(arguments: Mapping[str, Any], length: float) -> list[Span]:
    return [(one["start_time"], one["end_time"]) for one in arguments["frame_descriptions"]]


@tool(in_place=True, spans=_between, query="")
def retrieve_frames(
    request: ToolCall,
    frame_descriptions: Annotated[list[FrameRequest], Field(min_length=1, max_length=8)],
) -> ToolReply:
    """Finds frames by descriptions between two times, and gives their captions.

    Args:
        frame_descriptions: each frame to look for, with start_time, end_time and description
    """
    found: dict[Span, Passage] = {}
    for wanted in frame_descriptions:
        low, high = wanted["start_time"], wanted["end_time"]
        inside = lambda frame, a=low, b=high: a <= frame.span[0] < b  # noqa: E731
        for frame in _frames(request).best(wanted["description"], 1, inside):
            found[frame.span] = frame
    return _captions([found[span] for span in sorted(found)])


def _frames(request: ToolCall) -> Passages:
    return passages(request.video, FRAME_S)


def _captions(frames: Sequence[Passage]) -> ToolReply:
    lines = [f"[{clock(f.span[0])}] {' '.join(f.text.split()) or '(no caption)'}" for f in frames]
    text = "\n".join(lines) or "There is no frame between these times."
    return ToolReply(text, spans=tuple(f.span for f in frames), lines=tuple(f.line for f in frames))


WORDS = """
{% block rules %}
You answer a {% if n_options %}multiple-choice {% endif %}question about a long video that you cannot see. You read captions of single frames.
You have {{ max_turns }} rounds. In each, first think inside <{{ tags.reasoning }}> </{{ tags.reasoning }}> about what the captions tell and whether it is enough, then do exactly one of these:
- <retrieve_frames>[{"start_time": 0, "end_time": 60, "description": "what the frame shows"}]</retrieve_frames> if it is not: describe up to eight frames that would tell, each between two times in seconds.
{% if n_options %}
- <{{ tags.answer }}>{{ first_label }}</{{ tags.answer }}> if it is: the label of one option, {{ first_label }} to {{ last_label }}.
{% else %}
- <{{ tags.answer }}>{% if ask == "when" %}12.5-40{% else %}your answer{% endif %}</{{ tags.answer }}> if it is.
{% endif %}
Write nothing after it. In the last round you must answer.
{% endblock %}

{% block opening %}
Question: {{ question }}
{% for option in options %}
{{ option.label }}: {{ option.text }}
{% endfor %}

The video is {{ length_s }} seconds long. Frames of it, by minutes and seconds:
{{ reply }}
{{ turns }}
{% endblock %}

{% block turns %}
{% if turns_left == 1 %}This is the last round: answer now.{% else %}{{ turns_left }} rounds are left.{% endif %}
{% endblock %}
"""

GAME = GameSpec(
    tools=(retrieve_frames,),
    opening=caption_uniform_frames,
    protocol="tags",
    max_turns=3,
    words=WORDS,
)
