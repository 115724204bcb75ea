import pytest

from eval.metrics.cost import Cost, episode_cost, mean_cost


def record(*, usd=None, ids=(1, 2, 3), details=None):
    result = {"agent": "a", "value": "v", "error": None, "details": details or {}}
    turns = [{"request": {"kind": "vision"}, "result": result}, {"request": None, "result": None}]
    more = {} if usd is None else {"cost_usd": usd}
    return {
        "turns": turns,
        "first": None,
        "segments": [
            {"sampled": False, "token_ids": [7] * 50},
            {"sampled": True, "token_ids": ids},
            {"sampled": True, "n_tokens": 4},
        ],
        "timings": {"model_s": 1.5, "tools_s": 0.5},
        **more,
    }


def test_calls_tokens_and_seconds_are_counted():
    assert episode_cost(record()) == Cost(1, 7, 2.0, None)


def test_money_is_taken_from_the_episode_or_else_from_its_calls():
    assert episode_cost(record(usd=0.5, details={"cost_usd": 0.25})).usd == 0.5
    assert episode_cost(record(details={"cost_usd": 0.25})).usd == 0.25


def test_a_mean_is_over_what_is_known():
    mean = mean_cost([Cost(1, None, 1.0, 0.5), Cost(3, 10, 2.0, None)])
    assert mean == {"tool_calls": 2, "tokens": 10, "seconds": pytest.approx(1.5), "usd": 0.5}
    assert mean_cost([])["tool_calls"] is None


def test_a_run_counts_the_seconds_of_a_batch_once():
    batch = [Cost(1, 10, 8.0, None)] * 4
    assert mean_cost(batch)["seconds"] == 8.0
    assert mean_cost(batch, wall_s=8.0)["seconds"] == 2.0
    assert mean_cost([], wall_s=8.0)["seconds"] is None
