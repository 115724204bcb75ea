"""Facts about a run that a reader needs besides its accuracy, as headings with rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from agents.generation.settings import GenerationSettings
from eval.bundle.cleaning import clean_values
from eval.bundle.packing import command_of
from eval.leaks import Leak
from eval.metrics.answer_forms import answer_rows
from eval.metrics.cost import money_line
from eval.metrics.intervals import few_videos
from eval.metrics.judge_agreement import agreement_lines
from eval.metrics.pairs import Run
from eval.metrics.summary import accuracy_interval
from eval.output.formatting import format_interval, format_number
from eval.runs.failures import stopped_mark, top_reasons
from eval.runs.store import IDENTITY
from longvideo_env.datasets.coverage import Coverage

Rows: TypeAlias = list[tuple[str, str]]

UNKNOWN = "not known"
_FORMS = {"words": " in words", "when": " (a temporal IoU of 0.5 or more)"}
_SETTINGS = ("max_turn_tokens", "temperature", "top_p", "top_k", "max_context_tokens")


@dataclass(frozen=True)
class EvaluationCard:
    """A run on one page.

    Attributes:
        title: The policy.
        sentence: The sentence to cite.
        sections: Heading -> rows of a name and a value.
        warnings: Reasons to read the accuracy with care.
    """

    title: str
    sentence: str
    sections: Mapping[str, Rows]
    warnings: Sequence[str]


def make_card(
    run: Run, summary: Mapping[str, Any], leaks: Sequence[Leak] | None, no_leaks: str = ""
) -> EvaluationCard:
    """The card of a run.

    Args:
        run: The run.
        summary: Its summary, computed from its episodes.
        leaks: What simple readers get right on its questions. None if unknown.
        no_leaks: Why the leaks are unknown.
    """
    config, clean = clean_values(run.config), clean_values(summary)
    sections = {
        "Result": _result(clean),
        "Data": _data(config, clean),
        "What went wrong": _wrong(run, clean),
        **({"Judge": _judge(clean)} if clean.get("judge") else {}),
        "Leak meter": _leaks(clean, leaks, no_leaks),
        "Policy and sampling": _policy(config, clean),
        "Environment": _environment(config),
        "Price": _price(clean),
        "How to play it again": [("command", command_of(config, clean))],
    }
    return EvaluationCard(
        str(clean["policy"]), sentence_of(config, clean), sections, _warnings(clean, leaks)
    )


def sentence_of(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The sentence to cite."""
    if summary["accuracy"] is None:
        return f"{summary['policy']} has no accuracy on {summary['dataset']}: nothing was scored."
    interval = accuracy_interval(summary)
    within = (
        "one video gives no interval"
        if interval is None
        else f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}, clustered by video"
    )
    plays = "" if summary["n_samples"] == 1 else f", {summary['n_samples']} samples each"
    form = _FORMS.get(str(config.get("ask")), "")
    silent = summary["n_finished"] - summary["n_answered"] - summary["n_failed"]
    marks = [mark for mark in (stopped_mark(summary),) if mark]
    marks += ["agents were given gold"] if summary.get("oracle") or summary.get("leaky") else []
    return (
        f"{summary['policy']} answers {100 * summary['accuracy']:.1f} % of "
        f"{summary['n_scored']:,} episodes right{form} ({within}; {summary['n_videos']:,} videos) "
        f"on {summary['dataset']}, split {summary['split']}{plays}. {silent:,} episodes without an "
        f"answer count as wrong, {summary['n_failed']:,} failed ones are left out"
        f"{''.join(f'; {mark}' for mark in marks)} (longvideo-env "
        f"{_hash(config, 'version')}, words {_hash(config, 'words')}, seed {config.get('seed')})."
    )


