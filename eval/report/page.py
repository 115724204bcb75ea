"""Make one HTML file from runs: figures and episodes as compressed JSON, and the page's scripts."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from eval.report.asked import Questions
from eval.report.folders import Source
from eval.report.headline import about, headline
from eval.report.overview import FEWEST, describe_pairs, describe_run
from eval.report.played import row_of, trace_of
from eval.report.thumbs import Thumbs
from eval.report.training import advantages, describe_curves, describe_steps
from longvideo_env.errors import MissingExtraError

SCRIPTS = (
    *("dom.js", "data.js", "charts.js", "state.js", "overview.js", "list.js", "trace.js"),
    *("training.js", "main.js"),
)
CHUNK = 64
"""Number of episodes in a block. Opening one of them unpacks the whole block."""


@dataclass(frozen=True)
class Page:
    """A finished page.

    Attributes:
        html: The file's text.
        n_episodes: Number of episodes.
        n_frames: Number of thumbnails.
        notes: Notes for the reader.
    """

    html: str
    n_episodes: int
    n_frames: int
    notes: tuple[str, ...]


def build_page(
    sources: Sequence[Source],
    questions: Questions,
    thumbs: Thumbs,
    title: str,
    progress: Callable[[int], None] = lambda _: None,
) -> Page:
    """Make the page.

    Args:
        sources: The runs.
        questions: Reads their datasets.
        thumbs: Makes the thumbnails.
        title: The page's title.
        progress: Called with the number of episodes prepared since the last call.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    rows: list[dict[str, Any]] = []
    chunks: list[list[dict[str, Any]]] = []
    runs = []
    for number, source in enumerate(sources):
        asked = questions.open(source)
        places = [asked.place(episode) for episode in source.episodes]
        start = len(rows)
        for episode, place, adv in zip(
            source.episodes, places, advantages(source.episodes), strict=True
        ):
            clips = questions.records[place]["clips"]
            rows.append(row_of(episode, number, place, clips, adv))
            if len(rows) > len(chunks) * CHUNK:
                chunks.append([])
            chunks[-1].append(trace_of(episode, clips, questions.videos[place], thumbs))
            progress(1)
        notes = [note for note in (asked.note, _unknown(asked.n_unknown)) if note]
        run = describe_run(source, [questions.records[place] for place in places], notes)
        run["steps"] = describe_steps(source.episodes, start)
        run["curves"] = describe_curves(source.curves)
        runs.append(run)
    for record, strip in zip(questions.records, thumbs.strips(questions.videos), strict=True):
        record["strip"] = strip
    pairs = describe_pairs(sources)
    index = {
        "title": title,
        "headline": headline(runs, pairs),
        "runs": runs,
        "pairs": pairs,
        "fewest": FEWEST,
        "questions": questions.records,
        "episodes": rows,
        "chunk": CHUNK,
        "frames_left_out": thumbs.n_left_out,
    }
    blocks: dict[str, Any] = {"index": index, "frames": thumbs.images, "strip": thumbs.small}
    blocks |= {f"chunk-{i}": chunk for i, chunk in enumerate(chunks)}
    packed = {name: pack(value) for name, value in blocks.items()}
    found = tuple(f"{run['name']}: {note}" for run in runs for note in run["notes"])
    return Page(render(title, packed, about(sources)), len(rows), len(thumbs.images), found)


def _unknown(count: int) -> str:
    if not count:
        return ""
    return (
        f"{count} episodes have questions that are not in the dataset. They are shown as in the "
        "prompts, without gold answers."
    )


def pack(value: Any) -> str:
    """Compressed JSON in base64, which cannot close a tag. Equal values give equal text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate in a model's broken output has no UTF-8. It becomes a question mark.
    return b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode("ascii")


def render(title: str, blocks: dict[str, str], subtitle: str = "") -> str:
    """Put the page together.

    Args:
        title: The page's title.
        blocks: Packed values by name.
        subtitle: The line under the title.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2", "report") from error
    style = _static("report.css")
    script = "(() => {\n'use strict';\n" + "\n".join(map(_static, SCRIPTS)) + "\n})();\n"
    # Only files of this package are inserted unescaped. Texts of runs are escaped.
    environment = Environment(
        loader=PackageLoader("eval.report"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title,
        about=subtitle,
        style=style,
        script=script,
        policy=security_policy(style, script),
        blocks=blocks,
    )


def security_policy(style: str, script: str) -> str:
    """A policy that allows only the page's own script and style, and embedded images."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_digest(script)}",
            f"style-src {_digest(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _static(name: str) -> str:
    text = (files("eval.report") / "static" / name).read_text(encoding="utf-8")
    assert not re.search(r"</(?:script|style)", text, re.IGNORECASE), f"{name} would close its tag"
    return text
