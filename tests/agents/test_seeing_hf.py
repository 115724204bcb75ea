"""Vision masters with transformers: tiny random Qwen2.5-VL and Qwen3-VL, else real."""

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("trl")
pytest.importorskip("PIL")
sys.path.insert(0, str(Path(__file__).parent / "perception"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from seen_world import make_seen_world
from tiny_vlm import make_tiny_vlm

import longvideo_env as lv
from agents.generation.batches import generate_batch
from agents.generation.pictures import opened
from agents.generation.seeing_codec import SeeingCodec, takes_images
from agents.generation.settings import GenerationSettings
from agents.policies.build import build_policy
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.policy import let_see
from longvideo_env.media.frames import list_frames
from longvideo_env.schema import FrameRef

pytestmark = pytest.mark.slow

KINDS = ("qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_seen_world(tmp_path_factory.mktemp("seen") / "world")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("vlm")
    return {kind: make_tiny_vlm(folder / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module", params=KINDS)
def played(
    request: Any, world: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A model and its run."""
    model = models[request.param]
    return model, lv.evaluate(
        f"hf:{model}", dataset=str(world), split="test", limit=2, frames=3, resolution=112,
        max_turns=3, out=tmp_path_factory.mktemp("run"), progress=False,
        generation={"max_turn_tokens": 12, "temperature": 1.0},
    )  # fmt: skip


def found(world: Path, episode: Any) -> Any:
    """The video of an episode, with its frames."""
    return lv.load_dataset(str(world), "test").videos[episode.video_id]


def with_path(video: Any, frame: FrameRef) -> FrameRef:
    there = {f.frame_index: f.path for f in list_frames(video, frame.clip_id)}
    return FrameRef(frame.clip_id, frame.frame_index, frame.time_s, there[frame.frame_index])


def test_an_episode_is_token_for_token_what_the_real_processor_makes_of_it(
    played: tuple[Path, Any], world: Path
) -> None:
    model, run = played
    for episode in run.episodes:
        assert episode.status == "out_of_turns"
        assert episode.frames["shown"] >= 3
        codec = SeeingCodec.of(str(model))
        frames = [with_path(found(world, episode), f) for s in episode.segments for f in s.frames]
        images = [opened(f.path, 112) for f in frames if f.path is not None]
        # Sampled ids are used unchanged. The same text may have other ids.
        whole = [i for s in episode.segments for i in s.token_ids]
        rendered = "".join(s.text for s in episode.segments if not s.sampled)
        expected = codec.processor(text=[rendered], images=images, add_special_tokens=False)
        assert [i for s in episode.segments if not s.sampled for i in s.token_ids] == list(
            expected["input_ids"][0]
        )
        assert whole.count(codec.image_id) == sum(
            int(grid.prod()) // 4 for grid in expected["image_grid_thw"]
        )
        assert not set(codec.unsayable) & {
            i for s in episode.segments if s.sampled for i in s.token_ids
        }


def test_the_first_prompt_is_the_templates_own(played: tuple[Path, Any], world: Path) -> None:
    model, run = played
    episode = run.episodes[0]
    first = episode.segments[0]
    codec = SeeingCodec.of(str(model))
    config = lv.EnvConfig(dataset=str(world), split="test", frames=3, max_turns=3)
    rules = str(Game.from_config(config).rules_text(episode.n_options))
    said = first.text.rpartition("user\n")[2].partition("<|vision_start|>")[0]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": rules}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": said}, *({"type": "image"} for _ in range(3))],
        },
    ]
    text = codec.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == first.text


def test_the_log_probs_are_those_of_the_model_that_sees(
    played: tuple[Path, Any], world: Path
) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    path, run = played
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()
    codec = SeeingCodec.of(str(path))
    codec.resolution = 112
    episode = run.episodes[0]
    frames = [with_path(found(world, episode), f) for s in episode.segments for f in s.frames]
    ids = torch.tensor([[i for s in episode.segments for i in s.token_ids]])
    with torch.no_grad():
        pictures = codec.pictures(frames)
        seen = model(input_ids=ids, **pictures, **codec.token_types(ids)).logits[0]
        blank = {"pixel_values": torch.zeros_like(pictures["pixel_values"])}
        dark = model(input_ids=ids, **pictures | blank, **codec.token_types(ids)).logits[0]
    place = 0
    for segment in episode.segments:
        for i, token in enumerate(segment.token_ids):
            place += 1
            if not segment.sampled:
                continue
            expected = seen[place - 2].log_softmax(-1)[token].item()
            assert segment.logprobs[i] == pytest.approx(expected, abs=2e-3)
    assert (seen[-5:] - dark[-5:]).abs().max() > 1e-3  # the pictures count


def test_a_batch_says_what_each_says_alone(models: dict[str, Path], world: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    path = models["qwen2_5_vl"]
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()
    codec = SeeingCodec.of(str(path))
    codec.resolution = 112
    video = next(iter(lv.load_dataset(str(world), "test").videos.values()))
    prompts, frames = [], []
    for n in (1, 0, 3):
        there = list_frames(video, video.clip_ids[n])[:n]
        shown = tuple(FrameRef(video.clip_ids[n], f.frame_index, f.time_s, f.path) for f in there)
        message: Any = {"role": "user", "content": f"what is {n} ?", "frames": shown}
        prompts.append(codec.open([message])[0].token_ids or ())
        frames.append(shown)
    settings = GenerationSettings(max_turn_tokens=8, temperature=1.0)
    together = generate_batch(model, codec, prompts, [1, 2, 3], settings, frames=frames)
    for i, one in enumerate(together):
        (alone,) = generate_batch(model, codec, [prompts[i]], [i + 1], settings, frames=[frames[i]])
        assert alone.token_ids == one.token_ids


def test_calls_show_frames_where_the_template_has_them(
    models: dict[str, Path], world: Path, tmp_path: Path
) -> None:
    options: Any = {"dataset": str(world), "split": "test", "limit": 1, "frames": 2}
    options |= {"protocol": "functions", "progress": False, "generation": {"max_turn_tokens": 8}}
    run = lv.evaluate(f"hf:{models['qwen3_vl']}", out=tmp_path, **options)
    assert run.episodes[0].frames["shown"] == 2
    codec = SeeingCodec.of(str(models["qwen3_vl"]))
    codec.protocol = Game.from_config(lv.EnvConfig(protocol="functions")).protocol
    video = found(world, run.episodes[0])
    shown = (with_path(video, run.episodes[0].segments[0].frames[0]),)
    result: Any = {"role": "tool", "content": "seen", "tool_call_id": "0", "name": "look"}
    (segment,) = codec.answer([result | {"frames": shown}], 1)
    assert segment.frames == shown
    assert (segment.token_ids or ()).count(codec.image_id) >= 4
    with pytest.raises(SpecError, match="does not support tools"):
        lv.evaluate(f"hf:{models['qwen2_5_vl']}", out=tmp_path / "no", **options)


def test_a_text_model_is_refused_and_a_seeing_one_may_read(
    tiny_path: Path, models: dict[str, Path], world: Path, tmp_path: Path
) -> None:
    assert not takes_images(str(tiny_path))
    options: Any = {"dataset": str(world), "split": "test", "limit": 1, "progress": False}
    with pytest.raises(SpecError, match="cannot be shown frames"):
        lv.evaluate(f"hf:{tiny_path}", frames=2, out=tmp_path / "no", **options)
    policy = build_policy(f"hf:{tiny_path}")
    with pytest.raises(SpecError, match="takes no images"):
        let_see(policy, "hf:tiny", 100)
    model = models["qwen2_5_vl"]
    run = lv.evaluate(f"hf:{model}", out=tmp_path, generation={"max_turn_tokens": 8}, **options)
    assert run.episodes[0].status == "out_of_turns"
    assert run.episodes[0].frames == {}
