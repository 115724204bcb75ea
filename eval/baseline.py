r"""Ask a model each question once, with the video's subtitles and some of its frames.

    longvideo-env baseline --questions-path DIR/LongTVQA_plus_val.json \
        --subs-path DIR/LongTVQA_plus_subtitle_clip_level.json --base-frame-dir DIR/frames \
        --model gpt-4o --threads 30 --output-filename runs/baseline.json
    longvideo-env baseline ... --mode subtitles --model Qwen/Qwen3-8B@http://localhost:8000/v1

These are the baselines of LongVideoAgent's paper: no turns, no tools. Questions are those of TVQA,
TVQA+, LongTVQA or LongTVQA+. Subtitles are LongTVQA's, by clip or by video, or TVQA's: JSON Lines
of {"vid_name", "sub": [{"text", "start", "end"}]}, or a folder of CLIP.srt.

The same as in the published code: frames come first, one from the middle of each of up to --frames
clips. Then come the question, its options and the subtitles of the whole video. FILE has `total`,
`metadata` and `results` with `vid`, `question` and `final_answer`.

Different from the published code: the prompt has our own words. If the subtitles do not fit
--context, BM25 chooses the clips to keep, and such questions are counted. If frame 90 is missing,
the nearest frame is taken. --temperature is 0 (there 0.6).

Answers are stored by `qid`. A reply is read by the five rules of
`eval/asked_once/lenient_answer.py`, and FILE counts each rule's replies. A reply that names no
option, or several, is misparsed: it is counted separately and scores 0. A failed request is not an
answer. Finished answers are in FILE.partial.jsonl, so the same command resumes. FILE is written at
the end.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.api.agent import parse_api_spec, used
from agents.api.client import ChatClient, client_for
from agents.api.endpoints import load_endpoint
from agents.api.images import image_part
from agents.grounding.api_grounding import shortlist, subtitle_block
from agents.vision.picking import PlacedFrame
from eval.asked_once.baseline_files import SubtitleNotes, side_by_side
from eval.asked_once.lenient_answer import read_reply
from eval.output.formatting import format_interval, format_number
from eval.runs.identify import questions_of
from eval.runs.predictions import (
    ANSWERED,
    FAILED,
    MISPARSED,
    Answer,
    AnswerStore,
    summarize_answers,
)
from eval.runs.selection import QuestionSelection, choose
from eval.runs.store import IDENTITY
from longvideo_env import Dataset, load_dataset
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.errors import ContextTooLongError, EndpointError, SpecError, ToolError
from longvideo_env.game.protocol.base import option_label
from longvideo_env.media.frames import list_frames
from longvideo_env.records.files import write_json
from longvideo_env.records.identity import digest_questions, digest_texts
from longvideo_env.schema import Task, Video
from longvideo_env.tools.tool import ToolCall

PROMPT_VERSION = 2
"""Version 1 had the subtitles before the question, and frames from all over the video."""

MIDDLE = 90
"""The middle of a clip of 60 s at 3 frames a second."""

MODES = ("subtitles", "subtitles+frames")
SPLIT = "all"


@dataclass(frozen=True)
class Baseline:
    """A model and its settings.

    Attributes:
        model: The model's name.
        client: The client of its server.
        mode: One of `MODES`.
        n_frames: The most frames of a video, if the mode uses frames.
        context: The most tokens of subtitles.
        temperature: The sampling temperature.
        max_tokens: The most tokens of a reply.
    """

    model: str
    client: ChatClient
    mode: str
    n_frames: int
    context: int
    temperature: float
    max_tokens: int

    async def ask(self, task: Task, dataset: Dataset) -> Answer:
        """Ask one question."""
        request = ToolCall(task.question, dataset.video(task))
        clips = request.video.clip_ids
        budget = float(self.context)
        details: dict[str, Any] = {}
        while True:
            shown = shortlist(request, clips, budget)
            if len(shown) < len(clips):
                details["shortlisted"] = {"shown": len(shown), "of": len(clips)}
            try:
                return await self._send(request, shown, details)
            except ContextTooLongError as error:
                if len(shown) == 1:
                    return Answer(task.qid, FAILED, error=str(error))
                budget = budget / 2
            except (EndpointError, ToolError) as error:
                return Answer(task.qid, FAILED, error=str(error))

    async def _send(
        self, request: ToolCall, shown: Sequence[str], details: dict[str, Any]
    ) -> Answer:
        content: list[Any] = []
        if self.mode != "subtitles":
            frames = middle_frames(request.video, self.n_frames)
            if not frames:
                raise ToolError(f"there are no frames of video {request.video.video_id}.")
            content = [image_part(f.frame.path).part for f in frames]
        n_frames = len(content)
        content.append({"type": "text", "text": prompt(request, shown, n_frames)})
        reply = await self.client.chat(
            self.model,
            [{"role": "user", "content": content if n_frames else content[0]["text"]}],
            role="baseline",
            extra={"temperature": self.temperature, "max_tokens": self.max_tokens},
            n_images=n_frames,
        )
        read = read_reply(reply.text, request.question.options)
        details |= {"n_frames": n_frames, **used(self.model, reply.usage)}
        if read.rule:
            details["read_by"] = read.rule
        status = MISPARSED if read.choice is None else ANSWERED
        return Answer(request.question.qid, status, read.choice, reply.text, details=details)


def prompt(request: ToolCall, shown: Sequence[str], n_frames: int) -> str:
    """The question, its options, the video's subtitles and the answer form, in this order."""
    question = request.question
    options = "\n".join(f"{option_label(i)}: {text}" for i, text in enumerate(question.options))
    frames = (
        f"Above are {n_frames} frames, in order of time: of each of as many clips of the video, "
        "one from its middle.\n"
        if n_frames
        else ""
    )
    blocks = "\n".join(subtitle_block(request.video, clip_id) for clip_id in shown)
    last = option_label(len(question.options) - 1)
    return (
        f"Question: {question.text}\nOptions:\n{options}\n\n"
        f"Subtitles:\n{blocks}\n\n"
        "The subtitles are those of a long video, clip by clip, in order of time. Each clip's "
        f"stand between tags of its id.\n{frames}"
        f"Answer with the label of one option, a0 to {last}, and why, such as "
        "<answer>a0. He says so.</answer>"
    )


