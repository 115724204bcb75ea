"""Check the saved rollouts of a training run: tokens, masks and log-probs.

    longvideo-env audit RUN
    longvideo-env audit RUN --tokenizer runs/grpo

RUN is the --output-dir of a `train/grpo.py --save-rollouts`, its folder of rollouts, or one file.
The run's `environment.json` names its tools and tags. They decide where an action ends. Run the
command in the folder in which the training was started, so that your own tools and games can be
imported. It checks each trajectory:

- ids: every segment has token ids. If a sampled segment has log-probs, there is one per token, and
  none is above 0;
- mask: only the assistant's segments are sampled. The prompt and the observations never are;
- prefix: the prompt comes first. Each turn has a reply, at most one end-of-turn token and an
  observation, in this order. So the input of a turn is a prefix of the next turn's input;
- actions: no token was sampled after the end of an action;
- text, with `--tokenizer` (the policy's folder or hub id): the ids decode to the text;
- use: no failed row was used in the update, and the rows of a step are numbered without gaps.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import TEXT, Table, output_console, table_format
from longvideo_env.config import EnvConfig
from longvideo_env.errors import MissingExtraError, SpecError, TrajectoryError
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.reasoning import open_reasoning
from longvideo_env.records.metrics_log import environment_of, rollout_files
from longvideo_env.records.trajectory import Segment, Trajectory, read_lines

Decode: TypeAlias = Callable[[Sequence[int]], str]
Closed: TypeAlias = Callable[[str], bool]

SHOWN = 20


@dataclass
class Findings:
    """The counts and problems of an audit.

    Attributes:
        counts: The number of files, rollouts, rollouts used in the update, tokens, sampled tokens,
            and tokens sampled after the end of an action.
        problems: One line each, with the place and the problem.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def audit(path: str | Path, decode: Decode | None = None) -> Findings:
    """Check all rollouts of a folder or a file.

    Args:
        path: The folder or file.
        decode: Turns token ids into text, with special tokens. Without it, the text of a reply is
            not checked against its ids.

    Raises:
        SpecError: There are no rollouts.
        TrajectoryError: A file cannot be read.
    """
    files = _files(Path(path))
    findings, closed = Findings(), action_closed(Path(path))
    for file in files:
        findings.counts["files"] += 1
        rows: list[int] = []
        for number, line in enumerate(read_lines(file), start=1):
            where = f"{file.name}, line {number}"
            trajectory, note = _read(line, where)
            for problem in check(trajectory, findings.counts, decode, closed):
                findings.problems.append(f"{where} (question {trajectory.qid}): {problem}")
            if note is not None:
                findings.problems += [f"{where}: {text}" for text in _check_use(trajectory, note)]
                findings.counts["used in the update"] += bool(note["used"])
                if note.get("unused") != "refilled":
                    rows.append(note["row"])
        if sorted(rows) != list(range(len(rows))):
            findings.problems.append(f"{file.name}: its rows are {rows}, not 0 to {len(rows) - 1}.")
    return findings


def action_closed(path: Path) -> Closed:
    """A test whether a text has a complete action, for the tools and tags of a training run.

    Args:
        path: The run, its folder of rollouts, or one file.

    Raises:
        SpecError: The run's tools cannot be imported.
    """
    record = environment_of(path)
    parts: dict[str, Any] = {
        name: record[name] for name in ("game", "tools", "tags") if name in record
    }
    try:
        return Game.from_config(EnvConfig.from_mapping(parts)).protocol.complete
    except SpecError as error:
        raise SpecError(
            f"{path}: the game of this run cannot be loaded: {error} Fix: run the "
            "command in the folder in which the training was started."
        ) from error


def check(
    trajectory: Trajectory, counts: Counter[str], decode: Decode | None, closed: Closed
) -> Iterator[str]:
    """Yield the problems of one trajectory, and add to the counts."""
    counts["rollouts"] += 1
    for segment in trajectory.segments:
        counts["tokens"] += len(segment.token_ids or ())
        counts["sampled tokens"] += len(segment.token_ids or ()) if segment.sampled else 0
        yield from _check_segment(segment)
        if decode is not None and segment.token_ids is not None:
            decoded = decode(segment.token_ids)
            if decoded != segment.text:
                yield f"turn {segment.turn}: the ids decode to {decoded!r:.80}, not to the text."
    yield from _check_order(trajectory)
    opened = ""
    for segment in trajectory.segments:
        if segment.sampled and trajectory.protocol == "tags":  # the model itself ends a call
            beyond = tokens_after_action(segment, decode, closed, opened)
            counts["tokens after an action"] += beyond
            if beyond:
                yield f"turn {segment.turn}: {beyond} tokens came after the end of an action."
        opened = "" if segment.sampled else open_reasoning(segment.text)


def tokens_after_action(
    segment: Segment, decode: Decode | None, closed: Closed, opened: str = ""
) -> int:
    """Count the tokens of a reply after the end of its action.

    Without `decode`, ids and text cannot be matched token by token. Then any text after the action
    counts as one token. White space does not count, because it may belong to the last token of the
    action.

    Args:
        segment: The reply.
        decode: Turns token ids into text.
        closed: Returns whether a text has a complete action.
        opened: The reasoning tag with which the chat template opened the reply.
    """
    text = opened + segment.text
    if not closed(text):
        return 0
    if decode is None or segment.token_ids is None:
        ends = (i + 1 for i, letter in enumerate(text) if letter == ">")
        return int(bool(text[next(end for end in ends if closed(text[:end])) :].strip()))
    ids = segment.token_ids
    until = (n for n in range(1, len(ids) + 1) if closed(opened + decode(ids[:n])))
    return len(ids) - next(until, len(ids))


