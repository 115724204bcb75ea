r"""Ask one model every question at once, with the video's subtitles and some of its frames.

    longvideo-env baseline --questions-path DIR/LongTVQA_plus_val.json \
        --subs-path DIR/LongTVQA_plus_subtitle_clip_level.json --base-frame-dir DIR/frames \
        --model gpt-4o --threads 30 --output-filename runs/baseline.json
    longvideo-env baseline ... --mode subtitles --model Qwen/Qwen3-8B@http://localhost:8000/v1

The baselines that LongVideoAgent's paper sets beside its agents: no turns, no tools. Questions are
those of TVQA, TVQA+, LongTVQA or LongTVQA+; subtitles are by clip or by video. The model is given
the whole video; clips that do not fit --context are left out by BM25, and counted.

An answer belongs to its `qid`. One that names no option, or several, is misparsed: it is counted
apart and scores nothing. A request that failed is no answer at all. What is done stands in
FILE.partial.jsonl, so that the same command resumes; FILE is written at the end.

Exit codes: 0 done; 2 bad arguments or data; 3 finished, but some requests failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.api.agent import after_thinking, parse_api_spec, used
from agents.api.client import ChatClient, client_for
from agents.api.endpoints import load_endpoint
from agents.api.images import image_part
from agents.grounding.api_grounding import shortlist, subtitle_block
from agents.vision.picking import pick_frames
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
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import EXIT_DONE, EXIT_FAILURES, run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.datasets.jsonfile import read_object
from longvideo_env.errors import ContextTooLongError, DataError, EndpointError, SpecError, ToolError
from longvideo_env.game.game import default_game
from longvideo_env.game.protocol.base import Action, option_label
from longvideo_env.ids import parse_clip_id
from longvideo_env.records.files import write_json
from longvideo_env.records.identity import digest_questions, digest_texts
from longvideo_env.schema import Task
from longvideo_env.tools.tool import ToolCall

PROMPT_VERSION = 1
MODES = ("subtitles", "subtitles+frames")
SPLIT = "all"


@dataclass(frozen=True)
class Baseline:
    """How the model is asked.

    Attributes:
        model: Its name.
        client: Where it is served.
        mode: One of `MODES`.
        n_frames: Frames of the whole video, where the mode has them.
        context: Tokens that subtitles may take.
        temperature: Of sampling.
        max_tokens: Most tokens of a reply.
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
            frames = pick_frames(request.video, request.video.clip_ids, self.n_frames)
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
        choice = parse_answer(reply.text, len(request.question.options))
        return Answer(
            request.question.qid,
            MISPARSED if choice is None else ANSWERED,
            choice=choice,
            text=reply.text,
            details={**details, "n_frames": n_frames, **used(self.model, reply.usage)},
        )


def prompt(request: ToolCall, shown: Sequence[str], n_frames: int) -> str:
    """The question, its options, and the video's subtitles."""
    question = request.question
    options = "\n".join(f"{option_label(i)}: {text}" for i, text in enumerate(question.options))
    frames = (
        f"Above are {n_frames} frames, spread evenly over the whole video, in order of time.\n"
        if n_frames
        else ""
    )
    blocks = "\n".join(subtitle_block(request.video, clip_id) for clip_id in shown)
    last = option_label(len(question.options) - 1)
    return (
        f"{frames}Below are the subtitles of a long video, clip by clip, in order of time.\n\n"
        f"{blocks}\n\nQuestion: {question.text}\n{options}\n\n"
        f"Think briefly, and end with the label of one option, a0 to {last}, such as "
        "<answer>a0</answer>."
    )


def parse_answer(text: str, n_options: int) -> int | None:
    """The option that a reply names, or None if it names none, or not exactly one."""
    outcome = default_game().protocol.parse(after_thinking(text), n_options).outcome
    return outcome.choice if isinstance(outcome, Action) else None


