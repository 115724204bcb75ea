"""Trajectories as the columns that TRL trains on, and the functions that read rewards off them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from longvideo_env.records.trajectory import Trajectory

RewardFunction: TypeAlias = Callable[..., list[float | None]]


def to_rows(
    trajectories: Sequence[Trajectory],
    terms: Sequence[str],
    end_of_turn_id: int,
    logged: Mapping[str, float] | None = None,
    *,
    logprobs: bool = False,
) -> dict[str, list[Any]]:
    """Trajectories as the columns that TRL expects from a `rollout_func`.

    A row's `prompt_ids` and `completion_ids` together are its segments' token ids, joined. TRL
    needs a token in each: where there is none, as when the first grounding failed, an end-of-turn
    token masked 0 stands in.

    Args:
        trajectories: One a row.
        terms: The reward's terms.
        end_of_turn_id: The codec's.
        logged: Figures of the whole step to log, the same in each row.
        logprobs: Hand on the log-probabilities under which the tokens were sampled, 0 where
            nothing was. A reply without them, which was cut and encoded anew
            (`protocol=continuation`), is then not trained. Otherwise TRL computes them under the
            policy itself.
    """
    names = ("prompt_ids", "completion_ids", "env_mask", "qid", "status", "facts")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    columns["step"] = [dict(logged or {})] * len(trajectories)
    columns |= {term: [] for term in terms}
    sampled_under: list[list[float]] = []
    for trajectory in trajectories:
        prompt, completion, mask, logps = _tokens(trajectory, logprobs)
        columns["prompt_ids"].append(prompt or [end_of_turn_id])
        columns["completion_ids"].append(completion or [end_of_turn_id])
        columns["env_mask"].append(mask or [0])
        sampled_under.append(logps or [0.0])
        columns["qid"].append(str(trajectory.qid))
        columns["status"].append(trajectory.status)
        columns["facts"].append(facts(trajectory))
        for term in terms:
            columns[term].append(trajectory.reward_terms.get(term))
    columns["logprobs"] = sampled_under if logprobs else None  # type: ignore[assignment]
    return columns


def facts(trajectory: Trajectory) -> dict[str, float]:
    """What is logged of an episode besides its reward; leaves out what is not known."""
    if trajectory.status == "failed":
        return {"failed": 1.0}
    turns = trajectory.turns
    known: dict[str, float | None] = {
        "failed": 0.0,
        "invalid_reward": trajectory.reward_error is not None,
        "accuracy": trajectory.correct,
        "grounded": trajectory.grounded,
        "turns": len(turns),
        "tool_calls": sum(turn.request is not None for turn in turns),
        "grounding_calls": sum(turn.request is not None and turn.moves for turn in turns),
        "vision_calls": sum(turn.request is not None and turn.looks for turn in turns),
        "malformed": sum(turn.malformed is not None for turn in turns) / max(len(turns), 1),
    }
    return {name: float(value) for name, value in known.items() if value is not None}


def reward_functions(terms: Sequence[str]) -> list[RewardFunction]:
    """One reward function for each term, of the same name, and unweighted.

    The first also logs each episode's facts, as `episodes/accuracy` and so on, the step's figures
    under their own names, and the columns `qid` and `status` of the completions table.
    """
    return [_reward_function(term, reports=i == 0) for i, term in enumerate(terms)]


def _reward_function(term: str, *, reports: bool) -> RewardFunction:
    def reward(
        *,
        log_extra: Callable[[str, list[Any]], None],
        log_metric: Callable[[str, float], None],
        **columns: list[Any],
    ) -> list[float | None]:
        if reports:
            log_extra("qid", columns["qid"])
            log_extra("status", columns["status"])
            for episode in columns["facts"]:
                for name, value in episode.items():
                    # TRL takes the mean over everything logged by all processes.
                    log_metric(f"episodes/{name}", value)
            for figures in columns["step"]:
                for name, value in figures.items():
                    log_metric(name, value)
        return columns[term]

    reward.__name__ = term
    return reward


def _tokens(
    trajectory: Trajectory, wants_logprobs: bool
) -> tuple[list[int], list[int], list[int], list[float]]:
    """The ids of prompt and completion, and for the completion its mask and log-probs."""
    prompt: list[int] = []
    completion: list[int] = []
    mask: list[int] = []
    logprobs: list[float] = []
    counts = trajectory.status != "failed" and trajectory.reward_error is None
    for segment in trajectory.segments:
        ids = segment.token_ids or ()
        if segment.turn == 0:
            prompt += ids
            continue
        completion += ids
        known = segment.logprobs is not None or not wants_logprobs
        mask += [int(segment.sampled and counts and known)] * len(ids)
        logprobs += segment.logprobs or (0.0,) * len(ids)
    return prompt, completion, mask, logprobs
