"""The protocol of the released checkpoints: one long reply, token for token."""

import dataclasses
from pathlib import Path

import pytest

from agents.generation.chat import ChatCodec
from agents.generation.settings import GenerationSettings
from agents.policies.build import DEFAULT_GAME, RELEASED, game_of
from eval.runs.run_options import build_parser, read_options, settings_of
from longvideo_env import EnvConfig, RolloutEngine, load_dataset
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.policy import Reply
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
CONFIG = EnvConfig(dataset="embedded", split="val", game=RELEASED)
FAMILIES = {
    "qwen2_5": (
        "Qwen2Config",
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    ),
    "qwen3": ("Qwen3Config", ""),
}


@pytest.fixture(scope="module")
def tiny(tiny_path, tmp_path_factory):
    """A tiny random model of a family, with the family's real chat template."""

    def make(family):
        folder = tmp_path_factory.mktemp(family)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_path)
        tokenizer.chat_template = (TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8")
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        config = getattr(transformers, FAMILIES[family][0])(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=4096,
            eos_token_id=tokenizer.eos_token_id,
        )
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return folder

    return make


class Dictated:
    """A policy that writes given text in a model's tokens."""

    def __init__(self, codec, replies):
        self.codec, self._replies = codec, iter(replies)

    async def act(self, context, /):
        ids = self.codec.encode(next(self._replies))
        reply = Reply(self.codec.decode(ids), ids, tuple([-1.0] * len(ids)))
        return self.codec.cut(reply)

    async def aclose(self):
        pass


def engine(policy, config=CONFIG):
    dataset = load_dataset(config.dataset, config.split)
    toolbox = build_toolbox(config, dataset)
    return RolloutEngine(
        dataset=dataset, config=config, toolbox=toolbox, policy=policy, policy_spec="test"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_token_for_token_as_written_by_hand(family, tiny):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny(family))
    replies = [
        "\n<reasoning>Where?</reasoning>\n<search>who is there</search>\n and more",
        "no action at all<|im_end|>",
        "<request_grounding></request_grounding>",
        "<reasoning>So.</reasoning><answer>a1</answer><|im_end|>",
    ]
    playing = engine(Dictated(ChatCodec(tokenizer), replies))
    task = playing.dataset.tasks[0]
    episode = run_blocking(playing.play(task))
    assert episode.status == "answered"
    assert [turn.action for turn in episode.turns] == ["look", None, "ground", "answer"]

    said = [
        "<reasoning>Where?</reasoning>\n<search>who is there</search>",
        "no action at all",
        "<request_grounding></request_grounding>",
        "<reasoning>So.</reasoning><answer>a1</answer>",
    ]
    look, ground = episode.turns[0].result, episode.turns[2].result
    video = playing.dataset.video(task)
    lines = " <eos> ".join(line.text for line in video[ground["view"]].subtitles)
    heard = [
        "\n<information>Bounding BOX:\n{}\nVisual Description:\n"
        + look["text"]
        + "</information>\n",
        "\nThat was no action. I write <search>, write <request_grounding>, or <answer>.\n",
        f"\n<New_clip>{ground['view']} + {lines}</New_clip>\n",
    ]
    user = episode.segments[0].text.partition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
    system = FAMILIES[family][1]
    by_hand = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    by_hand += f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    assert episode.segments[0].text == by_hand
    ids = list(tokenizer.encode(by_hand, add_special_tokens=False))
    for text, back in zip(said, [*heard, "<|im_end|>"], strict=True):
        ids += tokenizer.encode(text, add_special_tokens=False)
        ids += tokenizer.encode(back, add_special_tokens=False)
    assert [i for segment in episode.segments for i in segment.token_ids] == ids
    assert user.count("<information>subtitles:") == 1
    assert [s.text for s in episode.segments if s.sampled] == said


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_random_model_plays(family, tiny):
    from agents.generation.hf import HFPolicy

    settings = GenerationSettings(max_turn_tokens=12, temperature=0.6)
    playing = engine(HFPolicy(tiny(family), settings))
    episode = run_blocking(playing.play(playing.dataset.tasks[0]))
    assert episode.status in ("answered", "out_of_turns")
    codec = playing.policy.codec
    for segment in episode.segments:
        assert codec.decode(segment.token_ids) == segment.text
    # The template's turns are around the whole reply, not inside it.
    inside = "".join(segment.text for segment in episode.segments[1:-1])
    assert "<|im_start|>" not in inside
    run_blocking(playing.policy.aclose())


def test_what_is_whole_keeps_its_tokens_and_log_probs(tiny):
    codec = ChatCodec(transformers.AutoTokenizer.from_pretrained(tiny("qwen2_5")))
    codec.protocol = Game.from_config(CONFIG).protocol
    ids = codec.encode("<answer>a1</answer><|im_end|>")
    whole = Reply("", ids, tuple(float(-i) for i in range(len(ids))))
    cut = codec.cut(whole)
    assert (cut.token_ids, cut.logprobs) == (ids[:-1], whole.logprobs[:-1])
    blank = dataclasses.replace(whole, token_ids=codec.encode("\n<answer>a1</answer>"))
    assert codec.cut(blank).logprobs is None
    assert codec.cut(blank).token_ids == ids[:-1]


def test_released_checkpoints_pick_their_game_and_sampling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for size in ("3b", "7b"):
        folder = tmp_path / f"longvideoagent/longvideoagent-qwen2.5-{size}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    assert game_of(["hf:longvideoagent/longvideoagent-qwen2.5-7b"]) == RELEASED
    assert game_of(["random", "hf:some/model"]) == DEFAULT_GAME
    with pytest.raises(SpecError, match="Fix: evaluate them separately"):
        game_of(["random", "hf:longvideoagent/longvideoagent-qwen2.5-3b"])
    args = ["--policy", "hf:longvideoagent/longvideoagent-qwen2.5-3b", "--dataset", "embedded"]

    def read(*more):
        return read_options(vars(build_parser("x", "", several=True).parse_args([*args, *more])))

    _, config, settings = read()
    assert config.game == RELEASED
    assert (settings.temperature, settings.max_turn_tokens) == (0.6, 3172)
    assert settings.max_context_tokens == 60_000
    assert read("--temperature", "0")[2].temperature == 0
    _, config, settings = read("--game", "longvideoagent")
    assert (config.game, settings) == (DEFAULT_GAME, GenerationSettings())
    assert settings_of(DEFAULT_GAME, {}) == GenerationSettings()


def test_a_reply_that_was_encoded_anew_is_not_trained_without_log_probs():
    from longvideo_env.records.trajectory import Segment, Trajectory
    from train.rollouts.columns import to_rows

    segments = (
        Segment("prompt", "?", token_ids=(1,)),
        Segment("assistant", "a", sampled=True, turn=1, token_ids=(2, 3), logprobs=(-1.0, -2.0)),
        Segment("user", "b", turn=1, token_ids=(4,)),
        Segment("assistant", "c", sampled=True, turn=2, token_ids=(5,)),
    )
    played = Trajectory("q", "v", "p", 0, 0, "answered", 5, (), segments, reward=1.0)
    for logprobs, mask in ((True, [1, 1, 0, 0]), (False, [1, 1, 0, 1])):
        assert to_rows([played], [], 9, logprobs=logprobs)["env_mask"] == [mask]
