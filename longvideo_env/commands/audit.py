"""Check the saved rollouts of a training run: tokens, masks and log-probs are what they claim.

    longvideo-env audit RUN
    longvideo-env audit RUN --tokenizer runs/grpo

RUN is the --output-dir of a `train/grpo.py --save-rollouts`, its rollouts, or a file. What closes
an action follows from the run's `environment.json`: own tools and games are imported from the
folder in which the command is started. Of each trajectory:

- ids: each segment has as many token ids as it should, and a log-prob for each sampled token where
  there are any, none above 0;
- mask: only the assistant's segments are sampled; prompt and observations never are;
- prefix: turns follow one another, the prompt first, then for each turn a reply, at most one
  end-of-turn token and an observation, so that what the model saw in a turn is a prefix of what it
  saw in the next;
- actions: no token was sampled after an action closed;
- text, with `--tokenizer` (the policy's folder or hub id): decoded ids are the text;
- use: a row that took part in the update has not failed, and the rows of a step number its batch.
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
    """What an audit counted and found.

    Attributes:
        counts: Files, rollouts, those used in the update, tokens, those sampled, and the tokens
            that were sampled after an action closed.
        problems: One line each: where, and what is wrong.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def audit(path: str | Path, decode: Decode | None = None) -> Findings:
    """Check all rollouts of a folder or a file.

    Args:
        path: The folder or file.
        decode: Turns token ids into text, special tokens included; without it the text of a reply
            is taken on trust.

    Raises:
        SpecError: There are no rollouts there.
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
    """Whether a text has closed an action, by the tools and tags that a run was trained with.

    Args:
        path: The run, its rollouts, or one file of them.

    Raises:
        SpecError: Its tools cannot be imported.
    """
    record = environment_of(path)
    parts: dict[str, Any] = {
        name: record[name] for name in ("game", "tools", "tags") if name in record
    }
    try:
        return Game.from_config(EnvConfig.from_mapping(parts)).protocol.complete
    except SpecError as error:
        raise SpecError(
            f"{path}: what its episodes were played with cannot be read: {error} Fix: start the "
            "command in the folder in which the training was started."
        ) from error


def check(
    trajectory: Trajectory, counts: Counter[str], decode: Decode | None, closed: Closed
) -> Iterator[str]:
    """What is wrong with one trajectory; adds to the counts."""
    counts["rollouts"] += 1
    for segment in trajectory.segments:
        counts["tokens"] += len(segment.token_ids or ())
        counts["sampled tokens"] += len(segment.token_ids or ()) if segment.sampled else 0
        yield from _check_segment(segment)
        if decode is not None and segment.token_ids is not None:
            decoded = decode(segment.token_ids)
            if decoded != segment.text:
                yield f"turn {segment.turn}: its ids decode to {decoded!r:.80}, not to its text."
    yield from _check_order(trajectory)
    opened = ""
    for segment in trajectory.segments:
        if segment.sampled and trajectory.protocol == "tags":  # a call is ended by the model itself
            beyond = tokens_after_action(segment, decode, closed, opened)
            counts["tokens after an action"] += beyond
            if beyond:
                yield f"turn {segment.turn}: {beyond} tokens were sampled after an action closed."
        opened = "" if segment.sampled else open_reasoning(segment.text)


def tokens_after_action(
    segment: Segment, decode: Decode | None, closed: Closed, opened: str = ""
) -> int:
    """How many tokens of a reply come after the one that closed its action.

    Without `decode` ids and text cannot be matched token by token: anything behind the action
    but white space, which may belong to the closing token itself, then counts as one.

    Args:
        segment: The reply.
        decode: Turns token ids into text.
        closed: Whether a text has closed an action.
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
        yield f"{where}: it is marked as sampled, but only the assistant's are."
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
    """Each segment must come after all that the model saw before it, and none be missing."""
    before = (0, -1)
    for segment in trajectory.segments:
        place = (segment.turn, _ORDER.get((segment.role, segment.sampled), 3))
        if place <= before:
            yield f"turn {segment.turn}, {segment.role}: it stands behind turn {before[0]}'s."
        before = place
    replies = [s.turn for s in trajectory.segments if s.sampled]
    if replies != list(range(1, len(replies) + 1)):
        yield f"its replies are those of turns {replies}."
    if trajectory.status != "failed" and len(replies) < trajectory.n_turns:
        yield f"it has {trajectory.n_turns} turns, but {len(replies)} replies."


def _check_use(trajectory: Trajectory, note: dict[str, Any]) -> Iterator[str]:
    if note["used"] and trajectory.status == "failed":
        yield "it failed, but was used in the update."
    if note["used"] and not any(s.sampled and s.token_ids for s in trajectory.segments):
        yield "it was used in the update, but holds no sampled token."


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = rollout_files(path)
    if not found:
        raise SpecError(
            f"{path}: found no step-*.jsonl.zst in it. Fix: name the --output-dir of a training "
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
        raise SpecError(f"no tokenizer can be loaded from {path!r}: {error}") from error

    def decode(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    return decode


def _own_tokenizer(run: str) -> str | None:
    """The folder of the policy that a run has saved, where its tokenizer can be read."""
    found = Path(run, "tokenizer.json").is_file() and find_spec("tokenizers") is not None
    return run if found else None


def main(argv: Sequence[str] | None = None) -> int:
    """Check, and print what was found. Returns the exit code."""
    parser = OptionParser(
        prog="longvideo-env audit",
        description=__doc__,
        tables=True,
        findings="a trajectory is not what it claims",
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
    verdict = f"{len(findings.problems)} problems" if findings.problems else "all is well"
    sys.stdout.write(verdict + "\n")
    return EXIT_FINDINGS if findings.problems else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
