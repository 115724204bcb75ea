"""Budgets of runs and episodes, and the limit on failed episodes that stops a run."""

import asyncio
import json

import pytest

import longvideo_env as lv
from eval.runs.budgets import Budget, SpendingWatch
from longvideo_env.errors import SpecError
from longvideo_env.game.policy import Reply, TextCodec
from longvideo_env.records.trajectory import Trajectory, TurnRecord

LOOK = "<reasoning>r</reasoning><search>what is there</search>"
ANSWER = "<reasoning>r</reasoning><answer>a0</answer>"


class Paid:
    """A policy that looks, then answers, and reports the usage of each reply."""

    def __init__(self, cost_usd=0.01, fail=(), wait_s=0.0):
        self.codec = TextCodec()
        self.cost_usd, self.fail, self.wait_s, self.asked = cost_usd, fail, wait_s, 0

    async def act(self, context):
        self.asked += 1
        if self.asked in self.fail:
            raise OSError("the line is dead")
        await asyncio.sleep(self.wait_s)
        usage = {"requests": 1, "prompt_tokens": 90, "completion_tokens": 10}
        if self.cost_usd is not None:
            usage["cost_usd"] = self.cost_usd
        return Reply(LOOK if context.turn == 1 else ANSWER, usage=usage)

    async def aclose(self):
        pass


def play(policy, out, **more):
    options = {"dataset": "mini:videos=5", "split": "test", "concurrency": 1, "progress": False}
    return lv.evaluate(policy, out=out, **options, **more)


@pytest.mark.parametrize(
    ("budget", "what"),
    [({"usd": 0.11}, r"--budget-usd 0.11 is used up: \$0.1000"),
     ({"tokens": 1100}, "--budget-tokens 1100 is used up: 1,000")],
)  # fmt: skip
def test_a_run_stops_before_its_budget_is_exceeded_and_resumes(tmp_path, budget, what):
    import re

    result = play(Paid(), tmp_path, budget=budget)
    assert result.summary["n_finished"] == 5  # two replies each
    assert re.search(what, result.summary["stopped"])
    assert "stopped at 5 of 20 episodes" in str(result)
    again = Paid()
    assert play(again, tmp_path, budget=budget).summary["n_finished"] == 5
    assert again.asked == 0  # the budget is for the run, not for the call
    more = play(Paid(), tmp_path)
    assert more.summary["n_finished"] == 20
    assert "stopped" not in more.summary


def test_with_many_in_flight_a_budget_is_kept_once_a_price_is_known(tmp_path):
    policy = Paid(wait_s=0.001)
    result = lv.evaluate(
        policy, dataset="mini:videos=25", split="test", out=tmp_path, concurrency=8,
        progress=False, budget={"usd": 0.5},
    )  # fmt: skip
    assert result.summary["spent"]["usd"] <= 0.5 + 1e-9
    assert result.summary["n_finished"] >= 20


def test_an_unknown_price_stops_a_budget_of_money(tmp_path):
    result = play(Paid(cost_usd=None), tmp_path, budget={"usd": 1})
    assert "the price of 2 replies is not known. Fix: add the model" in result.summary["stopped"]
    assert result.summary["n_finished"] == 1
    assert play(Paid(), tmp_path, budget={"usd": 1}).summary["n_finished"] == 20  # now with a price


def test_what_failed_episodes_cost_is_not_forgotten(tmp_path):
    first = play(Paid(fail={2, 4}), tmp_path, budget={"usd": 0.06})
    assert first.summary["n_failed"] >= 1
    spent = first.summary["spent"]["usd"]
    second = play(Paid(), tmp_path, budget={"usd": 0.06})
    assert second.summary["spent"]["usd"] == pytest.approx(spent)


def test_seconds(tmp_path):
    result = play(Paid(wait_s=0.05), tmp_path, budget={"seconds": 0.15})
    assert "--budget-seconds 0.15 is used up" in result.summary["stopped"]
    assert 1 <= result.summary["n_finished"] <= 4


@pytest.mark.parametrize("limit", [{"tokens": 100}, {"usd": 0.01}])
def test_an_episode_beyond_its_budget_ends_unanswered_and_is_wrong(tmp_path, limit):
    result = play(Paid(), tmp_path, episode_budget=limit)
    assert {t.status for t in result.episodes} == {"out_of_budget"}
    assert {t.correct for t in result.episodes} == {False}
    assert result.accuracy == 0.0
    assert result.summary["status"] == {"out_of_budget": 20}
    name, value = next(iter(limit.items()))
    with pytest.raises(SpecError, match=f"episode_budget_{name}={value}, not None"):
        play(Paid(), tmp_path)


def test_an_episode_beyond_its_seconds_has_failed(tmp_path):
    result = play(Paid(wait_s=5), tmp_path, episode_budget={"seconds": 0.05}, limit=2)
    assert result.summary["n_failed"] == 2
    assert result.accuracy is None
    assert "the episode took more than 0.05 seconds" in result.summary["errors"]


def test_a_share_of_failures_stops_a_run(tmp_path):
    policy = Paid(fail=set(range(1, 100, 3)))
    result = play(policy, tmp_path, fail_above=0.1)
    assert result.summary["n_failed"] == 3
    assert "3 of 20 episodes have failed, more than --fail-above 0.1" in result.summary["stopped"]
    assert play(Paid(), tmp_path, fail_above=0.1).summary["n_finished"] == 20


@pytest.mark.parametrize("value", [0, -1, True, "5", float("nan")])
def test_bad_budgets_are_refused(value):
    with pytest.raises(SpecError, match="a budget of usd must be a number above 0"):
        Budget(usd=value)


def test_unknown_budgets_name_the_nearest(tmp_path):
    with pytest.raises(SpecError, match="Did you mean 'tokens'"):
        play(Paid(), tmp_path, budget={"token": 5})


def test_sampled_tokens_count_where_nobody_reports_usage():
    from longvideo_env.records.trajectory import Segment

    segments = (Segment("user", "x", token_ids=(1, 2)),
                Segment("assistant", "y", sampled=True, token_ids=(3, 4, 5)))  # fmt: skip
    done = Trajectory(1, "v", "p", 0, 0, "answered", 5, (TurnRecord(1),), segments)
    assert SpendingWatch(Budget(), [done], {}).spent.tokens == 3


def test_the_command_says_what_was_stopped_beside_the_figure(tmp_path, capsys):
    from eval.run_policy import main

    args = ["--policy", "random", "--dataset", "mini:videos=5", "--split", "test"]
    args += ["--out", str(tmp_path), "--budget-seconds", "0.000001"]
    assert main(args) == 3
    out = capsys.readouterr().out
    assert "(stopped at 0 of 20 episodes)" in out.replace("\n", " ")
    assert "random: stopped: --budget-seconds 1e-06 is used up" in out
    assert json.loads((tmp_path / "random" / "summary.json").read_text())["stopped"]
    assert main(args[:-2]) == 0
    with pytest.raises(SystemExit):
        main([*args, "--fail-above", "x"])
    assert main([*args, "--fail-above", "2"]) == 2