@contextmanager
def side_by_side(questions: Path, subtitles: Path) -> Iterator[Path]:
    """The two files under names by which the readers find them together; where the questions lie.

    Raises:
        SpecError: One of them is not there.
        DataError: The subtitles are not what they should be.
    """
    for name, path in (("--questions-path", questions), ("--subs-path", subtitles)):
        if not path.is_file():
            raise SpecError(f"{name} {path} is not a file.")
    keys = list(read_object(subtitles))
    level = "clip" if any(parse_clip_id(key) for key in keys[:50]) else "episode"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"questions{questions.suffix}"
        shutil.copyfile(questions, copy)  # not a link: readers go by the name that it leads to
        shutil.copyfile(subtitles, Path(folder) / f"questions_subtitle_{level}_level.json")
        try:
            yield copy
        except DataError as error:
            # Name the file that was given, not its copy.
            at_fault = questions if Path(str(error.file)).name == copy.name else subtitles
            raise type(error)(error.problem, at_fault, error.row, error.mend) from error


async def ask_all(
    baseline: Baseline, dataset: Dataset, store: AnswerStore, threads: int, console: Console
) -> None:
    """Ask every question that has no answer yet."""
    todo = iter([task for task in dataset.tasks if str(task.qid) not in store.answers])
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
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
    )
    add = parser.add_argument
    add("--questions-path", type=Path, required=True, metavar="FILE", help="The questions.")
    add("--subs-path", type=Path, required=True, metavar="FILE", help="The subtitles.")
    add("--output-filename", type=Path, required=True, metavar="FILE", help="JSON that is written.")
    add("--base-frame-dir", type=Path, metavar="DIR", help="Folder of the clips' frames.")
    add("--model", required=True, help="MODEL[@ENDPOINT], as in openai:MODEL[@ENDPOINT].")
    add("--threads", type=int, default=30, metavar="N", help="Requests at once. Default: 30.")
    add("--mode", choices=MODES, default=MODES[1], help=f"What is sent. Default: {MODES[1]}.")
    add("--frames", type=int, default=16, metavar="N", help="Frames of a video. Default: 16.")
    add("--context", type=int, default=100_000, help="Tokens of subtitles. Default: 100000.")
    add("--temperature", type=float, default=0.0, help="Sampling temperature. Default: 0.")
    add("--max-tokens", type=int, default=2500, help="Tokens of a reply. Default: 2500.")
    add("--limit", type=int, metavar="N", help="Only N questions, drawn as by evaluate --limit.")
    add("--skip-invalid", action="store_true", help="Leave invalid rows out.")
    add("--overwrite", action="store_true", help="Start anew instead of resuming.")
    return parser


def _baseline(options: argparse.Namespace) -> Baseline:
    if options.mode != "subtitles" and options.base_frame_dir is None:
        raise SpecError(f"--mode {options.mode} needs --base-frame-dir, the folder of the frames.")
    if min(options.threads, options.frames, options.context) < 1:
        raise SpecError("--threads, --frames and --context must be at least 1.")
    spec = parse_api_spec(options.model.removeprefix("openai:"))
    if spec.spec.options:
        raise SpecError("--model takes no options; give --temperature, --frames and so on.")
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
    with side_by_side(options.questions_path, options.subs_path) as questions:
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
    _print(result["metadata"], options.output_filename, output_console())
    return EXIT_FAILURES if result["metadata"]["n_failed"] else EXIT_DONE


def _print(numbers: dict[str, Any], file: Path, console: Console) -> None:
    lines = (
        f"accuracy {format_number(numbers['accuracy'])} "
        f"({format_interval(numbers['accuracy_ci95'])}, clustered by video), misparsed as wrong; "
        f"{format_number(numbers['accuracy_parsed'])} of those parsed",
        f"answered {numbers['n_answered']}, misparsed {numbers['n_misparsed']}, failed "
        f"{numbers['n_failed']}, of {numbers['n_questions']}; shortlisted "
        f"{numbers['n_shortlisted']}",
        f"Answers: {file}",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("baseline", lambda: _run(argv), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
