"""Deep Video Discovery: search a database of captions, inspect frames, finish.

Paper: Deep Video Discovery, arXiv 2505.18079. Code: microsoft/DeepVideoDiscovery, commit 6e0247a.

Same as there: function calling with `global_browse_tool(query)`, `clip_search_tool(
event_description, top_k=16)`, `frame_inspect_tool(question, time_ranges_hhmmss)` and
`finish(answer)`; the film as captions of 10 s clips; found captions come in order of time, each with
`[From HH:MM:SS to HH:MM:SS seconds]` before it; an inspection takes a list of ranges, is refused if
one starts beyond the end of the film, and is cut at that end; the last turn is told to finish; up to
15 turns. `game=dvd-lite` plays on subtitles alone, without `frame_inspect_tool`.

Otherwise, and why:
- The captions of a clip are what the dataset knows of these 10 s: dialogue and descriptions. There a
  small vision model writes them from 2 frames a second; those databases were not published.
- They are searched by BM25: no network, no embeddings, the same answer each time.
- `global_browse_tool` gives who speaks how often, and the 12 nearest captions; there a model answers
  from the 300 nearest. Both are JSON with `subject_registry` and `query_related_event`.
- Frames are inspected by the vision agent (`vision=`), which decides how many it takes; there 50.
- A range that is reversed is refused too; there it takes part with a negative length.
- Several calls in one reply are a malformed turn; there all of them run.
- `finish` takes the label of an option where there are options.
- The words are ours.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from longvideo_env.game.game import GameSpec
from longvideo_env.game.protocol.base import TagSet
from longvideo_env.schema import Video
from longvideo_env.spans import Span
from longvideo_env.timeline import dialogue, length_s
from longvideo_env.tools.passages import Passage, passages
from longvideo_env.tools.tool import ToolCall, ToolReply, tool

CLIP_S = 10.0
NEAREST = 12
_SPEAKER = re.compile(r"(\w[\w' ]{0,24}?) ?: ")
_TIME = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2})(?:\.\d+)?", re.ASCII)


@tool(in_place=True)
def give_length(request: ToolCall) -> ToolReply:
    """Says how long the film is."""
    return ToolReply(f"The video is {hhmmss(length_s(request.video))} long.")


@tool(in_place=True)
def global_browse_tool(request: ToolCall, query: str) -> ToolReply:
    """Gives an overview of the video: who is in it, and what happens that bears on a query.

    Args:
        query: what to find out about the whole video
    """
    return _browse(request, query, seen=True)


@tool(in_place=True)
def clip_search_tool(
    request: ToolCall, event_description: str, top_k: Annotated[int, Field(ge=1, le=64)] = 16
) -> ToolReply:
    """Searches the captions of 10 s clips for an event, and gives the nearest in order of time.

    Args:
        event_description: the event to look for
        top_k: how many clips; the default is mostly right
    """
    return _search(request, event_description, top_k, seen=True)


@tool(in_place=True, name="global_browse_tool")
def browse_subtitles(request: ToolCall, query: str) -> ToolReply:
    """Gives an overview of the video: who speaks in it, and what is said that bears on a query.

    Args:
        query: what to find out about the whole video
    """
    return _browse(request, query, seen=False)


@tool(in_place=True, name="clip_search_tool")
def search_subtitles(
    request: ToolCall, event_description: str, top_k: Annotated[int, Field(ge=1, le=64)] = 16
) -> ToolReply:
    """Searches the subtitles of 10 s clips, and gives the nearest in order of time.

    Args:
        event_description: the event to look for
        top_k: how many clips; the default is mostly right
    """
    return _search(request, event_description, top_k, seen=False)


def _ranges(arguments: Mapping[str, Any], length: float) -> list[Span]:
    ranges = arguments["time_ranges_hhmmss"]
    spans = [(seconds(start), seconds(end)) for start, end in ranges]
    beyond = next((start for start, _ in spans if start >= length), None)
    if beyond is not None:
        raise ValueError(f"{hhmmss(beyond)} lies beyond the end of the video, {hhmmss(length)}")
    return sorted((start, min(end, length)) for start, end in spans)


@tool(role="vision", spans=_ranges, query="question")
async def frame_inspect_tool(
    request: ToolCall,
    question: str,
    time_ranges_hhmmss: Annotated[
        list[tuple[str, str]],
        Field(min_length=1, max_length=16, examples=[[["00:00:00", "00:01:00"]]]),
    ],
) -> ToolReply:
    """Asks a question about the frames of some stretches of the video.

    Args:
        question: what to look for in them, without times
        time_ranges_hhmmss: start and end of each stretch, as HH:MM:SS
    """
    reply: ToolReply = await request.agent.look(request)
    return ToolReply(reply.text, details=reply.details, spans=request.spans)


def seconds(text: str) -> float:
    """`HH:MM:SS` or `MM:SS` as seconds. Fractions are dropped.

    Raises:
        ValueError: The text is neither.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:20]!r} is not a time as HH:MM:SS")
    return int(match[1] or 0) * 3600.0 + int(match[2]) * 60 + int(match[3])


