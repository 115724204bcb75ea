"""The shipped games: their texts, actions and scores."""

import dataclasses
import json
from pathlib import Path

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import longvideo_env as lv
from longvideo_env import EnvConfig, RolloutEngine, Task, load_dataset
from longvideo_env.game.game import Game
from longvideo_env.game.games import dvd, longvt, released, videoagent
from longvideo_env.game.protocol.base import ANSWER, Action, Malformed
from longvideo_env.game.reward import Play, parse_reward
from longvideo_env.records.trajectory import Trajectory, TurnRecord
from longvideo_env.schema import Gold
from longvideo_env.spans import temporal_iou, temporal_recall
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox

GAMES = ("longvideoagent", "longvideoagent-released", "longvt", "dvd", "dvd-lite", "videoagent")
FULL = tuple(game for game in GAMES if game != "dvd-lite")  # it cannot see colours
FLOORS = {
    "longvideoagent": "scripted:ground-look-answer",
    "longvideoagent-released": "scripted:ground-look-answer",
    "longvt": "scripted:crop_video-answer",
    "dvd": "scripted:clip_search_tool-answer",
    "dvd-lite": "scripted:clip_search_tool-answer",
    "videoagent": "scripted:retrieve_frames-answer",
}


def make(game, **options):
    options = {"dataset": "mini", "split": "test", "disable_env_checker": True, **options}
    return gym.make("LongTVQA-v0", game=game, **options)


def think(call):
    return f"<think>so</think><tool_call>{json.dumps(call)}</tool_call>"


def crop(start, end, **more):
    call = {"name": "crop_video", "arguments": {"start_time": start, "end_time": end, **more}}
    return think(call)