def middle_frames(video: Video, most: int) -> list[PlacedFrame]:
    """One middle frame from each of at most `most` clips, spread over the whole video.

    Of M clips, clip `int(i * M / most)` is taken for each i. The middle frame of a clip is frame
    90, as in the published code, or the frame nearest to it.
    """
    there = [(c, frames) for c in video.clip_ids if (frames := list_frames(video, c))]
    n = min(most, len(there))
    chosen = (there[int(i * len(there) / n)] for i in range(n))
    return [
        PlacedFrame(c, min(frames, key=lambda frame: abs(frame.frame_index - MIDDLE)))
        for c, frames in chosen
    ]


async def ask_all(
    baseline: Baseline, dataset: Dataset, store: AnswerStore, threads: int, console: Console
) -> None:
    """Ask every question that has no answer yet."""
    todo = iter([task for task in dataset.tasks if str(task.qid) not in store.answers])
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(
            baseline.model, total=len(dataset.tasks), completed=len(store.answers)
        )

        async def work() -> None:
            for task in todo:
                store.add(await baseline.ask(task, dataset))
                progress.advance(bar)

        await asyncio.gather(*(work() for _ in range(threads)))


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        prog="longvideo-env baseline",
        description=__doc__,
        findings="some requests failed",
    )
    add = parser.add_argument
    add("--questions-path", type=Path, required=True, metavar="FILE", help="The questions.")
    add("--subs-path", type=Path, required=True, metavar="PATH", help="The subtitles.")
    add("--output-filename", type=Path, required=True, metavar="FILE", help="JSON file to write.")
    add("--base-frame-dir", type=Path, metavar="DIR", help="Folder of the clips' frames.")
    add("--model", required=True, help="MODEL[@ENDPOINT], as in openai:MODEL[@ENDPOINT].")
    add("--threads", type=int, default=30, metavar="N", help="Requests at once. Default: 30.")
    add("--mode", choices=MODES, default=MODES[1], help=f"What is sent. Default: {MODES[1]}.")
    add(
        "--frames",
        type=int,
        default=16,
        metavar="N",
        help="Most frames of a video, one per clip. Default: 16.",
    )
    add("--context", type=int, default=100_000, help="Most tokens of subtitles. Default: 100000.")
    add("--temperature", type=float, default=0.0, help="Sampling temperature. Default: 0.")
    add("--max-tokens", type=int, default=2500, help="Most tokens of a reply. Default: 2500.")
    add("--limit", type=int, metavar="N", help="Only N questions, chosen as by evaluate --limit.")
    add("--skip-invalid", action="store_true", help="Leave invalid rows out.")
    add("--overwrite", action="store_true", help="Start again instead of resuming.")
    return parser