def hhmmss(at_s: float) -> str:
    """Seconds as `HH:MM:SS`."""
    whole = int(at_s)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def subjects(video: Video) -> dict[str, int]:
    """Speakers (`NAME : words`) and their numbers of lines, most lines first; at most 20."""
    names = (_SPEAKER.match(line.text) for line in dialogue(video))
    return dict(Counter(name[1].strip() for name in names if name).most_common(20))


def _search(request: ToolCall, query: str, n: int, *, seen: bool) -> ToolReply:
    found = _nearest(request.video, query, n, seen=seen)
    text = "\n".join(map(_caption, found)) or "There are no captions."
    return _about(text, found)


def _browse(request: ToolCall, query: str, *, seen: bool) -> ToolReply:
    found = _nearest(request.video, query, NEAREST, seen=seen)
    registry = {name: {"lines": n} for name, n in subjects(request.video).items()}
    answer = {"subject_registry": registry, "query_related_event": list(map(_caption, found))}
    return _about(json.dumps(answer, ensure_ascii=False), found)


def _nearest(video: Video, query: str, n: int, *, seen: bool) -> list[Passage]:
    found = passages(video, CLIP_S, seen=seen).best(query, n)
    return sorted(found, key=lambda passage: passage.span)


def _caption(passage: Passage) -> str:
    start, end = map(hhmmss, passage.span)
    return f"[From {start} to {end} seconds]\n{passage.text}"


def _about(text: str, found: Sequence[Passage]) -> ToolReply:
    spans = tuple(passage.span for passage in found)
    return ToolReply(text, spans=spans, lines=tuple(passage.line for passage in found))


WORDS = """
{% block rules %}
You answer a {% if n_options %}multiple-choice {% endif %}question about a long video that you cannot see. Think, call one tool, read what it says, and go on until you know the answer.
You have {{ max_turns }} turns. In each, call exactly one of {% for tool in tools %}{{ tool.name }}, {% endfor %}or {{ tags.answer }}, which ends the episode.
global_browse_tool gives an overview, clip_search_tool finds moments by what happens in them{% for tool in tools if tool.name == "frame_inspect_tool" %}, and frame_inspect_tool tells what is to be seen in them: confirm an answer with it{% endfor %}.
{% endblock %}

{% block opening %}
{{ reply }}
Question: {{ question }}
{% for option in options %}
{{ option.label }}: {{ option.text }}
{% endfor %}

{{ turns }}
{% endblock %}

{% block turns %}
{% if turns_left == 1 %}This is your last turn: call {{ tags.answer }} now.{% else %}You have {{ turns_left }} turns left.{% endif %}
{% endblock %}

{% block malformed %}
Your reply does not count: {{ problem }} Call exactly one of {% for tool in tools %}{{ tool.name }}, {% endfor %}{{ tags.answer }}. {{ turns }}
{% endblock %}
"""

GAME = GameSpec(
    tools=(global_browse_tool, clip_search_tool, frame_inspect_tool),
    opening=give_length,
    protocol="functions",
    max_turns=15,
    tag_set=TagSet("dvd", answer="finish"),
    words=WORDS,
)

LITE = GameSpec(
    tools=(browse_subtitles, search_subtitles),
    opening=give_length,
    protocol="functions",
    max_turns=15,
    tag_set=TagSet("dvd", answer="finish"),
    words=WORDS,
)
