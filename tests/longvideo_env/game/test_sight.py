"""The frames for a vision master: references, chosen without a network or a model."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

pytest.importorskip("PIL")
sys.path.insert(0, str(Path(__file__).parents[2]))

from seen_world import make_seen_world

import longvideo_env as lv
from longvideo_env import EnvConfig, load_dataset
from longvideo_env.drivers.rollout import open_episode
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.sight import look_at
from longvideo_env.game.words.templates import SEEING
from longvideo_env.integrations.calling import CallStage
from longvideo_env.media.frames import list_frames
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.schema import FrameRef

GAMES = ("longvideoagent", "longvt", "dvd", "dvd-lite", "videoagent")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_seen_world(tmp_path_factory.mktemp("seen") / "world")


@pytest.mark.slow
def test_frames_are_spread_over_clips_and_over_stretches(world: Path) -> None:
    video = next(iter(load_dataset(str(world), "test").videos.values()))
    first, second = video.clip_ids[:2]
    sight = look_at(video, (first, second), (), 4)
    assert [(f.clip_id, f.frame_index) for f in sight.frames] == [
        (first, 1), (first, 121), (second, 31), (second, 151)
    ]  # fmt: skip
    assert (sight.there, sight.unreadable) == (12, 0)
    start, end = video.clip_times(second)
    inside = look_at(video, (), ((start, end),), 99)
    assert [f.clip_id for f in inside.frames] == [second] * 6
    assert look_at(video, (), ((start + 11, start + 12),), 9).frames[0].frame_index == 31


def test_a_file_that_is_no_image_is_passed_over_and_counted(world: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(world, tmp_path / "world")
    video = next(iter(load_dataset(str(copy), "test").videos.values()))
    clip_id = video.clip_ids[0]
    list_frames(video, clip_id)[0].path.write_bytes(b"no image")
    sight = look_at(video, (clip_id,), (), 2)
    assert [f.frame_index for f in sight.frames] == [31, 151]
    assert sight.unreadable == 1


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("protocol", ["tags", "functions", "hermes"])
def test_the_rules_of_no_game_say_that_the_master_cannot_see(game: str, protocol: str) -> None:
    options = {"game": game, "protocol": protocol}
    blind = Game.from_config(EnvConfig.from_mapping(options)).rules_text(5)
    seeing = Game.from_config(EnvConfig.from_mapping(options | {"frames": 4})).rules_text(5)
    assert "cannot see" in blind
    assert "cannot see" not in seeing
    assert "frames" in seeing


def test_other_labels_are_asked_for_with_frames_too() -> None:
    config = EnvConfig(labels="letters", frames=2)
    rules = Game.from_config(config).rules_text(5)
    assert "<answer>A</answer>" in rules
    assert "cannot see" not in rules
    assert all(len(told) > 20 for told in SEEING.values())


def see(messages: list[dict[str, Any]], frames: list[list[FrameRef]]) -> str:
    """Asks for another clip, then answers. Records the frames that it saw."""
    said = sum(message["role"] == "assistant" for message in messages)
    assert [bool(shown) for shown in frames] == [m["role"] == "user" for m in messages]
    assert all("frames" not in message for message in messages)
    paths = [frame.path for shown in frames for frame in shown]
    assert all(path is not None and path.is_file() for path in paths)
    thought = f"<reasoning>{len(paths)} frames</reasoning>"
    return thought + ("<answer>a0</answer>" if said else "<request_grounding></request_grounding>")


def read(messages: list[dict[str, Any]]) -> str:
    """Reads."""
    return "<answer>a0</answer>"


def test_a_function_sees_and_the_record_holds_references(world: Path, tmp_path: Path) -> None:
    result = lv.evaluate(
        see, dataset=str(world), split="test", limit=3, frames=3, out=tmp_path / "run",
        progress=False,
    )  # fmt: skip
    for episode in result.episodes:
        assert episode.frames == {"shown": 6, "unreadable": 0, "views_without": 0}
        shown = [s for s in episode.segments if s.frames]
        assert [(s.role, s.turn, len(s.frames)) for s in shown] == [("user", 0, 3), ("user", 1, 3)]
        assert "3 of the 6 frames" in shown[0].text
        assert shown[1].frames[0].clip_id == episode.visited[1]
        replies = [s.text for s in episode.segments if s.sampled]
        assert "3 frames" in replies[0]
        assert "6 frames" in replies[1]
    text = (result.folder / "episodes.jsonl").read_text()
    assert str(world) not in text
    assert '"frames":[["' in text
    line = text.splitlines()[0]
    assert json.loads(Trajectory.from_json(line).to_json()) == json.loads(line)
    assert result.summary["frames"]["shown"] == 18
    config = json.loads((result.folder / "config.json").read_text())
    assert (config["frames"], config["identity"].get("frames") is not None) == (3, True)


@pytest.mark.parametrize(
    "policy", ["random", "scripted:ground-answer", "teacher:mini", read, f"{__name__}:read"]
)
def test_who_reads_is_refused_before_anything_is_played(
    policy: Any, world: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="cannot be shown frames"):
        lv.evaluate(policy, dataset=str(world), split="test", frames=2, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_world_without_frames_is_named(tmp_path: Path) -> None:
    with pytest.raises(lv.LongVideoEnvError, match="which --frames 2 shows"):
        lv.evaluate(see, dataset="mini", split="test", limit=2, frames=2, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"frames": -1}, "frames must be 0 or more"),
        ({"frames": 1, "resolution": 0}, "at least 1 pixel"),
        ({"vision": "self"}, "vision=self needs frames"),
        ({"frames": 1, "protocol": "continuation"}, "cannot be shown frames"),
    ],
)
def test_options_without_meaning_are_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        EnvConfig.from_mapping(options)


def test_doors_that_show_text_refuse_frames() -> None:
    with pytest.raises(SpecError, match="function calls reads text"):
        CallStage(EnvConfig(frames=1))


def test_longvt_shows_the_whole_film_and_then_what_is_cropped(world: Path) -> None:
    config = EnvConfig.from_mapping(
        {"dataset": str(world), "split": "test", "game": "longvt", "vision": "self", "frames": 4}
    )
    dataset = load_dataset(str(world), "test")
    from longvideo_env.tools.registry import build_toolbox

    toolbox, game = build_toolbox(config, dataset), Game.from_config(config)
    episode = open_episode(dataset.tasks[0], dataset, game).episode
    call = episode.start()
    assert call is not None
    opening = episode.receive(toolbox.call_blocking(call))
    clips = [frame.clip_id for frame in opening.frames]  # type: ignore[union-attr]
    assert len(set(clips)) == 4
    assert clips[0] == episode.video.clip_ids[0]
    assert clips[-1] == episode.video.clip_ids[-1]
    crop = '<tool_call>{"name": "crop_video", "arguments": {"start_time": 90, "end_time": 105}}'
    call = episode.reply(f"<think>look</think>{crop}</tool_call>")
    seen = episode.receive(toolbox.call_blocking(call))  # type: ignore[arg-type]
    assert [f.frame_index for f in seen.frames] == [1, 31]  # type: ignore[union-attr]
    assert "2 of the 2 frames" in seen.text  # type: ignore[union-attr]
    assert "01:30, 01:40" in seen.text  # type: ignore[union-attr]


def test_the_env_hands_frames_over(world: Path) -> None:
    env = gym.make("LongTVQA-v0", dataset=str(world), split="test", frames=2).unwrapped
    text, info = env.reset(seed=0)
    assert [len(frames) for frames in info["frames"]] == [0, 2]
    assert "2 of the 6 frames" in text
    *_, info = env.step("<request_grounding></request_grounding>")
    assert [len(frames) for frames in info["frames"]] == [0, 2, 0, 2]
    *_, info = env.step("no action")
    assert [len(frames) for frames in info["frames"]][-1] == 0
    assert "frames" not in gym.make("LongTVQA-v0", dataset="mini").reset(seed=0)[1]
