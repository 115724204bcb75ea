"""Play the master agent yourself in the terminal, with the same rules and the same reward.

    longvideo-env play
    longvideo-env play --dataset data/plus --split val --questions 5 --vision none
    longvideo-env play --protocol functions

To call a tool, type its name and its instruction (`look the table`, `ground`). To answer, type an
option's label such as `a2`. You can also type an action as a policy writes it. A tool with several
parameters takes them by name: `transcribe clip=3 words=20`. With `--protocol functions` the game
shows the call that your line becomes. `help` shows the rules. `quit` ends the game.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.splits import DEFAULT_SPLIT
from longvideo_env.config import CHOICE, PROTOCOLS, EnvConfig
from longvideo_env.drivers.env import LongTVQAEnv
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.policy import Observation
from longvideo_env.game.protocol.answers import read_answer
from longvideo_env.game.protocol.base import ANSWER, Action, Malformed, option_label
from longvideo_env.game.protocol.functions import FunctionProtocol
from longvideo_env.game.protocol.readable import readable
from longvideo_env.schema import MAX_OPTIONS, Question, Task, clock
from longvideo_env.tools.tool import Tool

_LABEL = re.compile(r"(?:answer\s+)?(\S{1,3})\s*\Z", re.IGNORECASE)


def as_reply(line: str, game: Game) -> str:
    """Turn the player's line into the reply of a policy. Return other text unchanged."""
    text = line.strip()
    match, form = _LABEL.match(text), game.protocol.answers
    if match and form.ask == CHOICE:
        choice = read_answer(match[1], MAX_OPTIONS, form.labels)
        if isinstance(choice, int):
            return game.protocol.write(Action(ANSWER, option_label(choice)))
    name, _, rest = text.partition(" ")
    name, rest = name.lower(), rest.strip()
    if name == ANSWER and rest:
        return game.protocol.write(Action(ANSWER, rest))
    tool = next((tool for tool in game.offered if tool.name == name), None)
    if tool is None:
        return text
    return game.protocol.write(Action(tool.name, _named_values(tool, rest) or None))


def _named_values(tool: Tool, text: str) -> str:
    """Turn `clip=3 words=20` into JSON, for a tool with several parameters.

    Other text is returned unchanged.
    """
    try:
        pairs = [part.partition("=") for part in shlex.split(text)]
    except ValueError:  # an unclosed quotation mark
        return text
    known = set(tool.parameters)
    if len(known) < 2 or not pairs or any(name not in known or not eq for name, eq, _ in pairs):
        return text
    return json.dumps({name: _value(tool, name, value) for name, _, value in pairs})


def _value(tool: Tool, name: str, text: str) -> Any:
    if tool.schema["properties"][name].get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def play(env: LongTVQAEnv, n: int, seed: int, console: Console, ask: Callable[[str], str]) -> int:
    """Play `n` questions, or fewer if the player quits. Returns the number of right answers.

    Args:
        env: The environment.
        n: The number of questions.
        seed: The random seed for the draw of the questions.
        console: The terminal.
        ask: Shows a prompt and returns a line. Raises `EOFError` at the end of input.
    """
    right, rewards = 0, []
    for number in range(n):
        _, info = env.reset(seed=seed if number == 0 else None)
        console.rule(f"question {number + 1} of {n}")
        task = env.dataset.task(info["qid"])
        _show_question(task.question, env.game, console)
        _show(env.observation, env, console)
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
            rules = str.__str__(env.game.rules_text(len(question.options)))
            tools = _tool_lines(env.game.schemas(len(question.options)))
            console.print(escape("\n".join([rules, *tools])), style="dim")
            continue
        reply = as_reply(line, env.game)
        if env.game.protocol.name == FunctionProtocol.name:
            console.print(readable(reply), style="dim", markup=False, highlight=False)
        if isinstance(env.game.protocol.parse(reply, question.options).outcome, Malformed):
            console.print("not an action: `help` shows the rules; no turn was spent",
                          style="yellow", highlight=False)  # fmt: skip
            continue
        _, reward, terminated, truncated, info = env.step(reply)
        if terminated or truncated:
            return reward, info
        _show(env.observation, env, console)


def _tool_lines(schemas: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The offered tools with their descriptions and parameters."""
    for function in (schema["function"] for schema in schemas):
        given = function["parameters"]["properties"]
        yield f"{function['name']}({', '.join(given)}): {function['description']}"
        yield from (f"  {n}: {item['description']}" for n, item in given.items()
                    if "description" in item)  # fmt: skip


def _show_question(question: Question, game: Game, console: Console) -> None:
    console.print(f"Question: {escape(question.text)}", style="bold", highlight=False)
    form = game.protocol.answers
    for i, option in enumerate(form.shown(question.options)):
        console.print(f"{form.label(i)}: {escape(option)}", style="cyan", highlight=False)


def _show(seen: Observation, env: LongTVQAEnv, console: Console) -> None:
    """Show an observation. An error message is shown as the master reads it."""
    if seen.kind in ("malformed", "refused"):
        console.print(escape(seen.text), style="yellow", highlight=False)
        return
    if seen.reply:
        console.print(escape(seen.reply), highlight=False)
    for clip_id in seen.view if seen.moved else ():
        console.print(f"[{clip_id}]", style="dim", markup=False, highlight=False)
        for line in env.dataset.video(env.question)[clip_id].subtitles:
            time = "" if line.start_s is None else f"[{clock(line.start_s)}] "
            console.print(time + line.text, markup=False, highlight=False)
    left = f"{seen.turns_left} turns left" if seen.turns_left > 1 else "the last turn"
    console.print(left, style="yellow", highlight=False)


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
    add(
        "--dataset", default="mini", help="questions and videos: mini, embedded, a folder or a file"
    )
    add("--split", default=DEFAULT_SPLIT, help="split of the dataset")
    add("--questions", type=int, default=3, help="how many")
    add("--grounding", default="bm25", help="grounding agent")
    add("--vision", default="captions", help="vision agent")
    add("--protocol", choices=PROTOCOLS, default="tags", help="how actions are written: tags, or "
        "calls of functions")  # fmt: skip
    add("--tools", help="tools besides the game's own: module:attribute")
    add("--max-turns", type=int, default=5, help="turns a question")
    add("--window", type=int, default=1, help="clips seen at once")
    add("--reward", default="paper", help="reward: paper, reference, or weights of terms")
    add("--seed", type=int, default=0, help="draws the questions")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("play", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    if args.questions < 1:
        raise SpecError(f"--questions must be at least 1, got {args.questions}.")
    names = ("dataset", "split", "grounding", "vision", "protocol", "tools", "max_turns", "window",
             "reward")  # fmt: skip
    config = EnvConfig(**{name: getattr(args, name) for name in names})
    env = LongTVQAEnv(**{name: getattr(config, name) for name in names})
    play(env, args.questions, args.seed, Console(), input)
