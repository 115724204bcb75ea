import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longvideo_env.game.protocol.base import option_label
from longvideo_env.records.trajectory import Segment, Trajectory, read_trajectories
from longvideo_env.tools.tool import ToolCall, ToolReply
from train.rollouts.columns import facts, reward_functions, to_rows
from train.rollouts.rollout_groups import without_signal

MakeTrainer = Callable[..., Any]
Write = Callable[..., None]

ANSWER = "<reasoning>so</reasoning><answer>a0</answer>"


class BrokenVision:
    immediate = True

    async def look(self, request: ToolCall, /) -> ToolReply:
        raise TimeoutError("the vision service is away")


def qids(trainer: Any, group: int = 4) -> list[str]:
    """A batch of one question, repeated for its group like TRL's sampler does."""
    return [trainer.train_dataset[0]["prompt"]] * group


def groups_of(rows: dict[str, list[Any]]) -> dict[str, float]:
    """The group metrics in the rows of a batch. All rows must have the same."""
    first, *others = rows["step"]
    assert all(one == first for one in others)
    prefix = "groups/"
    return {k.removeprefix(prefix): v for k, v in first.items() if k.startswith(prefix)}


def gold_of(trainer: Any) -> int:
    answer = trainer.rollout_func.engine.dataset.task(qids(trainer)[0]).gold.answer
    assert isinstance(answer, int)
    return answer


def score(trainer: Any) -> dict[str, Tensor]:
    """Rollout, rewards and advantages of one batch, by TRL."""
    trainer.model.train()
    inputs = [{"prompt": qid} for qid in qids(trainer)]
    output: dict[str, Tensor] = trainer._generate_and_score_completions(inputs)
    return output


