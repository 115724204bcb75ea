"""The tiny model loads like any other. The same seed gives the same bytes. No partial folder."""

import hashlib
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longvideo_env.errors import SpecError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from train import tiny_model  # noqa: E402 - needs transformers
from train.tiny_model import main, make_model, make_tiny_model, make_tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    again = digests(make_tiny_model(tmp_path / "again"))
    other = digests(make_tiny_model(tmp_path / "other", seed=1))
    assert again == digests(folder)
    assert other.pop("model.safetensors") != again.pop("model.safetensors")
    assert other.pop("README.md") != again.pop("README.md")
    assert other == again


def test_torchs_own_generator_is_left_alone(tokenizer):
    before = torch.get_rng_state()
    make_model(tokenizer, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_loads_as_what_it_is(folder, tokenizer):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert isinstance(model, transformers.Qwen2ForCausalLM)
    assert model.config.vocab_size == len(loaded) == len(tokenizer) <= 1100
    assert model.config.hidden_size // model.config.num_attention_heads >= 32
    assert model.config.num_hidden_layers == 2
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert model.generation_config.eos_token_id == [loaded.eos_token_id, loaded.pad_token_id]
    assert model.generation_config.pad_token_id == loaded.pad_token_id
    assert loaded.chat_template == tokenizer.chat_template
    text = "<|im_start|>user\nWho opens the door?<|im_end|>\n"
    assert loaded.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    "text",
    [
        *("<search>", "</search>", "<visual_query>", "</visual_query>", "<answer>", "</answer>"),
        *("<request_grounding>", "</request_grounding>", "<request_grounding/>"),
        *("<reasoning>", "</reasoning>", "<think>", "</think>", "<information>", "</New_clip>"),
        *("a0", "a7", "<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    ],
)
def test_tags_and_labels_are_whole_tokens(tokenizer, text):
    assert len(tokenizer.encode(text)) == 1
    assert tokenizer.decode(tokenizer.encode(f"x {text} y")) == f"x {text} y"


def test_tags_are_text_and_chat_tokens_are_not(tokenizer):
    text = "<|im_start|><answer>a1</answer><|im_end|><|endoftext|>"
    visible = tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True)
    assert visible == "<answer>a1</answer>"


@settings(max_examples=100)
@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):
    text = unicodedata.normalize("NFC", text)  # as Qwen2's tokenizer does
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_earlier_one_is_replaced(tmp_path):
    out = make_tiny_model(tmp_path / "tiny")
    (out / "stale").touch()
    first = digests(out)
    assert make_tiny_model(out, seed=1) == out
    assert not (out / "stale").exists()
    assert digests(out)["model.safetensors"] != first["model.safetensors"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("# My thesis\n")
    with pytest.raises(SpecError, match="is not a tiny model"):
        make_tiny_model(tmp_path)
    with pytest.raises(SpecError, match="is not a tiny model"):
        make_tiny_model(tmp_path / "README.md")
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


def test_a_crash_leaves_nothing_behind(tmp_path, monkeypatch, tokenizer):
    def crash(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(type(tokenizer), "save_pretrained", crash)
    with pytest.raises(OSError, match="disk full"):
        make_tiny_model(tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_where_it_is(tmp_path, capsys):
    main(["--out", str(tmp_path / "made" / "here"), "--seed", "2"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "made" / "here")
    card = (tmp_path / "made" / "here" / "README.md").read_text()
    assert card.startswith(tiny_model._TITLE)
    assert "seed 2" in card
