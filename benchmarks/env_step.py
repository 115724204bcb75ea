r"""Measure microseconds per step: `LongTVQA-v0` and the simplest text games of GEM and TextArena.

    python benchmarks/env_step.py --setup   # once: the peers, into .venv-peers (about 0.5 GB)
    python benchmarks/env_step.py           # prints the tables, in under a minute

Every environment plays the same loop: an untimed warm-up, then `--episodes` episodes of `reset()`
and a fixed list of replies, until the episode is over. Each call is timed. All replies start with
the same sentence of reasoning. The figure of a step is the mean over the steps of an episode. The
table shows the median and the least over episodes. Each round goes through all environments, so a
disturbance of the machine affects all of them. Ratios are taken within a round.

- `LongTVQA-v0` plays look, ground, malformed, answer on the embedded dataset with `bm25` and
  `captions`. Their indexes are built in the warm-up. It is measured as the plain object, through
  `gym.make(..., disable_env_checker=True)`, and without retrieval: `grounding="oracle",
  vision="none"` (ground, ground, malformed, answer).
- GEM plays `game:GuessTheNumber-v0-hard` through `gem.make`, which adds no wrapper. It also plays
  with GEM's `ObservationWrapper`, which puts the whole conversation into the observation
  (`LongTVQA-v0` always gives it, as `info["messages"]`).
- TextArena plays `GuessTheNumber-v0-raw`, which has no wrappers, and `GuessTheNumber-v0`. Its
  default wrappers put the whole conversation into the observation. A step is `step()` and
  `get_observation()`, because a player needs both. TextArena 0.7.4 does not empty the wrapper's
  history at a reset, so the wrapped game is made again for each episode, untimed.

The games differ: a guess is compared with a number, but a look or a ground ranks texts and writes
subtitles into a prompt. So the figures show what an environment adds to a model's generation time,
not which code is better.

Each package runs in its own interpreter, because the peers need other versions of our dependencies.
Name look-ups and connections are refused there, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PEERS_VENV = ROOT / ".venv-peers"
PEERS = {"gem-llm": "0.1.0", "textarena": "0.7.4"}
SETUP = "python benchmarks/env_step.py --setup"

OURS = "longvideo-env"
NOT_INSTALLED = 3  # exit status of a child
CHILD_TIMEOUT_S = 300
WARM_UP_EPISODES = 60  # the embedded dataset has 20 questions

THOUGHT = "The hint narrows it down, so the next guess should halve what is left."


class Game(NamedTuple):
    """A game that is ready to play."""

    reset: Callable[[], Any]
    step: Callable[[str], Any]
    over: Callable[[Any], bool]  # takes the result of `step`; not timed


@dataclass(frozen=True)
class Subject:
    """One row of the table.

    Attributes:
        package: Its package's name in pip.
        name: Its name in the table.
        open: Makes the game.
        replies: The replies as (label, text), enough to end the episode.
        fresh: Whether to make the game again for each episode, untimed.
    """

    package: str
    name: str
    open: Callable[[], Game]
    replies: tuple[tuple[str, str], ...]
    fresh: bool = False


def _reasoned(label: str, action: str) -> tuple[str, str]:
    return label, f"<reasoning>{THOUGHT}</reasoning>{action}"


_GROUND = _reasoned("ground", "<request_grounding>dinner at the table</request_grounding>")
_MALFORMED = _reasoned("malformed", "There is no action here.")
_ANSWER = _reasoned("answer", "<answer>a1</answer>")
_LOOK = _reasoned("look", "<search>Who is in the room?</search>")
_ALL_TURNS = (_LOOK, _GROUND, _MALFORMED, _ANSWER)
GUESSES = (1, 50, 2, 49, 3, 48, 4)  # 7 turns, the limit of game:GuessTheNumber-v0-hard
# GuessTheNumber-v0 has max_turns=10 and ends at the 11th guess.
SMALL_GUESSES = (1, 20, 2, 19, 3, 18, 4, 17, 5, 16, 6)


def _ours(**options: str) -> Game:
    from longvideo_env import LongTVQAEnv

    return _gym_game(LongTVQAEnv(dataset="embedded", **options))


def _ours_made() -> Game:
    import gymnasium as gym

    import longvideo_env  # noqa: F401 - registers LongTVQA-v0

    return _gym_game(gym.make("LongTVQA-v0", dataset="embedded", disable_env_checker=True))


def _gem(*, wrapped: bool) -> Game:
    import gem
    import gem.envs  # registers the games
    from gem.wrappers.observation_wrapper import ObservationWrapper

    env = gem.make("game:GuessTheNumber-v0-hard")
    return _gym_game(ObservationWrapper(env, include_chat_template=False) if wrapped else env)


def _gym_game(env: Any) -> Game:
    return Game(env.reset, env.step, lambda result: result[2] or result[3])


def _arena(variant: str = "") -> Game:
    import textarena

    env = textarena.make(f"GuessTheNumber-v0{variant}")

    def reset() -> object:
        env.reset(num_players=1)
        return env.get_observation()

    def step(action: str) -> tuple[tuple[bool, Any], object]:
        return env.step(action), env.get_observation()

    return Game(reset, step, lambda result: result[0][0])


_GEM_REPLIES = tuple(("guess", rf"{THOUGHT} \boxed{{{n}}}") for n in GUESSES)
_ARENA_REPLIES = tuple(("guess", f"{THOUGHT} [{n}]") for n in SMALL_GUESSES)

# The other rows are compared with the first.
SUBJECTS = (
    Subject(OURS, "LongTVQA-v0, plain", _ours, _ALL_TURNS),
    Subject(OURS, "LongTVQA-v0, gym.make", _ours_made, _ALL_TURNS),
    Subject(
        OURS,
        "LongTVQA-v0, no retrieval",
        lambda: _ours(grounding="oracle", vision="none"),
        (_GROUND, _GROUND, _MALFORMED, _ANSWER),
    ),
    Subject("gem-llm", "GEM GuessTheNumber, bare", lambda: _gem(wrapped=False), _GEM_REPLIES),
    Subject("gem-llm", "GEM GuessTheNumber, wrapped", lambda: _gem(wrapped=True), _GEM_REPLIES),
    Subject("textarena", "TextArena GuessTheNumber, raw", lambda: _arena("-raw"), _ARENA_REPLIES),
    Subject("textarena", "TextArena GuessTheNumber, wrapped", _arena, _ARENA_REPLIES, fresh=True),
)
PACKAGES = (OURS, *PEERS)


def measure(subject: Subject, episodes: int) -> dict[str, Any]:
    """Play a game and time it.

    Args:
        subject: The game to play.
        episodes: Number of timed episodes.

    Returns:
        Microseconds: `step` and `step_min` (a step, median and least over episodes), `reset`,
        `amortised` (a step with its share of the reset), and `turns` (median by kind of reply).
    """
    step_us: list[float] = []
    reset_us: list[float] = []
    amortised_us: list[float] = []
    turn_us: dict[str, list[float]] = {}
    game = subject.open()
    for episode in range(-WARM_UP_EPISODES, episodes):
        if subject.fresh:
            game = subject.open()
        reset, turns = _play(game, subject.replies)
        if episode < 0:
            continue
        total = sum(us for _, us in turns)
        step_us.append(total / len(turns))
        reset_us.append(reset)
        amortised_us.append((reset + total) / len(turns))
        for label, us in turns:
            turn_us.setdefault(label, []).append(us)
    return {
        "step": statistics.median(step_us),
        "step_min": min(step_us),
        "reset": statistics.median(reset_us),
        "amortised": statistics.median(amortised_us),
        "turns": {label: statistics.median(values) for label, values in turn_us.items()},
    }


def _play(game: Game, replies: Iterable[tuple[str, str]]) -> tuple[float, list[tuple[str, float]]]:
    """Play one episode. Returns microseconds of the reset, and of each turn with its label."""
    clock = time.perf_counter_ns
    start = clock()
    game.reset()
    reset = (clock() - start) / 1e3
    turns = []
    step = game.step
    for label, reply in replies:
        start = clock()
        result = step(reply)
        turns.append((label, (clock() - start) / 1e3))
        if game.over(result):
            return reset, turns
    raise RuntimeError("the episode did not end with the last reply of the list")


def child(package: str, episodes: int) -> int:
    """Measure one package's subjects in this interpreter, and write one line of JSON."""
    out, sys.stdout = sys.stdout, sys.stderr  # keep the output of libraries out of the answer
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED
    sys.addaudithook(_refuse_network)
    rows = {s.name: measure(s, episodes) for s in SUBJECTS if s.package == package}
    record = {"version": version, "python": platform.python_version(), "rows": rows}
    print(json.dumps(record), file=out)
    return 0


