"""Ask one question about a film of your own, and see how the agents come to their answer.

    longvideo-env ingest film.mkv --subtitles film.srt --out data/film
    longvideo-env ask data/film "Who opens the box?" --options "the old man" "nobody"
    longvideo-env ask data/film "Who opens the box?" --policy hf:PATH

The folder is one that `ingest` or `prepare` wrote, or any in a layout of docs/data.md. Without
--options the master answers in words. Times are those of the film.

Exit codes: 0 answered; 2 bad arguments or data; 3 no answer, or an agent failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agents.generation.settings import GenerationSettings
from agents.policies.build import build_policy
from longvideo_env import EnvConfig, RolloutEngine
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import EXIT_FINDINGS, run_command
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.errors import SpecError
from longvideo_env.records.trajectory import Trajectory, TurnRecord
from longvideo_env.schema import (
    MAX_OPTIONS,
    MIN_OPTIONS,
    Gold,
    Question,
    Task,
    TimedText,
    Video,
    clock,
)
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox

_WIDTH = 100


def ask(
    folder: str | Path,
    text: str,
    options: Sequence[str] = (),
    *,
    config: EnvConfig,
    policy: str,
    video: str | None = None,
    seed: int = 0,
) -> tuple[Trajectory, Video]:
    """Play one question about one of a folder's videos.

    Args:
        folder: Where the video's clips are.
        text: The question.
        options: Two to eight answers, or none for an answer in words.
        config: The environment; its dataset and split play no part.
        policy: Spec of the master agent.
        video: Which video, where the folder has several.
        seed: Seeds the episode.

    Raises:
        DataError: The folder is wrong.
        SpecError: There is no such video, or a wrong number of options.
    """
    if options and not MIN_OPTIONS <= len(options) <= MAX_OPTIONS:
        raise SpecError(f"expected {MIN_OPTIONS} to {MAX_OPTIONS} options, got {len(options)}.")
    if not text.strip() or not all(option.strip() for option in options):
        raise SpecError("the question and its options must not be empty.")
    videos = load_videos(folder, config.frames_root)
    video_id = _choose(videos, video)
    question = Question("asked", text.strip(), tuple(map(str.strip, options)), video_id)
    task = Task(question, Gold())
    dataset = Dataset(Path(folder).name, "asked", (task,), videos)
    return run_blocking(_play(task, dataset, config, policy, seed)), videos[video_id]


async def _play(
    task: Task, dataset: Dataset, config: EnvConfig, policy: str, seed: int
) -> Trajectory:
    master = build_policy(policy, GenerationSettings())
    try:
        engine = RolloutEngine(
            dataset=dataset,
            config=config,
            toolbox=build_toolbox(config, dataset),
            policy=master,
            policy_spec=policy,
            seed=seed,
        )
        return await engine.play(task)
    finally:
        await master.aclose()


def _choose(videos: Mapping[str, Video], wanted: str | None) -> str:
    if wanted is None and len(videos) == 1:
        return next(iter(videos))
    if wanted is None or wanted not in videos:
        some = ", ".join(list(videos)[:5]) + (" ..." if len(videos) > 5 else "")
        problem = "which video?" if wanted is None else f"no video {wanted!r}."
        raise SpecError(f"{problem} The folder has {len(videos):,}: {some}. Pass --video.")
    return wanted


def trace(trajectory: Trajectory, video: Video, options: Sequence[str]) -> Iterator[str]:
    """The episode for a person to read, with times in the film. One line each."""
    yield f"{video.video_id}: {len(video.clips)} clips, {_place(video, video.clip_ids)}"
    if trajectory.first is not None and trajectory.first.result is not None:
        yield f"opened by {trajectory.first.result['agent']}"
    yield "── start " + "─" * 40
    yield from _block("      ", f"Question: {trajectory.question}")
    yield from _shown(video, trajectory.opened_at)
    for turn in trajectory.turns:
        yield f"── turn {turn.turn} " + "─" * 40
        mine = [s for s in trajectory.segments if s.turn == turn.turn]
        for segment in mine:
            if segment.sampled:
                yield from _block("master", segment.text)
        yield from _came_back(turn, video, "".join(s.text for s in mine if s.role == "user"))
    yield ""
    yield from _outcome(trajectory, video, options)


def _came_back(turn: TurnRecord, video: Video, said: str) -> Iterator[str]:
    """What a turn brought: a tool's words, the clips that it moved to, or what was wrong."""
    result = turn.result or {}
    captions = (result.get("details") or {}).get("captions")
    if turn.malformed or (turn.request is None and said):
        yield from _block("      ", said)
    elif captions:
        for clip_id, start_s, end_s, text in captions:
            yield from _block("      ", _timed(video, clip_id, TimedText(text, start_s, end_s)))
    elif result.get("text"):
        yield from _block("      ", result["text"])
    yield from _shown(video, turn.shown)


