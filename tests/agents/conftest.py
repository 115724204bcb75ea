"""A tiny model, made once: its folder, and the loaded tokenizer, model and codec."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory) -> Path:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from train.tiny_model import make_tiny_model

    torch.set_num_threads(1)  # on a busy machine, threads that share so little work only wait
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tokenizer(tiny_path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_path)


@pytest.fixture(scope="session")
def codec(tokenizer):
    from agents.generation.chat import ChatCodec

    return ChatCodec(tokenizer)


@pytest.fixture
def model(tiny_path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_path)