def _refuse_network(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.connect"):
        raise RuntimeError(f"the benchmark runs offline, but something tried {event}{args!r}")


def run_child(package: str, episodes: int) -> dict[str, Any] | str:
    """Measure a package in its own interpreter.

    Returns:
        The child's record, or a message to show instead.
    """
    python = PEERS_VENV / "bin" / "python" if package in PEERS else Path(sys.executable)
    missing = f"not installed; fix: {SETUP}"
    if not python.exists():
        return missing
    command = [str(python), __file__, "--child", package, "--episodes", str(episodes)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | offline,
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {CHILD_TIMEOUT_S} s; fix: fewer --episodes"
    if done.returncode == NOT_INSTALLED:
        return missing if package in PEERS else "not installed; fix: make setup"
    if done.returncode:
        return "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1]
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def compare(episodes: int, rounds: int) -> int:
    """Measure all installed packages, and print the tables."""
    records: dict[str, list[dict[str, Any]]] = {package: [] for package in PACKAGES}
    failures: dict[str, str] = {}
    for number in range(rounds):
        for package in PACKAGES:
            if package in failures:
                continue
            print(f"round {number + 1} of {rounds}: {package} ...", file=sys.stderr, flush=True)
            outcome = run_child(package, episodes)
            if isinstance(outcome, str):
                failures[package] = outcome
            else:
                records[package].append(outcome)
    _print_heading(records, episodes, rounds)
    _print_table(records, failures)
    if OURS in failures:
        return 1
    _print_turns(records[OURS])
    return 0


def _print_heading(records: dict[str, list[dict[str, Any]]], episodes: int, rounds: int) -> None:
    first = {package: found[0] for package, found in records.items() if found}
    versions = [f"{name} {r['version']} on Python {r['python']}" for name, r in first.items()]
    load = os.getloadavg()[0]
    print(f"{_cpu()}, {os.cpu_count()} cores, load {load:.1f}; {platform.system()}; {date.today()}")
    print("; ".join(versions))
    size = f"{rounds} rounds of {episodes} episodes"
    print(f"{size}; microseconds; looking at the clock, included: {_clock_us():.2f}\n")


def _print_table(records: dict[str, list[dict[str, Any]]], failures: dict[str, str]) -> None:
    print(f"{'':34}{'a step':>17}{'':>10}{'a reset':>10}{'a step with':>13}")
    print(
        f"{'environment':34}{'median':>9}{'least':>8}{'x ours':>10}{'median':>10}{'its reset':>13}"
    )
    for subject in SUBJECTS:
        if subject.package in failures:
            print(f"{subject.name:34}  {failures[subject.package]}")
            continue
        rows = [record["rows"][subject.name] for record in records[subject.package]]
        least = min(row["step_min"] for row in rows)
        print(
            f"{subject.name:34}{_median(rows, 'step'):9.1f}{least:8.1f}"
            f"{_ratio(records, rows):>10}{_median(rows, 'reset'):10.1f}"
            f"{_median(rows, 'amortised'):13.1f}"
        )


def _ratio(records: dict[str, list[dict[str, Any]]], rows: list[dict[str, Any]]) -> str:
    """The ratio of a step's time to the first row's, as the median over rounds."""
    base = [record["rows"][SUBJECTS[0].name]["step"] for record in records[OURS]]
    if len(base) != len(rows):
        return "-"
    return f"{statistics.median(r['step'] / b for r, b in zip(rows, base, strict=True)):.3f}"


def _print_turns(found: list[dict[str, Any]]) -> None:
    print("\nLongTVQA-v0 by turn, median:")
    for subject in SUBJECTS:
        if subject.package == OURS:
            turns = [record["rows"][subject.name]["turns"] for record in found]
            parts = (f"{label} {_median(turns, label):.1f}" for label in turns[0])
            print(f"{subject.name:34}  {', '.join(parts)}")


def _median(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def _clock_us() -> float:
    """Microseconds between two readings of the clock, which every figure includes."""
    clock = time.perf_counter_ns
    return statistics.median(-(clock() - clock()) for _ in range(10_000)) / 1e3


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def setup() -> int:
    """Make `.venv-peers` and install the pinned versions of the peers there."""
    python = PEERS_VENV / "bin" / "python"
    pins = [f"{package}=={version}" for package, version in PEERS.items()]
    for command in (
        [sys.executable, "-m", "venv", str(PEERS_VENV)],
        [str(python), "-m", "pip", "install", "--quiet", *pins],
    ):
        status = subprocess.run(command, cwd=ROOT).returncode
        if status:
            return status
    print(f"installed {', '.join(pins)} in {PEERS_VENV.name}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--setup", action="store_true", help="install the peers into .venv-peers and stop")
    add("--episodes", type=_positive, default=1000, help="timed episodes per round (default 1000)")
    add("--rounds", type=_positive, default=5, help="rounds (default 5)")
    add("--child", choices=PACKAGES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.setup:
        return setup()
    if args.child:
        return child(args.child, args.episodes)
    return compare(args.episodes, args.rounds)


def _positive(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"expected 1 to 1,000,000, got {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
