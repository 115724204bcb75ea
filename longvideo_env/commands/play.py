"""Be the master agent yourself, in the terminal, under the same rules and for the same reward.

    longvideo-env play
    longvideo-env play --dataset data/plus --split val --questions 5 --vision none

Type `look WORDS`, `ground WORDS` or `ground`, and an option's label such as `a2` to answer; or an
action as a policy writes it. `help` shows the rules, `quit` ends the game.

Exit codes: 0 done; 2 bad arguments or data; 130 interrupted.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.config import EnvConfig
from longvideo_env.drivers.env import LongTVQAEnv
from longvideo_env.errors import SpecError
from longvideo_env.game.protocol.tags import Action, format_action
from longvideo_env.game.rules import ActionKind, TagSet
from longvideo_env.game.words.prompts import system_prompt
from longvideo_env.schema import Question, Task

_LABEL = re.compile(r"(?:answer\s+)?(a[0-9])\s*\Z", re.IGNORECASE)
_COMMAND = re.compile(r"(look|ground)\b\s*(.*)\Z", re.IGNORECASE | re.DOTALL)
_TIME = re.compile(r"^\[[\d:-]+\]")


def as_reply(line: str, tags: TagSet) -> str:
    """What a person typed as a policy would write it; anything else stays as it is."""
    text = line.strip()
    if match := _LABEL.match(text):
        return format_action(Action(ActionKind.ANSWER, match[1].lower()), tags)
    if match := _COMMAND.match(text):
        return format_action(Action(ActionKind(match[1].lower()), match[2] or None), tags)
    return text


def play(env: LongTVQAEnv, n: int, seed: int, console: Console, ask: Callable[[str], str]) -> int:
    """Play questions until they are used up or the player quits. Returns how many were right.

    Args:
        env: The environment.
        n: How many questions.
        seed: Draws them.
        console: Where it is shown.
        ask: Shows a prompt and returns a line; raises `EOFError` at the end of input.
    """
    right, rewards = 0, []
    for number in range(n):
        text, info = env.reset(seed=seed if number == 0 else None)
        console.rule(f"question {number + 1} of {n}")
        _show(_without_rules(info["messages"], text), console)
        task = env.dataset.task(info["qid"])
        final = _episode(env, task.question, console, ask)
        if final is None:
            break
        reward, info = final
        right += info["is_success"] is True
        rewards.append(reward)
        _show_end(task, reward, info, console)
    played = len(rewards)
    mean = sum(rewards) / played if played else 0.0
    console.print(f"\n{right} of {played} right, mean reward {mean:.2f}", style="bold")
    return right


def _episode(
    env: LongTVQAEnv, question: Question, console: Console, ask: Callable[[str], str]
) -> tuple[float, dict[str, Any]] | None:
    while True:
        try:
            line = ask("> ").strip()
        except EOFError:
            return None
        if line.lower() in ("quit", "exit", "q"):
            return None
        if line.lower() in ("help", "?", ""):
            rules = system_prompt(env.rules, len(question.options))
            console.print(escape(rules), style="dim")
            continue
        text, reward, terminated, truncated, info = env.step(as_reply(line, env.rules.tags))
        if terminated or truncated:
            return reward, info
        _show(text, console)


def _without_rules(messages: Sequence[dict[str, str]], text: str) -> str:
    users = [message["content"] for message in messages if message["role"] == "user"]
    return users[0] if users else text


def _show(text: str, console: Console) -> None:
    for line in text.splitlines():
        style = None
        if line.startswith("Question:"):
            style = "bold"
        elif re.match(r"a\d: ", line):
            style = "cyan"
        elif line.startswith(("You have", "This is your last", "Your reply")):
            style = "yellow"
        elif line.startswith(("<", "[")) and not _TIME.match(line):
            style = "dim"
        console.print(escape(line), style=style, highlight=False)


def _show_end(task: Task, reward: float, info: dict[str, Any], console: Console) -> None:
    if info["error"]:
        console.print(f"an agent failed: {escape(info['error'])}", style="red")
    elif info["is_success"] is None:
        console.print("the right answer is not known", style="yellow")
    elif info["is_success"]:
        console.print(f"right · reward {reward:.2f}", style="green")
    else:
        console.print(f"wrong, or no answer · reward {reward:.2f}", style="red")
        if task.gold.answer is not None:
            answer = f"a{task.gold.answer}: {task.question.options[task.gold.answer]}"
            console.print(f"it was {escape(answer)}", highlight=False)


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env play",
        description=__doc__,
    )
    add = parser.add_argument
    add("--dataset", default="mini", help="as in EnvConfig.dataset (default: %(default)s)")
    add("--split", default="val", help="(default: %(default)s)")
    add("--questions", type=int, default=3, help="how many (default: %(default)s)")
    add("--grounding", default="bm25", help="grounding agent (default: %(default)s)")
    add("--vision", default="captions", help="vision agent (default: %(default)s)")
    add("--max-turns", type=int, default=5, help="(default: %(default)s)")
    add("--window", type=int, default=1, help="clips seen at once (default: %(default)s)")
    add("--reward", default="paper", help="as in EnvConfig.reward (default: %(default)s)")
    add("--seed", type=int, default=0, help="draws the questions")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("play", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    if args.questions < 1:
        raise SpecError(f"--questions must be at least 1, got {args.questions}.")
    names = ("dataset", "split", "grounding", "vision", "max_turns", "window", "reward")
    config = EnvConfig(**{name: getattr(args, name) for name in names})
    env = LongTVQAEnv(**{name: getattr(config, name) for name in names})
    play(env, args.questions, args.seed, Console(), input)