def played(policy, out, limit=20, **options):
    return lv.evaluate(policy, split="test", limit=limit, out=out, progress=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize("game", FULL)
def test_the_teacher_of_mini_plays_every_game(game, tmp_path):
    result = played("teacher:mini", tmp_path, 150, game=game, dataset="mini")
    assert result.accuracy >= 0.8
    assert not any(turn.malformed for episode in result.episodes for turn in episode.turns)


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_the_teacher_is_above_a_script_and_chance(game, tmp_path):
    found = {}
    for policy in (FLOORS[game], "random", "teacher:mini"):
        result = played(policy, tmp_path, 24, game=game)
        found[policy] = result.accuracy
        assert result.summary["n_failed"] == 0
        assert not any(turn.malformed for episode in result.episodes for turn in episode.turns)
    if game in FULL:
        assert found["teacher:mini"] > max(found["random"], found[FLOORS[game]]) + 0.15


@pytest.mark.parametrize("module", [longvt, dvd, videoagent, released])
def test_a_game_is_one_short_file_that_names_its_source(module):
    text = Path(module.__file__).read_text()
    assert len(text.splitlines()) < 250
    for part in ("arXiv", "commit", "Same as there", "Otherwise, and why"):
        assert part in module.__doc__


def twisted(gold: Gold) -> Gold:
    """A gold label that differs in every part."""
    return Gold(
        answer=None if gold.answer is None else (gold.answer + 1) % 5,
        clip_id=gold.clip_id,
        span=(1.0, 2.0),
        clues=((gold.clip_id or "", 3.0, 4.0),),
        text="zq twisted",
    )


@pytest.mark.parametrize("game", GAMES)
def test_not_a_word_depends_on_gold(game):
    dataset = load_dataset("mini", "test")
    dataset = dataclasses.replace(dataset, tasks=[*dataset][:24])
    other = [Task(task.question, twisted(task.gold)) for task in dataset]
    config = EnvConfig(dataset="mini", split="test", game=game)
    from agents.policies.build import build_policy

    async def play(tasks, policy):
        data = dataclasses.replace(dataset, tasks=tasks)
        engine = RolloutEngine(
            dataset=data,
            config=config,
            toolbox=build_toolbox(config, data),
            policy=build_policy(policy),
            policy_spec=policy,
        )
        found = [t async for t in engine.play_all((task, 0) for task in tasks)]
        keep = ("qid", "segments", "turns", "first", "visited", "seen_s", "choice")
        records = [json.loads(t.to_json()) for t in found]
        return sorted(json.dumps({k: r[k] for k in keep if k in r}) for r in records)

    for policy in ("random", "teacher:mini"):
        assert run_blocking(play(dataset.tasks, policy)) == run_blocking(play(other, policy))


class TestLongVT:
    def test_a_crop_shows_what_is_said_and_seen_in_it(self):
        env = make("longvt")
        text, _ = env.reset(seed=1)
        assert "960 seconds" in text
        text, _, _, _, info = env.step(crop(60, 120))
        assert info["window"] == ["mini_s02e0063_seg01_clip_01"]
        assert "Seen: [01:00" in text
        assert "Said from 60-120 s" in text

    @pytest.mark.parametrize(
        ("start", "end"), [(90, 70), (-1, 5), (0, 961), (5, 5), ("soon", 9), (None, 9), (True, 9)]
    )
    def test_a_wrong_stretch_costs_the_turn_and_says_the_limits(self, start, end):
        env = make("longvt")
        env.reset(seed=1)
        text, _, terminated, truncated, info = env.step(crop(start, end))
        assert info["malformed"] == "wrong_arguments"
        assert info["turn"] == 1
        assert "the video runs from 0 to 960 s" in text
        assert (terminated, truncated) == (False, False)

    @settings(max_examples=60, deadline=None)
    @given(st.floats() | st.text(max_size=5) | st.none(), st.floats() | st.integers())
    def test_any_stretch_is_shown_or_malformed(self, start, end):
        env = make("longvt", max_turns=3)
        env.reset(seed=1)
        call = {"name": "crop_video", "arguments": {"start_time": start, "end_time": end}}
        _, _, _, truncated, info = env.step(think(call))
        fine = isinstance(start, float | int) and 0 <= start < end <= 960
        assert not truncated
        assert (info["malformed"] is None) == fine or isinstance(start, str)

    def test_dialogue_is_cut_aloud(self):
        dataset = load_dataset("mini:difficulty=1,videos=2", "test")
        env = make("longvt", dataset="mini:difficulty=1,videos=2")
        env.reset(seed=0)
        whole = 60 * max(len(v.clips) for v in dataset.videos.values())
        text = env.step(crop(0, whole - 180))[0]
        lines = text.count("\n[")
        assert lines <= 128 + 8
        assert "more lines" in text or lines < 128

    def test_reward_terms_equal_a_direct_computation(self):
        reward = parse_reward("longvt")
        assert set(reward) == {"answer", "well_formed", "crop_iou"}
        seen = (("c", 10.0, 30.0),)
        turns = [
            TurnRecord(1, "crop_video", seen=(("c", 0.0, 5.0),)),
            TurnRecord(2, "crop_video", seen=seen),
            TurnRecord(3, "answer", "a1"),
        ]
        play = Play("answered", 1, [], turns)
        gold = Gold(1, "c", (20.0, 40.0))
        assert longvt.crop_iou(play, gold) == temporal_iou([(10, 30)], [(20, 40)])
        assert longvt.crop_recall(play, gold) == temporal_recall([(10, 30)], [(20, 40)])
        assert longvt.any_crop(play, gold) == 1
        assert longvt.any_crop(play, Gold(0, "c", (20.0, 40.0))) == 0
        assert longvt.crop_iou(play, Gold(1)) is None
        assert longvt.crop_iou(Play("answered", 1, [], []), gold) == 0
        assert longvt.crop_iou(play, Gold(1, "d", (10.0, 30.0))) == 0
        # Overlapping stretches count once.
        clues = (("c", 20.0, 40.0), ("c", 25.0, 40.0), ("d", 0.0, 5.0))
        several = Gold(1, "c", (20.0, 40.0), clues=clues)
        assert longvt.crop_iou(play, several) == pytest.approx(10 / 35)
        assert longvt.crop_recall(play, several) == pytest.approx(10 / 25)

    @pytest.mark.parametrize("spec", ["longvt", "longvt-recall", "longvt-any-call,answer=2"])
    def test_variants_are_presets(self, spec, tmp_path):
        result = played("teacher:mini", tmp_path, game="longvt", reward=spec)
        episodes = [e for e in result.episodes if e.correct]
        assert all(len(e.reward_terms) == 3 for e in episodes)
        # The teacher crops the moment itself: the gold line, or its minute.
        assert sum(e.reward for e in episodes) / len(episodes) > 2.5

    def test_episodes_are_read_back_with_what_was_seen(self, tmp_path):
        result = played("teacher:mini", tmp_path, 4, game="longvt")
        for episode in result.episodes:
            again = Trajectory.from_json(episode.to_json())
            assert again == episode
            assert again.seen_s == episode.seen_s > 0
        assert any(turn.seen for episode in result.episodes for turn in episode.turns)


class TestDvd:
    def test_the_tools_are_functions_and_finish_answers(self):
        env = make("dvd")
        _, info = env.reset(seed=1)
        names = [tool["function"]["name"] for tool in info["tools"]]
        assert names == ["global_browse_tool", "clip_search_tool", "frame_inspect_tool", "finish"]
        call = {"name": "clip_search_tool", "arguments": {"event_description": "wedding"}}
        text = env.step(json.dumps(call))[0]
        assert text.count("[From ") == 16
        starts = [line for line in text.splitlines() if line.startswith("[From")]
        assert starts == sorted(starts)
        text = env.step(json.dumps({"name": "answer", "arguments": {"answer": "a0"}}))[0]
        assert "there is no tool answer" in text
        _, reward, terminated, _, _ = env.step(
            json.dumps({"name": "finish", "arguments": {"answer": "a0"}})
        )
        assert terminated
        assert reward >= 0

    @pytest.mark.parametrize(
        "ranges", [[["00:16:00", "00:17:00"]], [["1", "2"]], [["0:09", "0:05"]]]
    )
    def test_a_wrong_range_is_malformed(self, ranges):
        env = make("dvd")
        env.reset(seed=1)
        arguments = {"question": "who?", "time_ranges_hhmmss": ranges}
        call = {"name": "frame_inspect_tool", "arguments": arguments}
        text, _, _, _, info = env.step(json.dumps(call))
        assert info["malformed"] == "wrong_arguments"
        assert "from 0 to 960 s" in text

    def test_lite_plays_on_subtitles_alone(self):
        env = make("dvd-lite")
        _, info = env.reset(seed=1)
        assert "frame_inspect_tool" not in [tool["function"]["name"] for tool in info["tools"]]
        call = {"name": "clip_search_tool", "arguments": {"event_description": "holds the place"}}
        assert " holds a " not in env.step(json.dumps(call))[0]

    def test_a_door_of_functions_offers_finish(self):
        from longvideo_env.integrations.calling import CallStage

        stage = CallStage(EnvConfig(dataset="mini", split="test", game="dvd"))
        assert [tool.name for tool in stage.tools][-1] == "finish"
        episode = stage.open(stage.dataset[0].qid)
        episode.start()
        episode.call("answer", {"answer": "a0"})
        assert not episode.over
        episode.call("finish", {"answer": "a0"})
        assert episode.over
        assert episode.score().reward is not None

    def test_the_last_turn_is_told_to_finish(self):
        env = make("dvd", max_turns=2)
        env.reset(seed=1)
        call = {"name": "global_browse_tool", "arguments": {"query": "wedding"}}
        text = env.step(json.dumps(call))[0]
        assert "call finish now" in text
        assert set(json.loads(text.splitlines()[0])) == {"subject_registry", "query_related_event"}


class TestVideoAgent:
    def test_three_rounds_from_five_frames(self):
        env = make("videoagent")
        text, _ = env.reset(seed=1)
        assert text.count("\n[") == 5
        wanted = [{"start_time": 60, "end_time": 120, "description": "hana holds a drum"}]
        reply = f"<reasoning>no</reasoning><retrieve_frames>{json.dumps(wanted)}</retrieve_frames>"
        text = env.step(reply)[0]
        assert "hana holds a grey drum" in text
        text = env.step(reply.replace("120", "1200"))[0]
        assert "from 0 to 960 s" in text
        assert "last round" in text
        assert env.step(reply)[3]


@settings(max_examples=300, deadline=None)
@given(st.text() | st.from_regex(r"(<tool_call>.{0,40}</tool_call>|</?answer>|<think>){1,4}"))
def test_hermes_reads_any_text(text):
    parsed = HERMES.protocol.parse(text, 5)
    assert isinstance(parsed.outcome, Action | Malformed)
    HERMES.protocol.complete(text)
    assert "<tool_call>" not in HERMES.protocol.neutralise(text)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from(["so", None]))
