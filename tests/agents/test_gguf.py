"""A GGUF file works like any other model."""

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from agents.generation.gguf_file import gguf_folder
from agents.generation.hf import load_model
from agents.policies.starter import STARTER, resolve_model
from longvideo_env.errors import SpecError
from train.tiny_model import CHAT_TEMPLATE

WIDTH, LAYERS, SPECIAL = 32, 1, ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGVIDEO_ENV_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A one-layer llama in float32. Its padding token is its end-of-turn token, as in SmolLM2."""
    words = json.loads(Path(resolve_model(STARTER), "tokenizer.json").read_text())
    ids = words["model"]["vocab"] | {
        token["content"]: token["id"] for token in words["added_tokens"]
    }
    vocab = sorted(ids, key=lambda word: ids[word])
    path = tmp_path / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(vocab))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocab)
    writer.add_token_types([3 if word in SPECIAL else 1 for word in vocab])
    writer.add_token_merges([" ".join(pair) for pair in words["model"]["merges"]])
    writer.add_bos_token_id(ids[SPECIAL[1]])
    writer.add_eos_token_id(ids[SPECIAL[2]])
    writer.add_unk_token_id(ids[SPECIAL[0]])
    writer.add_pad_token_id(ids[SPECIAL[2]])
    writer.add_chat_template(CHAT_TEMPLATE)
    rng = np.random.default_rng(0)
    layer = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
    layer |= dict.fromkeys(
        ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"),
        (WIDTH, WIDTH),
    )
    shapes = {"token_embd.weight": (len(vocab), WIDTH), "output_norm.weight": (WIDTH,)}
    shapes |= {f"blk.0.{name}.weight": shape for name, shape in layer.items()}
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_it_is_converted_once_and_loads_as_it_says(file: Path) -> None:
    folder = gguf_folder(file)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(str(file)) == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made

    model, codec = load_model(file)
    tokenizer = codec.tokenizer
    assert (tokenizer.eos_token, tokenizer.bos_token) == ("<|im_end|>", "<|im_start|>")
    assert tokenizer.pad_token == "<|endoftext|>"  # the file's is the end of a turn
    assert codec.end_of_turn_id == tokenizer.eos_token_id == model.config.eos_token_id
    embedded = model.get_input_embeddings().weight[5].detach().numpy()
    rng = np.random.default_rng(0)
    first = rng.normal(size=(len(tokenizer), WIDTH)).astype(np.float32)
    np.testing.assert_allclose(embedded, first[5], rtol=2**-7)  # bfloat16


def test_it_can_be_trained(file: Path, tmp_path: Path) -> None:
    from train.options.grpo_options import parse

    *_, model = parse(["--model_name_or_path", str(file), "--output_dir", str(tmp_path / "out")])
    assert model.model_name_or_path == str(gguf_folder(file))


@pytest.mark.parametrize("content", [None, b"", b"GGUF\x03\x00\x00\x00 and no more", b"text"])
def test_what_is_no_model_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=r"bad\.gguf") as caught:
        load_model(path)
    assert "Fix:" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/gguf-*/config.json"))