def _result(s: Mapping[str, Any]) -> Rows:
    rows = [
        ("accuracy", format_number(s["accuracy"])),
        ("95 % interval, clustered by video", format_interval(accuracy_interval(s))),
        ("scored episodes", f"{s['n_scored']:,}"),
        ("videos", f"{s['n_videos']:,}"),
        ("gold clip visited", format_number(s["grounding_accuracy"])),
        ("gold clip shown first", format_number(s["grounding_accuracy_first"])),
        ("mean reward", format_number(s["mean_reward"])),
    ]
    samples = s["samples"]
    if samples["n"] > 1:
        names = (("avg", "avg@n"), ("pass", "pass@n"), ("majority", "majority@n"))
        rows += [(f"{label}, n = {samples['n']}", format_number(samples[k])) for k, label in names]
    for label, value, interval, _ in answer_rows(s):
        rows.append((label, f"{format_number(value)} ({format_interval(interval)})"))
    if mark := stopped_mark(s):
        rows.append(("stopped early", f"{mark}: {s['stopped']}"))
    return rows


def _data(config: Mapping[str, Any], s: Mapping[str, Any]) -> Rows:
    chosen = s.get("selection") or {}
    picked = [f"{name} {chosen[name]}" for name in ("questions", "limit", "shuffle")
              if chosen.get(name) is not None]  # fmt: skip
    coverage = Coverage.from_json(s["coverage"]) if s.get("coverage") else None
    rows = [
        ("dataset", f"{s['dataset']}, split {s['split']}"),
        ("questions asked", f"{s['n_questions']:,}"),
        ("chosen by", ", ".join(picked) or "all of the split"),
        *[
            (f"hash of {what}", _hash(config, part))
            for part, what in (
                ("questions", "the questions"),
                ("answers", "the answer key"),
                ("texts", "subtitles, captions and clips"),
            )
        ],
    ]
    if coverage is not None:
        left = [f"{why}: {n:,}" for why, n in coverage.left_out.items()]
        rows.append(("questions left out, and why", "; ".join(left) or "none"))
        rows += [("read", line) for line in coverage.lines()]
    return rows


def _wrong(run: Run, s: Mapping[str, Any]) -> Rows:
    turns = [turn for t in run.episodes.values() for turn in t.turns]
    cut = sum(turn.finish == "length" for turn in turns)
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in s["malformed_kinds"].items())
    ends = {
        "out_of_turns": "out of turns",
        "out_of_context": "out of the model's context",
        "out_of_budget": "out of budget",
    }
    silent = [f"{label} {s['status'][k]:,}" for k, label in ends.items() if s["status"].get(k)]
    shortlisted = s["shortlisted"]
    rows = [
        ("failed episodes (left out)", f"{s['n_failed']:,} of {s['n_finished']:,}"),
        *[(f"reason, {n:,} times", error) for error, n in top_reasons(s["errors"])],
        ("no answer (wrong)", ", ".join(silent) or "none"),
        ("malformed turns", f"{format_number(s['malformed_rate'])} of {len(turns):,}"
                            + (f": {kinds}" if kinds else "")),
        ("replies cut at the token limit", f"{cut:,} of {len(turns):,}"),
        ("videos cut for the grounding agent", f"{shortlisted['calls']:,} of "
                                               f"{shortlisted['of']:,} calls"),
        ("rewards that could not be computed", f"{s['n_invalid_reward']:,}"),
    ]  # fmt: skip
    return rows


def _judge(s: Mapping[str, Any]) -> Rows:
    found = s["judge"]
    rows = [
        ("judge", ", ".join(found["specs"])),
        ("answers judged", f"{found['n']:,}"),
        ("without a verdict (not scored)", f"{found['n_failed']:,}"),
        ("votes", f"{found['n_votes']:,}, of which {found['n_unread']:,} held no verdict"),
        ("verdicts without a vote against", format_number(found["unanimous"])),
    ]
    return rows + [tuple(line.split(": ", 1)) for line in agreement_lines(found["agreement"])]  # type: ignore[misc]