def test_hermes_writes_what_it_reads(start, end, reasoning):
    protocol = HERMES.protocol
    arguments = {"start_time": start, "end_time": end, "video_path": "video"}
    written = protocol.write(Action("crop_video", None, arguments), reasoning)
    assert protocol.complete(written)
    outcome = protocol.parse(written, 5).outcome
    assert (outcome.name, dict(outcome.arguments)) == ("crop_video", arguments)
    answer = protocol.write(Action(ANSWER, "a3"), reasoning)
    assert protocol.parse(answer, 5).outcome == Action(ANSWER, "a3")


@given(st.text())
def test_continuation_reads_any_text(text):
    protocol = RELEASED.protocol
    parsed = protocol.parse(text, 5)
    assert protocol.complete(text) or isinstance(parsed.outcome, Malformed)
    assert protocol.cut(text) in text


def test_continuation_takes_the_first_closed_tag_in_its_order():
    protocol = RELEASED.protocol
    text = "<reasoning>a <search>who</search></reasoning><answer>a1</answer> more"
    assert protocol.parse(text, 5).outcome.name == "look"
    assert protocol.cut(text) == "<reasoning>a <search>who</search>"
    assert isinstance(protocol.parse("<request_grounding>", 5).outcome, Malformed)


HERMES = Game.from_config(EnvConfig(game="longvt"))
RELEASED = Game.from_config(EnvConfig(game="longvideoagent-released"))