def test_rows_are_the_segments_joined_and_the_mask_is_what_was_sampled(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    trainer = make_trainer("--save_rollouts", str(tmp_path / "kept"))
    rows = trainer.rollout_func(qids(trainer), trainer)
    kept = list(read_trajectories(tmp_path / "kept" / "step-000001-rank-000.jsonl.zst"))
    assert [t.sample for t in kept] == [0, 1, 2, 3]
    for i, trajectory in enumerate(kept):
        joined = [id_ for s in trajectory.segments for id_ in s.token_ids or ()]
        sampled = [s.sampled for s in trajectory.segments for _ in s.token_ids or ()]
        prompt, completion = rows["prompt_ids"][i], rows["completion_ids"][i]
        assert prompt + completion == joined
        assert [0] * len(prompt) + rows["env_mask"][i] == [int(one) for one in sampled]
        assert 0 < sum(rows["env_mask"][i]) < len(completion), "there are observations too"
    assert rows["logprobs"] is None


def test_the_prompts_hold_ids_only(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("--limit", "5")
    assert trainer.train_dataset.column_names == ["prompt"]
    tasks = trainer.rollout_func.engine.dataset.tasks
    assert trainer.train_dataset["prompt"][:] == [str(task.qid) for task in tasks]
    assert len(tasks) == 5


def test_replies_differ_within_a_group_and_are_drawn_again_for_the_same_step(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer("--grounding", "random")
    rollout = trainer.rollout_func
    first = rollout(qids(trainer), trainer)["completion_ids"]
    assert len({tuple(ids) for ids in first}) == 4
    assert rollout(qids(trainer), trainer)["completion_ids"] == first, "as a resumed run would"
    trainer.state.global_step = 1
    assert rollout(qids(trainer), trainer)["completion_ids"] != first


def test_a_group_shares_one_order_of_options_and_the_next_step_has_another(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    trainer = make_trainer("--shuffle_options", "true", "--save_rollouts", str(tmp_path))
    for trainer.state.global_step in range(3):
        trainer.rollout_func(qids(trainer), trainer)
    orders = [
        {t.option_order for t in read_trajectories(tmp_path / f"step-{i:06d}-rank-000.jsonl.zst")}
        for i in range(1, 4)
    ]
    assert [len(order) for order in orders] == [1, 1, 1]
    assert len(set.union(*orders)) > 1


def test_a_group_may_reach_over_processes(
    make_trainer: MakeTrainer,
    tmp_path: Path,
    write_replies: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = make_trainer("--save_rollouts", str(tmp_path))
    write_replies(lambda round_, row: ANSWER)
    monkeypatch.setattr(type(trainer.accelerator), "process_index", 1)
    trainer.rollout_func(qids(trainer, 2), trainer)  # the group's second half
    kept = read_trajectories(tmp_path / "step-000001-rank-001.jsonl.zst")
    assert [t.sample for t in kept] == [2, 3]


def flat_at_first(round_: int, row: int) -> str:
    """All replies are equal in the first round. Then the first of the group makes a mistake."""
    return "well" if round_ == 1 and row == 0 else ANSWER


@pytest.mark.parametrize("refill", [False, True])
def test_a_group_without_signal_is_counted_and_refilled_on_demand(
    make_trainer: MakeTrainer, tmp_path: Path, write_replies: Write, refill: bool
) -> None:
    flags = ("--resample_zero_variance", "true") if refill else ()
    trainer = make_trainer("--save_rollouts", str(tmp_path), *flags)
    write_replies(flat_at_first)
    rows = trainer.rollout_func(qids(trainer), trainer)
    assert groups_of(rows) == {
        "zero_variance": 1,
        "refilled": int(refill),
        "without_signal": int(not refill),
        "zero_variance_share": 1.0,
    }
    (qid,) = set(rows["qid"])
    assert (qid == qids(trainer)[0]) is not refill
    kept = list(read_trajectories(tmp_path / "step-000001-rank-000.jsonl.zst"))
    replaced = kept[4:]
    assert [(str(t.qid), t.sample) for t in kept[:4]] == [(qid, i) for i in range(4)]
    assert [str(t.qid) for t in replaced] == (qids(trainer) if refill else [])
    write_replies(flat_at_first)
    assert trainer.rollout_func(qids(trainer), trainer)["qid"] == rows["qid"], "as a resumed run"


def test_refilling_stops_after_the_attempts_allowed_or_without_questions(
    make_trainer: MakeTrainer, write_replies: Write
) -> None:
    for limit, attempts, played in (("20", "3", 3), ("2", "3", 1), ("1", "3", 0)):
        flags = ("--resample_zero_variance", "true", "--resample_attempts", attempts)
        trainer = make_trainer("--limit", limit, *flags)
        write_replies(lambda round_, row: "<answer>a7</answer>")  # this option never exists
        rows = trainer.rollout_func(qids(trainer), trainer)
        assert groups_of(rows) == {
            "zero_variance": 1,
            "refilled": played,
            "without_signal": 1,
            "zero_variance_share": 1.0,
        }


@pytest.mark.parametrize(
    ("rewards", "flat"),
    [
        ([1.0, 1.0, 1.0 + 1e-9], True),
        ([1.0, 0.0, 1.0], False),
        ([1.0, None, None], True),
        ([None, 0.5, 1.0], False),
        ([None, None], True),
    ],
)
def test_rewards_that_are_unknown_give_no_signal(rewards: list[float | None], flat: bool) -> None:
    assert without_signal(rewards) is flat


def test_plays_inside_a_running_event_loop(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()

    async def notebook_cell() -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = trainer.rollout_func(qids(trainer), trainer)
        return rows

    rows = [asyncio.run(notebook_cell()), trainer.rollout_func(qids(trainer), trainer)]
    first, second = [{**one, "step": None} for one in rows]  # its figures are times
    assert first == second


def test_an_episode_that_ended_with_an_answer_is_not_truncated(
    make_trainer: MakeTrainer, write_replies: Write
) -> None:
    trainer = make_trainer("--mask_truncated_completions", "true")
    write_replies(lambda round_, row: ANSWER)
    output = score(trainer)
    assert trainer._metrics["train"]["completions/clipped_ratio"] == [0.0]
    end_of_turn = trainer.rollout_func.codec.end_of_turn_id
    assert output["completion_ids"][:, -1].tolist() == [end_of_turn] * 4
    assert output["tool_mask"][:, -1].tolist() == [0] * 4, "nobody sampled that token"
    assert output["tool_mask"][:, :-1].all()


def test_an_end_of_turn_token_that_is_no_eos_still_ends_an_episode(
    make_trainer: MakeTrainer, write_replies: Write, tiny_model: Path, tmp_path: Path
) -> None:
    # As in base models: `<|endoftext|>` ends a text, `<|im_end|>` a turn.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.eos_token = tokenizer.pad_token
    tokenizer.save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.generation_config.eos_token_id = tokenizer.pad_token_id
    model.save_pretrained(tmp_path / "base")
    trainer = make_trainer("--model_name_or_path", str(tmp_path / "base"))
    write_replies(lambda round_, row: ANSWER)
    score(trainer)
    assert trainer._metrics["train"]["completions/clipped_ratio"] == [0.0]


def test_a_last_turn_that_was_cut_off_is_truncated(
    make_trainer: MakeTrainer, write_replies: Write
) -> None:
    trainer = make_trainer("--max_turns", "2")
    write_replies(lambda round_, row: "<reasoning>and on and on", finish="length")
    score(trainer)
    assert trainer._metrics["train"]["completions/clipped_ratio"] == [1.0]


def test_a_failed_tool_call_leaves_its_row_out_of_the_group(
    make_trainer: MakeTrainer, write_replies: Write
) -> None:
    trainer = make_trainer()
    engine = trainer.rollout_func.engine
    engine.toolbox = replace(
        engine.toolbox, agents={**engine.toolbox.agents, "vision": BrokenVision()}
    )
    right = gold_of(trainer)
    wrong = (right + 1) % 5

    def write(round_: int, row: int) -> str:
        if round_ == 1:  # the third episode has ended, the fourth continues alone
            return f"<answer>{option_label(right)}</answer>"
        answers = [f"<answer>{option_label(i)}</answer>" for i in (right, wrong)]
        return [*answers, "<search>who is there</search>", "nothing"][row]

    write_replies(write)
    output = score(trainer)
    rewards = trainer._logs["rewards"]
    failed = 2
    assert [value == value for value in rewards["answer"]] == [True, True, False, True]
    assert [value == value for value in rewards["validity"]] == [True, True, False, True]
    # Exact match + 0.1 * the share of valid turns.
    others = torch.tensor([1.1, 0.1, 1.05])
    expected = (others - others.mean()) / (others.std() + 1e-4)
    torch.testing.assert_close(output["advantages"][[0, 1, 3]], expected)
    assert output["advantages"][failed] == 0
    assert not output["tool_mask"][failed][output["completion_mask"][failed].bool()].any()
    metrics = trainer._metrics["train"]
    assert metrics["episodes/failed"] == [0.25]
    assert metrics["episodes/accuracy"] == [pytest.approx(2 / 3)]
    assert metrics["rewards/answer/mean"] == [pytest.approx(2 / 3)]
    assert list(trainer._logs["extra"]["status"]) == ["answered"] * 2 + ["failed", "answered"]
    assert list(trainer._logs["extra"]["qid"]) == qids(trainer)


def test_a_whole_batch_that_failed_moves_nothing(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    engine = trainer.rollout_func.engine
    engine.toolbox = replace(engine.toolbox, agents={})  # not even the first clip is found
    output = score(trainer)
    end_of_turn = trainer.rollout_func.codec.end_of_turn_id
    assert output["prompt_ids"].tolist() == [[end_of_turn]] * 4
    assert output["completion_ids"].tolist() == [[end_of_turn]] * 4
    assert not output["tool_mask"].any()
    assert output["advantages"].tolist() == [0, 0, 0, 0]


class Logits(nn.Module):
    """Replaces the model. Its logits are parameters and do not depend on the earlier tokens."""

    def __init__(self, ids: Tensor, vocabulary: int) -> None:
        super().__init__()
        noise = torch.randn(*ids.shape, vocabulary, generator=torch.Generator().manual_seed(0))
        self.logits = nn.Parameter(noise)

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        # The logits of a position are those that its token is drawn from.
        logprobs = self.logits.log_softmax(-1)
        drawn = logprobs.gather(-1, input_ids[..., None])[..., 0]
        return SimpleNamespace(log_probs=drawn, entropy=-(logprobs.exp() * logprobs).sum(-1))


def gradient(trainer: Any, batch: dict[str, Tensor]) -> Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    model = Logits(ids, trainer.model.config.vocab_size)
    trainer._compute_loss(model, batch).backward()
    assert model.logits.grad is not None
    return model.logits.grad[:, batch["prompt_ids"].shape[1] :].abs().sum(-1)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_observations_carry_no_gradient(make_trainer: MakeTrainer, loss_type: str) -> None:
    trainer = make_trainer("--loss_type", loss_type)
    trainer.current_gradient_accumulation_steps = 1  # set by train()
    batch = score(trainer)
    batch["advantages"] = torch.tensor([1.0, -1.0, 0.5, -0.5])
    present = batch["completion_mask"].bool()
    sampled = present & batch["tool_mask"].bool()
    observed = present & ~sampled
    assert observed.any()

    before = gradient(trainer, batch)
    assert (before[sampled] > 0).all()
    assert (before[~sampled] == 0).all()

    changed = (batch["completion_ids"] + 7) % 500
    batch["completion_ids"] = torch.where(observed, changed, batch["completion_ids"])
    assert torch.equal(gradient(trainer, batch), before)


def test_rows_of_episodes_without_a_reply() -> None:
    base = Trajectory(1, "v", "p", 0, 0, "out_of_context", 5, (), ())
    opened = replace(
        base, segments=(Segment("prompt", "?", token_ids=(5, 6)),), reward_terms={"answer": 0.0}
    )
    failed = replace(base, status="failed")
    rows = to_rows([opened, failed], ["answer"], end_of_turn_id=9)
    assert rows["prompt_ids"] == [[5, 6], [9]]
    assert rows["completion_ids"] == [[9], [9]]
    assert rows["env_mask"] == [[0], [0]]
    assert rows["answer"] == [0.0, None]


def test_facts_leave_out_what_is_not_known() -> None:
    played = Trajectory(1, "v", "p", 0, 0, "out_of_turns", 5, (), (), correct=False)
    assert facts(played) == {
        "failed": 0.0,
        "accuracy": 0.0,
        "turns": 0.0,
        "tool_calls": 0.0,
        "grounding_calls": 0.0,
        "vision_calls": 0.0,
        "malformed": 0.0,
        "invalid_reward": 0.0,
    }
    assert facts(replace(played, status="failed", correct=None)) == {"failed": 1.0}


def test_one_reward_function_a_term() -> None:
    functions = reward_functions(["answer", "validity"])
    assert [function.__name__ for function in functions] == ["answer", "validity"]
    logged: list[tuple[str, Any]] = []

    def log(name: str, value: Any) -> None:
        logged.append((name, value))

    columns: dict[str, list[Any]] = {
        "answer": [1.0, None],
        "validity": [0.5, None],
        "qid": ["7", "7"],
        "status": ["answered", "failed"],
        "facts": [{"failed": 0.0}, {"failed": 1.0}],
        "step": [{"groups/refilled": 3}, {"groups/refilled": 3}],
    }
    results = [f(log_extra=log, log_metric=log, **columns) for f in functions]
    assert results == [[1.0, None], [0.5, None]]
    assert logged == [
        ("qid", ["7", "7"]),
        ("status", ["answered", "failed"]),
        ("episodes/failed", 0.0),
        ("episodes/failed", 1.0),
        ("groups/refilled", 3),
        ("groups/refilled", 3),
    ]


def test_the_share_of_calls_answered_by_a_recording_is_logged(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    file = str(tmp_path / "calls.sqlite")
    trainer = make_trainer("--recording", "reuse", "--recording_file", file)
    first = trainer.rollout_func(qids(trainer), trainer)["step"][0]["recording/hit_rate"]
    again = trainer.rollout_func(qids(trainer), trainer)["step"][0]["recording/hit_rate"]
    assert 0 < first < 1, "a group of four shares the call for its first clip"
    assert again == 1, "the same step once more asks for nothing new"
