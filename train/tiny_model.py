"""Make a tiny model with random weights, for tests and trials on a CPU.

    python -m train.tiny_model --out runs/tiny-model

The model is a two-layer Qwen2 with its own byte-level tokenizer, trained on text of the package. It
knows nothing, but it loads wherever Qwen2 loads. Each tag of the game is one token, so even random
replies are sometimes valid actions. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agents.policies.starter import resolve_model
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.config import TAG_SET_NAMES, EnvConfig
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import InputError, MissingExtraError
from longvideo_env.game.game import Game, default_game
from longvideo_env.game.protocol.base import Malformed, MalformedKind, option_label

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen2ForCausalLM

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
N_BPE_TOKENS = 1024  # enough for every word of the procedural world to be one token
MAX_POSITIONS = 32_768
HEAD_SIZE = 32  # the least that vLLM's attention on CPUs supports
# About 1 / sqrt(width). With transformers' default of 0.02, models this small and shallow need many
# times as long to learn to look something up in their context.
INITIALIZER_RANGE = 0.1

# ChatML, as in Qwen's templates.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

# The same with tools. It lists only their names, because a tiny model cannot read schemas. Calls
# have the Hermes form, as in Qwen3.
TOOL_TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}"
    "{%- for tool in tools %}{{- tool.function.name + '\\n' }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message.reasoning_content %}"
    "{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}"
    "{{- message['content'] }}"
    "{%- for call in message.tool_calls or [] %}"
    '{{- \'<tool_call>{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{- call.function.arguments | tojson }}{{- '}</tool_call>' }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

N_LABELS = 8
"""Number of option labels in the tiny model's vocabulary."""

_TITLE = "# A tiny model"
_CARD = """{title}

A two-layer Qwen2 ({n_parameters:,} parameters, {n_tokens} tokens, seed {seed}) made by
`train/tiny_model.py`. {origin}
"""
_UNTRAINED = """It was not trained and knows nothing. Use it to test code that needs a
model, never to judge a model. The tokenizer was trained on a synthetic dataset of
`longvideo-env`."""
_TRAINED = "It has the weights of {base}, and random weights for added tokens."