def _baseline(options: argparse.Namespace) -> Baseline:
    if options.mode != "subtitles" and options.base_frame_dir is None:
        raise SpecError(f"--mode {options.mode} needs --base-frame-dir, the folder of the frames.")
    if min(options.threads, options.frames, options.context) < 1:
        raise SpecError("--threads, --frames and --context must be at least 1.")
    spec = parse_api_spec(options.model.removeprefix("openai:"))
    if spec.spec.options:
        raise SpecError(
            "--model takes no options. Fix: give --temperature, --frames and so on instead."
        )
    return Baseline(
        spec.model,
        client_for(load_endpoint(spec.endpoint)),
        options.mode,
        options.frames,
        options.context,
        options.temperature,
        options.max_tokens,
    )


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    baseline = _baseline(options)
    notes = SubtitleNotes()
    files = options.questions_path, options.subs_path
    with side_by_side(*files, notes, skip_invalid=options.skip_invalid) as questions:
        dataset = load_dataset(
            str(questions),
            SPLIT,
            frames_root=options.base_frame_dir,
            skip_invalid=options.skip_invalid,
        )
    limited = Dataset(
        dataset.name,
        SPLIT,
        choose(dataset, QuestionSelection(limit=options.limit), {}).tasks,
        dataset.videos,
        dataset.skipped,
    )
    frames = {} if baseline.mode == "subtitles" else {"frames": baseline.n_frames}
    config = {
        "questions": options.questions_path.name,
        "model": options.model,
        "mode": baseline.mode,
        "context": baseline.context,
        "temperature": baseline.temperature,
        "max_tokens": baseline.max_tokens,
        "prompt_version": PROMPT_VERSION,
        IDENTITY: {
            "questions": digest_questions(questions_of(dataset))["questions"],
            "texts": digest_texts(dataset),
        },
        **frames,
    }
    with AnswerStore(options.output_filename, config, overwrite=options.overwrite) as store:
        asyncio.run(ask_all(baseline, limited, store, options.threads, Console(stderr=True)))
        result = summarize_answers(limited, store.answers, config)
    write_json(options.output_filename, result)
    _print(result["metadata"], options.output_filename, notes, output_console())
    return EXIT_FINDINGS if result["metadata"]["n_failed"] else EXIT_DONE


def _print(numbers: dict[str, Any], file: Path, notes: SubtitleNotes, console: Console) -> None:
    read = ", ".join(f"{rule} {n:,}" for rule, n in numbers["read_by"].items())
    lines = (
        f"accuracy {format_number(numbers['accuracy'])} "
        f"({format_interval(numbers['accuracy_ci95'])}, clustered by video), misparsed as wrong; "
        f"{format_number(numbers['accuracy_parsed'])} of those parsed",
        f"answered {numbers['n_answered']}, misparsed {numbers['n_misparsed']}, failed "
        f"{numbers['n_failed']}, of {numbers['n_questions']}; shortlisted "
        f"{numbers['n_shortlisted']}",
        f"read by rule: {read or 'none'}",
        *notes.lines(),
        f"Answers: {file}",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("baseline", lambda: _run(argv), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
