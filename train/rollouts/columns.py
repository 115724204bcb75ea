"""Turn trajectories into the columns that TRL trains on, and make the reward functions."""

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

    A row's `prompt_ids` and `completion_ids` together are the joined token ids of its segments. TRL
    needs at least one token in each. If there is none (for example, the first grounding failed),
    the column holds one end-of-turn token with mask 0.

    Args:
        trajectories: One per row.
        terms: The reward's terms.
        end_of_turn_id: The codec's end-of-turn token.
        logged: Figures of the whole step to log, the same in each row.
        logprobs: Whether to return the log-probabilities of the sampled tokens, with 0 for other
            tokens. A reply without them is then not trained: it was cut and encoded again
            (`protocol=continuation`). If False, TRL computes them with the policy.
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
    """The logged figures of an episode besides its reward. Unknown figures are left out."""
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
    """One unweighted reward function for each term, with the term's name.

    The first function also logs: each episode's facts (`episodes/accuracy` and so on), the step's
    figures under their own names, and the columns `qid` and `status` of the completions table.
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
                    # TRL takes the mean over the values of all processes.
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
    """The ids of prompt and completion, and the completion's mask and log-probs."""
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