def make_tiny_model(
    out: str | Path,
    *,
    seed: int = 0,
    hidden_size: int = 64,
    dataset: str = "embedded",
    base: str | None = None,
    tokens: Callable[[PreTrainedTokenizerBase], Sequence[str]] | None = None,
    calls: bool = False,
) -> Path:
    """Write a tiny model and its tokenizer into a folder.

    The folder appears complete or not at all. An earlier tiny model in its place is replaced.

    Args:
        out: The folder.
        seed: Seeds the weights. The tokenizer does not depend on it.
        hidden_size: The model's width.
        dataset: The dataset whose `train` split the tokenizer is trained on.
        base: A model to take the weights, width and tokenizer from: a folder, or `mini-starter`.
            Then only the weights of added `tokens` are random.
        tokens: Returns further texts that become one token each, given the tokenizer.
        calls: Whether the chat template supports tools and calls of them.

    Returns:
        The folder.

    Raises:
        MissingExtraError: transformers is not installed.
        InputError: `out` exists and is not a tiny model.
    """
    out = Path(out)
    _check_free(out)
    tokenizer = make_tokenizer(dataset) if base is None else _load_tokenizer(base)
    if calls:
        tokenizer.chat_template = TOOL_TEMPLATE
    _add_tokens(tokenizer, () if tokens is None else tokens(tokenizer))
    model: PreTrainedModel
    if base is None:
        model = make_model(tokenizer, seed=seed, hidden_size=hidden_size)
    else:
        model = _widened(base, len(tokenizer), seed)
    card = _CARD.format(
        title=_TITLE,
        n_parameters=model.num_parameters(),
        n_tokens=len(tokenizer),
        seed=seed,
        origin=_UNTRAINED if base is None else _TRAINED.format(base=Path(base).name),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        whole = Path(scratch, "new")
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        (whole / "README.md").write_text(card, encoding="utf-8")
        if out.exists():
            out.rename(Path(scratch, "old"))
        whole.rename(out)
    return out


def make_tokenizer(dataset: str = "embedded") -> PreTrainedTokenizerBase:
    """Make the tokenizer: byte-level BPE, with every tag and option label as one token.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
        from transformers import Qwen2Tokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "train") from error
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=N_BPE_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(dataset), trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges: list[Any] = [tuple(pair) for pair in trained["merges"]]  # annotated as list[str]
    tokenizer = Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=merges,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[START],
        model_max_length=MAX_POSITIONS,
    )
    _add_tokens(tokenizer, whole_tokens(dataset))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(
    tokenizer: PreTrainedTokenizerBase, *, seed: int = 0, hidden_size: int = 64
) -> Qwen2ForCausalLM:
    """Make the model, in float32 on the CPU.

    Args:
        tokenizer: Gives the number of tokens and the special tokens.
        hidden_size: The model's width. Each head has 32, the least that vLLM on CPUs supports.
        seed: Seeds the weights. Torch's global generator does not change.
    """
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=hidden_size // HEAD_SIZE,
        num_key_value_heads=hidden_size // HEAD_SIZE,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=[end, pad], pad_token_id=pad)
    model.eval()
    return model


def whole_tokens(dataset: str = "embedded") -> list[str]:
    """The tags of every tag set, the option labels, and the ends of the clips' ids.

    A label with the space before it is also one token, as within a sentence. So the label directly
    follows the option's words, without an empty token between them.
    """
    names = ["think"]
    for tag_set in TAG_SET_NAMES:
        protocol = Game.from_config(EnvConfig(tags=tag_set)).protocol
        tags = protocol.tags
        names += [protocol.tag(tool.name) for tool in default_game().tools]
        names += [tags.reasoning, tags.answer, tags.reply, tags.view]
    texts: list[str] = []
    for name in names:
        texts += [f"<{name}>", f"</{name}>"]
    texts += [text for text in default_game().protocol.endings if text.endswith("/>")]
    labels = [option_label(i) for i in range(N_LABELS)]
    texts += labels + [f" {label}" for label in labels]
    videos = load_dataset(dataset, "train").videos.values()
    texts += sorted({c.removeprefix(video.video_id) for video in videos for c in video.clip_ids})
    return list(dict.fromkeys(texts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = OptionParser("longvideo-env tiny-model", "Write a tiny model with random weights.")
    parser.add_argument("--out", default="runs/tiny-model", help="folder")
    parser.add_argument("--seed", type=int, default=0, help="seeds the weights")
    options = parser.parse_args(arguments)
    return run_command("tiny-model", lambda: print(make_tiny_model(options.out, seed=options.seed)))


def _add_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])


def _load_tokenizer(base: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(resolve_model(base))
    return loaded


def _widened(base: str, n_tokens: int, seed: int) -> PreTrainedModel:
    """A model with room for more tokens. Torch's global generator does not change."""
    import torch
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        resolve_model(base), dtype=torch.float32
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.resize_token_embeddings(n_tokens, mean_resizing=False)
    return model


def _check_free(out: Path) -> None:
    if not out.exists():
        return
    card = out / "README.md"
    if not card.is_file() or not card.read_text(encoding="utf-8").startswith(_TITLE):
        raise InputError(
            f"{out} exists and is not a tiny model. Fix: name another folder, or remove it."
        )


def _corpus(name: str) -> Iterator[str]:
    """All texts of a dataset, and the prompts around them."""
    dataset = load_dataset(name, "train")
    for tags in TAG_SET_NAMES:
        game = Game.from_config(EnvConfig(tags=tags))
        yield game.rules_text(N_LABELS)
        problem = Malformed(MalformedKind.NO_ACTION)
        yield game.malformed_text(problem, game.max_turns, N_LABELS)
        for task in dataset.tasks:
            video = dataset.video(task)
            yield game.opening_text(task.question, video, video.clip_ids[:1])
    for video in dataset.videos.values():
        for clip in video.clips:
            yield from (line.text for line in (*clip.subtitles, *clip.captions))


if __name__ == "__main__":
    sys.exit(main())