def _shown(video: Video, clip_ids: Sequence[str]) -> Iterator[str]:
    """Clips with their lines, in the film's time."""
    for clip_id in clip_ids:
        yield from _block("      ", f"[{clip_id}, {_place(video, [clip_id])}]")
        for line in video[clip_id].subtitles:
            yield from _block("      ", _timed(video, clip_id, line))


def _timed(video: Video, clip_id: str, line: TimedText) -> str:
    start_s = video[clip_id].start_s
    if start_s is None or line.start_s is None:
        return line.text
    end_s = None if line.end_s is None else f"-{clock(start_s + line.end_s)}"
    return f"[{clock(start_s + line.start_s)}{end_s or ''}] {line.text}"


def _outcome(trajectory: Trajectory, video: Video, options: Sequence[str]) -> Iterator[str]:
    if trajectory.status != "answered":
        yield f"no answer: {trajectory.status.replace('_', ' ')}" + (
            f" ({trajectory.error})" if trajectory.error else ""
        )
    elif trajectory.choice is not None and options:
        yield f"answer: a{trajectory.choice}, {options[trajectory.choice]}"
    else:
        yield f"answer: {trajectory.turns[-1].argument}"
    for clip_id in trajectory.visited:
        yield f"  from {clip_id}, {_place(video, [clip_id])}"


def _place(video: Video, clip_ids: Sequence[str]) -> str:
    start, end = video[clip_ids[0]].start_s, video[clip_ids[-1]].end_s
    if start is None or end is None:
        return "time unknown"
    return f"{clock(start)}-{clock(end)} of the film"


def _block(who: str, text: str) -> Iterator[str]:
    for line in text.strip().splitlines():
        for part in textwrap.wrap(line, _WIDTH - len(who) - 3) or [""]:
            yield f"{who} │ {part}"
            who = " " * len(who)


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env ask",
        description=__doc__,
    )
    add = parser.add_argument
    add("folder", help="what ingest or prepare wrote")
    add("question", help="about the video, in quotes")
    add("--options", nargs="+", default=[], metavar="OPTION", help="two to eight answers")
    add("--video", help="which video, where the folder has several")
    add("--policy", default="scripted:ground-look-answer", help="master agent (%(default)s)")
    add("--grounding", default="bm25", help="grounding agent (%(default)s)")
    add("--vision", default="captions", help="vision agent (%(default)s)")
    add("--max-turns", type=int, default=5, help="turns the master has (%(default)s)")
    add("--window", type=int, default=1, help="clips seen at once, 1 to 5 (%(default)s)")
    add("--frames-root", help="folder of the frames (default: frames in the folder)")
    add("--seed", type=int, default=0, help="of whatever is drawn (%(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("ask", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    names = ("grounding", "vision", "max_turns", "window", "frames_root")
    config = EnvConfig(**{name: getattr(args, name) for name in names})
    trajectory, video = ask(
        args.folder,
        args.question,
        args.options,
        config=config,
        policy=args.policy,
        video=args.video,
        seed=args.seed,
    )
    sys.stdout.write("\n".join(trace(trajectory, video, args.options)) + "\n")
    return 0 if trajectory.status == "answered" else EXIT_FINDINGS
