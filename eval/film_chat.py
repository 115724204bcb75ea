r"""Ask questions about a film one after the other, and write a page of answers with pictures.

    longvideo-env chat data/film --page chat.html
    printf 'Who opens the box?\nWhere is he? | at home | at sea\n' | longvideo-env chat data/film

A question is a line, with its options after `|`. A language model knows the last ten questions and
its answers ("And why?"). The agents that find clips do not, and offline answerers ignore them. The
chat ends at the end of input or at `quit`. With --page an HTML file is written after each answer:
the subtitle line that supports it, its time, and the frame at that moment. The page needs no
network.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from agents.ask import Asker, add_agents, open_meaning, specs_of
from agents.ask_trace import answerer, cited, finding, is_floor, outcome
from agents.evidence import Cited
from agents.perception.embeddings import Embedder
from eval.report.thumbs import thumbnail
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import message_prefix, run_command
from longvideo_env.errors import SpecError
from longvideo_env.media.frames import list_frames
from longvideo_env.records.files import storage_error, write_text
from longvideo_env.schema import Video
from longvideo_env.sync import background_loop

ENDS = ("quit", "exit")


@dataclass(frozen=True)
class Answered:
    """A question on the page.

    Attributes:
        question: Its text.
        options: Its options.
        lines: The printed lines.
        moment: The cited subtitle line with its time, or empty.
        picture: The frame at that moment as a data URI, or None.
    """

    question: str
    options: tuple[str, ...]
    lines: tuple[str, ...]
    moment: str = ""
    picture: str | None = None


def questions(lines: Iterator[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Questions with their options, from lines of input."""
    for line in lines:
        text, *options = (part.strip() for part in line.split("|"))
        if text.lower() in ENDS and not options:
            return
        if text:
            yield text, tuple(options)


def frame_at(video: Video, found: Cited) -> Path | None:
    """The frame of a clip nearest to the start of a subtitle line, or None."""
    frames = list_frames(video, found.clip_id)
    time_s = found.line.start_s or 0.0
    return min(frames, key=lambda f: abs(f.time_s - time_s)).path if frames else None


def page(title: str, policy: str, answers: Sequence[Answered]) -> str:
    """The page of a chat. All text is escaped. The page loads nothing."""
    from jinja2 import Environment

    text = (files("eval.report") / "templates" / "chat.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True).from_string(text)
    return template.render(title=title, answerer=answerer(policy), answers=answers)


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser("longvideo-env chat", __doc__, findings="some questions got no answer")
    parser.add_argument("folder", help="a folder that ingest or prepare wrote")
    parser.add_argument("--page", type=Path, metavar="FILE", help="HTML page with cited moments")
    add_agents(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("chat", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    embedder = open_meaning(args)
    policy, config = specs_of(args)
    asker = Asker(
        args.folder,
        config=config,
        policy=policy,
        video=args.video,
        seed=args.seed,
        remember=not is_floor(policy),
    )
    sys.stdout.write(f"{asker.video.video_id}: answered by {answerer(policy)}\n")
    answers: list[Answered] = []
    n_failed = 0
    loop = background_loop()  # one for all questions, because network clients belong to a loop
    try:
        for text, options in questions(_typed()):
            try:
                answer, good = _ask(asker, text, options, embedder, loop)
            except SpecError as error:
                sys.stderr.write(f"{message_prefix('chat')}{error}\n")
                n_failed += 1
                continue
            n_failed += not good
            answers.append(answer)
            sys.stdout.write("\n".join(answer.lines) + "\n")
            sys.stdout.flush()
            if args.page is not None:
                _save(args.page, page(asker.video.video_id, policy, answers))
    finally:
        asyncio.run_coroutine_threadsafe(asker.aclose(), loop).result()
    if args.page is not None and answers:
        sys.stdout.write(f"{args.page}: {len(answers)} answers\n")
    return EXIT_FINDINGS if n_failed else EXIT_DONE


def _ask(
    asker: Asker,
    text: str,
    options: tuple[str, ...],
    embedder: Embedder | None,
    loop: asyncio.AbstractEventLoop,
) -> tuple[Answered, bool]:
    played = asyncio.run_coroutine_threadsafe(asker.ask(text, options), loop).result()
    video = asker.video
    lines = tuple(outcome(played, video, options, embedder))
    good = played.status == "answered"
    found = finding(played, video, options, embedder)
    if not good or not found.speaks or found.line is None:
        return Answered(text, options, lines), good
    path = frame_at(video, found.line)
    picture = thumbnail(path) if path is not None else None
    return Answered(text, options, lines, cited(video, found.line), picture), good


def _typed() -> Iterator[str]:
    """Lines of standard input, with a prompt on a terminal."""
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("? ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        yield line


def _save(file: Path, html: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(file, error) from error
    write_text(file, html)