def _check_segment(segment: Segment) -> Iterator[str]:
    where = f"turn {segment.turn}, {segment.role}"
    if segment.sampled and segment.role != "assistant":
        yield f"{where}: it is marked as sampled, but only assistant segments are sampled."
    if segment.token_ids is None:
        yield f"{where}: it has no token ids."
        return
    if not segment.sampled and segment.logprobs is not None:
        yield f"{where}: it has log-probs, but was not sampled."
    if segment.sampled and segment.logprobs is not None:
        if len(segment.logprobs) != len(segment.token_ids):
            yield (
                f"{where}: {len(segment.token_ids)} token ids, but "
                f"{len(segment.logprobs)} log-probs."
            )
        if any(not logprob <= 1e-4 for logprob in segment.logprobs):
            yield f"{where}: a log-prob is above 0 or not a number."


_ORDER = {
    ("prompt", False): 0,
    ("assistant", True): 1,
    ("assistant", False): 2,
    ("user", False): 3,
    ("tool", False): 3,
}


def _check_order(trajectory: Trajectory) -> Iterator[str]:
    """Check that the segments are in order, and that none is missing."""
    before = (0, -1)
    for segment in trajectory.segments:
        place = (segment.turn, _ORDER.get((segment.role, segment.sampled), 3))
        if place <= before:
            yield f"turn {segment.turn}, {segment.role}: it comes after turn {before[0]}'s segment."
        before = place
    replies = [s.turn for s in trajectory.segments if s.sampled]
    if replies != list(range(1, len(replies) + 1)):
        yield f"expected a reply in each turn from 1, got replies in turns {replies}."
    if trajectory.status != "failed" and len(replies) < trajectory.n_turns:
        yield f"it has {trajectory.n_turns} turns, but {len(replies)} replies."


def _check_use(trajectory: Trajectory, note: dict[str, Any]) -> Iterator[str]:
    if note["used"] and trajectory.status == "failed":
        yield "it failed, but was used in the update."
    if note["used"] and not any(s.sampled and s.token_ids for s in trajectory.segments):
        yield "it was used in the update, but has no sampled token."


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = rollout_files(path)
    if not found:
        raise SpecError(
            f"{path}: found no step-*.jsonl.zst in it. Fix: give the --output-dir of a training "
            "with --save-rollouts, or the folder of the rollouts."
        )
    return found


def _read(line: str, where: str) -> tuple[Trajectory, dict[str, Any] | None]:
    try:
        trajectory = Trajectory.from_json(line)
    except TrajectoryError as error:
        raise TrajectoryError(f"{where}: {error}") from error
    return trajectory, json.loads(line).get("rollout")


def _decoder(path: str) -> Decode:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizers", "train") from error
    file = Path(path, "tokenizer.json")
    try:
        known = Path(path).is_dir()
        tokenizer = Tokenizer.from_file(str(file)) if known else Tokenizer.from_pretrained(path)
    except Exception as error:
        raise SpecError(f"the tokenizer of {path!r} cannot be loaded: {error}") from error

    def decode(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    return decode


def _own_tokenizer(run: str) -> str | None:
    """The run's own folder, if it has a tokenizer that can be read."""
    found = Path(run, "tokenizer.json").is_file() and find_spec("tokenizers") is not None
    return run if found else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the audit and print its findings. Returns the exit code."""
    parser = OptionParser(
        prog="longvideo-env audit",
        description=__doc__,
        tables=True,
        findings="a trajectory has a problem",
    )
    parser.add_argument("run", metavar="RUN", help="A training run, its rollouts, or one file.")
    parser.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="The policy's folder. Default: the one in RUN.",
    )
    args = parser.parse_args(argv)
    return run_command("audit", lambda: _run(args))


def _run(args: Namespace) -> int:
    tokenizer = args.tokenizer or _own_tokenizer(args.run)
    findings = audit(args.run, _decoder(tokenizer) if tokenizer else None)
    findings.counts["tokens after an action"] += 0
    if table_format.get() != TEXT:
        counts = [(name, str(n)) for name, n in findings.counts.items()]
        problems = [(problem,) for problem in findings.problems]
        console = output_console()
        console.print(Table("counts", "What was checked", ("what", "count"), counts))
        console.print(Table("problems", "Problems", ("problem",), problems))
        return EXIT_FINDINGS if findings.problems else EXIT_DONE
    for problem in findings.problems[:SHOWN]:
        sys.stdout.write(f"{problem}\n")
    if len(findings.problems) > SHOWN:
        sys.stdout.write(f"... and {len(findings.problems) - SHOWN} more\n")
    sys.stdout.write(", ".join(f"{n} {name}" for name, n in findings.counts.items()) + "\n")
    verdict = f"{len(findings.problems)} problems" if findings.problems else "no problems"
    sys.stdout.write(verdict + "\n")
    return EXIT_FINDINGS if findings.problems else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
