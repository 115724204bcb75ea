"""TRL's chat templates: in each, the text that opens a reply is found."""

from pathlib import Path

import pytest

from agents.generation.chat import ChatCodec
from agents.policies.starter import resolve_model
from longvideo_env.errors import SpecError

trl = pytest.importorskip("trl")
transformers = pytest.importorskip("transformers")
TEMPLATES = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_what_opens_a_reply_belongs_to_it(path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(resolve_model("mini-starter"))
    tokenizer.chat_template = path.read_text(encoding="utf-8")
    if tokenizer.bos_token is None:
        tokenizer.bos_token = tokenizer.eos_token
    try:
        codec = ChatCodec(tokenizer)
    except SpecError as error:
        pytest.skip(f"refused: {error}")
    prompt = codec.open([{"role": "user", "content": "who ?"}])[0].text
    opened = prompt.rstrip().endswith(("<think>", "<|channel>thought"))
    assert bool(codec.reply_prefix) == opened
    if opened:
        assert prompt.endswith(codec.reply_prefix)
        assert not codec.protocol.complete(codec.reply_prefix + "maybe <answer>a0</answer>")
