import asyncio
import pickle
import warnings

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics

import longvideo_env
from longvideo_env.errors import DataError, EpisodeStateError, SpecError, ToolError
from longvideo_env.testing import toolbox_of
from longvideo_env.tools.tool import ToolReply

ENV_ID = "LongTVQA-v0"
TURNS = [
    "<search>what is on the table</search>",
    "hm",
    "<request_grounding/>",
    "<answer>a1</answer>",
]


def play(env, turns=TURNS, **reset):
    transcript = [env.reset(**reset)]
    transcript += [env.step(turn) for turn in turns]
    return transcript


@pytest.mark.parametrize("render_mode", [None, "ansi"])
@pytest.mark.parametrize("options", [{}, {"shuffle_options": True, "window": 3, "tags": "paper"}])
def test_check_env_has_nothing_to_say(render_mode, options):
    env = gym.make(ENV_ID, render_mode=render_mode, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_make_works_with_no_arguments_and_by_module_name():
    env = gym.make("longvideo_env:LongTVQA-v0")
    text, info = env.reset(seed=0)
    assert "Question: " in text
    assert info["turns_left"] == 5
    assert env.spec is not None
    assert env.spec.id == ENV_ID


def test_a_whole_episode():
    env = gym.make(ENV_ID)
    task = env.unwrapped.dataset[0]
    _, info = env.reset(options={"qid": task.qid})
    assert info["qid"] == task.qid
    text, reward, terminated, truncated, info = env.step("<search>the table</search>")
    assert text.startswith("<information>")
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info["action"] == "look"
    text, _, _, _, info = env.step("hm")
    assert info["malformed"] == "no_action"
    right = f"<answer>a{task.gold.answer}</answer>"
    _, reward, terminated, truncated, info = env.step(right)
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(1 + 0.1 * 2 / 3)
    assert info["is_success"] is True
    assert info["reward_valid"] is True
    assert info["status"] == "answered"
    with pytest.raises(EpisodeStateError):
        env.unwrapped.step(right)


def test_out_of_turns_is_truncation():
    env = gym.make(ENV_ID, max_turns=2)
    env.reset(seed=1)
    env.step("x")
    _, reward, terminated, truncated, info = env.step("x")
    assert (terminated, truncated) == (False, True)
    assert reward == 0.0
    assert info["status"] == "out_of_turns"


def test_same_seed_same_episodes():
    for options in ({}, {"shuffle_options": True, "grounding": "random"}):
        first = gym.make(ENV_ID, **options)
        second = gym.make(ENV_ID, **options)
        assert play(first, seed=5) == play(second, seed=5)
        assert play(first) == play(second)
        assert play(first, seed=5) == play(second, seed=5)


def test_the_walk_goes_through_the_whole_split_before_it_repeats():
    env = gym.make(ENV_ID)
    n = len(env.unwrapped.dataset)
    walked = [env.reset(seed=3 if i == 0 else None)[1]["qid"] for i in range(2 * n)]
    assert len(set(walked[:n])) == len(set(walked[n:])) == n
    assert walked[:n] != walked[n:]


def test_qid_is_found_as_number_or_text():
    env = gym.make(ENV_ID)
    qid = env.unwrapped.dataset[3].qid
    assert env.reset(options={"qid": str(qid)})[1]["qid"] == qid
    with pytest.raises(SpecError, match="no question 'nope'"):
        env.reset(options={"qid": "nope"})
    with pytest.raises(SpecError, match="unknown reset option"):
        env.reset(options={"question": 3})


def test_shuffled_options_keep_the_right_answer_right():
    env = gym.make(ENV_ID, shuffle_options=True)
    plain = gym.make(ENV_ID)
    orders = set()
    for seed in range(10):
        _, info = env.reset(seed=seed)
        task = plain.unwrapped.dataset.task(info["qid"])
        right = task.question.options[task.gold.answer]
        shown = env.unwrapped._task.question.options
        orders.add(tuple(task.question.options.index(option) for option in shown))
        _, reward, _, _, _ = env.step(f"<answer>a{shown.index(right)}</answer>")
        assert reward == pytest.approx(1.1)
    assert len(orders) > 5


@pytest.mark.parametrize(
    "options",
    [{"max_turn": 3}, {"grounding": "gps"}, {"reward": "rich"}, {"render_mode": "human"}],
)
def test_bad_options_are_refused(options):
    with pytest.raises(SpecError):
        longvideo_env.LongTVQAEnv(**options)


def test_bad_datasets_are_refused():
    with pytest.raises(DataError, match="no-such-folder"):
        longvideo_env.LongTVQAEnv(dataset="no-such-folder")
    with pytest.raises(DataError, match=r"train.*val|val.*train"):
        longvideo_env.LongTVQAEnv(split="tset")


def test_a_split_of_invalid_rows_only_is_refused(tmp_path):
    (tmp_path / "LongTVQA_plus_val.json").write_text('[{"qid": 1}]')
    with pytest.raises(DataError, match="all 1 rows were left out"):
        longvideo_env.LongTVQAEnv(dataset=str(tmp_path), split="val", skip_invalid=True)


def test_step_before_reset_is_refused():
    with pytest.raises(EpisodeStateError, match=r"call reset\(\) first"):
        longvideo_env.LongTVQAEnv().step("x")


def test_pickle_in_the_middle_of_an_episode_goes_on_the_same():
    env = longvideo_env.LongTVQAEnv(shuffle_options=True, grounding="random")
    env.reset(seed=9)
    env.step(TURNS[0])
    other = pickle.loads(pickle.dumps(env))
    for turn in TURNS[1:]:
        assert env.step(turn) == other.step(turn)
    assert play(env) == play(other)


def test_inside_a_running_event_loop():
    class Slow:
        immediate = False

        async def look(self, request, /):
            await asyncio.sleep(0.001)
            return ToolReply("a mug")

    async def notebook():
        env = longvideo_env.LongTVQAEnv()
        env.toolbox = toolbox_of(env.toolbox.agents["grounding"], Slow())
        env.reset(seed=0)
        return env.step(TURNS[0])[0]

    assert "a mug" in asyncio.run(notebook())


class Down:
    immediate = True

    async def ground(self, request, /):
        raise ToolError("the endpoint is down")

    look = ground


def test_a_failed_tool_truncates_without_a_valid_reward():
    env = longvideo_env.LongTVQAEnv()
    env.toolbox = toolbox_of(env.toolbox.agents["grounding"], Down())
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(TURNS[0])
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["reward_valid"] is False
    assert info["is_success"] is None
    assert "the endpoint is down" in info["error"]


def test_no_first_clip_is_an_error_not_a_fallback():
    env = longvideo_env.LongTVQAEnv()
    env.toolbox = toolbox_of(Down())
    with pytest.raises(ToolError, match="no first clip"):
        env.reset(seed=0)


def test_record_episode_statistics():
    env = RecordEpisodeStatistics(gym.make(ENV_ID))
    info = play(env, seed=0)[-1][-1]
    assert info["episode"]["l"] == 4


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_envs(mode):
    kwargs = {"shared_memory": False} if mode == "async" else {}
    envs = gym.make_vec(
        ENV_ID, num_envs=2, vectorization_mode=mode, vector_kwargs=kwargs, max_turns=2
    )
    single = [gym.make(ENV_ID, max_turns=2) for _ in range(2)]
    try:
        texts, infos = envs.reset(seed=[3, 4])
        for env, seed, text, qid in zip(single, (3, 4), texts, infos["qid"], strict=True):
            expected, info = env.reset(seed=seed)
            assert text == expected
            assert qid == info["qid"]
        actions = (TURNS[0], TURNS[3])
        texts, rewards, terminated, truncated, infos = envs.step(actions)
        for i, env in enumerate(single):
            text, reward, done, cut, info = env.step(actions[i])
            assert (texts[i], rewards[i], terminated[i], truncated[i]) == (text, reward, done, cut)
            assert infos["turn"][i] == info["turn"]
        texts, _, _, _, _ = envs.step(actions)  # the second one starts again by itself
        assert texts[0] != texts[1]
        assert "Question: " in texts[1]
    finally:
        envs.close()


def test_long_observations_survive_async_workers():
    # With shared memory, Gymnasium's own text space pads and cuts strings.
    envs = gym.make_vec(
        ENV_ID, num_envs=2, vectorization_mode="async", vector_kwargs={"shared_memory": False}
    )
    try:
        texts, _ = envs.reset(seed=1)
        assert all(len(text) > 500 and "\x00" not in text for text in texts)
    finally:
        envs.close()


def test_render_reads_like_a_transcript():
    env = gym.make(ENV_ID, render_mode="ansi", max_turns=4)
    play(env, seed=2)
    text = env.render()
    for part in ("Question ", "Turn 1 of 4", "master │ <search>", "Answered a1", "reward"):
        assert part in text
    assert "→ a1" in text
    assert max(map(len, text.splitlines())) <= 100
    assert longvideo_env.LongTVQAEnv().render() is None


def test_nothing_gold_before_the_end():
    env = longvideo_env.LongTVQAEnv()
    _, info = env.reset(seed=0)
    assert not {"answer", "gold", "is_success", "grounded"} & set(info)
    info = env.step(TURNS[0])[-1]
    assert not {"answer", "gold", "is_success", "grounded"} & set(info)