def _leaks(s: Mapping[str, Any], leaks: Sequence[Leak] | None, why: str) -> Rows:
    rows = [
        ("agents were given the gold clip (oracle)", _yes(s.get("oracle"))),
        ("agents were shown boxes (leaky)", _yes(s.get("leaky"))),
    ]
    if leaks is None:
        return [*rows, ("readers without understanding", f"not measured: {why}")]
    return rows + [
        (
            f"by {leak.reader}",
            f"{leak.accuracy:.3f}, chance {leak.chance:.3f}"
            + (" (above chance)" if leak.above_chance else ""),
        )
        for leak in leaks
    ]


def _policy(config: Mapping[str, Any], s: Mapping[str, Any]) -> Rows:
    settings = [f.name for f in fields(GenerationSettings) if f.name in _SETTINGS]
    drawn = [(n.replace("_", " "), str(config[n])) for n in settings if n in config]
    return [
        ("policy", str(s["policy"])),
        *([("hash of the model's files", _hash(config, "checkpoint"))] if drawn else []),
        *(drawn or [("sampling", "none: not a model")]),
        ("seed", str(config.get("seed"))),
        ("samples of each question", str(s["n_samples"])),
        ("recording", str((s.get("recording") or {}).get("mode", "off"))),
    ]


def _environment(config: Mapping[str, Any]) -> Rows:
    names = ("game", "tools", "grounding", "ground_action", "vision", "max_turns", "window", "tags",
             "instructions", "reward", "ask", "labels", "judge", "shuffle_options")  # fmt: skip
    rows = [(name.replace("_", " "), _text(config[name])) for name in names if name in config]
    limits = {k: v for k, v in config.items() if k.startswith("episode_budget_")}
    rows += [(name.replace("_", " "), str(value)) for name, value in limits.items()]
    return [
        *rows,
        ("hash of the words", _hash(config, "words")),
        ("version of longvideo-env", _hash(config, "version")),
    ]


def _price(s: Mapping[str, Any]) -> Rows:
    total = s["usage"]["total"]
    spent = s["cost_usd"]
    if not total["requests"]:
        return [("money", "no paid requests"), ("seconds", f"{s.get('wall_s', 0):,.1f}")]
    each = s["cost_per_correct_usd"]
    return [
        ("money", money_line(s) if spent is None else f"${spent:.4f}"),
        ("a right answer", UNKNOWN if each is None else f"${each:.5f}"),
        ("requests", f"{total['requests']:,}"),
        ("tokens", f"{total['prompt_tokens']:,} + {total['completion_tokens']:,}"),
        ("seconds", f"{s.get('wall_s', 0):,.1f}"),
    ]


def _warnings(s: Mapping[str, Any], leaks: Sequence[Leak] | None) -> list[str]:
    found = []
    if s.get("stopped"):
        found.append(f"The run was {stopped_mark(s)}.")
    if s.get("oracle") or s.get("leaky"):
        found.append("Agents were given gold: this is an upper bound, not a result.")
    if s["n_failed"]:
        share = s["n_failed"] / s["n_finished"]
        found.append(f"{share:.1%} of the episodes failed, and are left out of the accuracy.")
    if (judge := s.get("judge")) and judge["n_failed"]:
        found.append(f"The judge gave no verdict on {judge['n_failed']:,} of {judge['n']:,}.")
    if s["n_videos"] and (few := few_videos(s["n_videos"])):
        found.append(f"{few[0].upper()}{few[1:]}.")
    if s.get("coverage") and (loss := Coverage.from_json(s["coverage"]).large_loss):
        found.append(f"{loss[:1].upper()}{loss[1:]} of the dataset.")
    # Counting words in the gold clip is a lower bound for agents, not a leak.
    open_leaks = [x for x in leaks or () if x.above_chance and "gold clip" not in x.reader]
    best = max(open_leaks, default=None,
               key=lambda leak: leak.accuracy)  # fmt: skip
    if best is not None:
        found.append(
            f"A simple reader ({best.reader}) gets {best.accuracy:.1%} right without the video. "
            f"Chance is {best.chance:.1%}."
        )
    return found


def _hash(config: Mapping[str, Any], part: str) -> str:
    return str((config.get(IDENTITY) or {}).get(part, UNKNOWN))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _yes(value: Any) -> str:
    return "yes" if value else "no"
