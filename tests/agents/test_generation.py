"""The shared generation: sampling, records and stops."""

import contextlib
import copy

import pytest

from longvideo_env.errors import PolicyError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from agents.generation.batches import GenerationSettings, generate_batch, to_reply  # noqa: E402
from agents.generation.chat import ChatCodec  # noqa: E402 - these need torch

LENGTHS = (40, 7, 23, 1)


@pytest.fixture
def prompts(codec):
    text = "Question: who sits on the railing when Inka says good morning to the lamp? " * 3
    ids = codec.encode(text)
    return [ids[:length] for length in LENGTHS]


@pytest.fixture
def thinking_codec(tokenizer):
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = tokenizer.chat_template.replace(
        "assistant\\n' }}", "assistant\\n<think>\\n' }}"
    )
    return ChatCodec(changed)


@contextlib.contextmanager
def scripted(model, *rows):
    """Make the model write these token ids, one list per row, and then only `x`."""
    step = 0

    def rewrite(_module, _arguments, output):
        nonlocal step
        output.logits[:, -1] = -30.0
        for row, ids in enumerate(rows):
            output.logits[row, -1, ids[step] if step < len(ids) else 87] = 30.0
        step += 1

    handle = model.register_forward_hook(rewrite)
    try:
        yield
    finally:
        handle.remove()


def tokens_of(rows):
    return [(row.token_ids, row.finish) for row in rows]


def logits_of(model, prompt, token_ids):
    """Logits from which each token was drawn. Shape: (tokens, vocabulary)."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *token_ids]])).logits[0]
    return logits[len(prompt) - 1 : -1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (20, 0.8)])
def test_logprobs_are_those_at_the_sampling_temperature(
    model, codec, prompts, temperature, top_k, top_p
):
    settings = GenerationSettings(24, temperature, top_p, top_k)
    for prompt, row in zip(
        prompts, generate_batch(model, codec, prompts, range(4), settings), strict=True
    ):
        logits = logits_of(model, prompt, row.token_ids) / temperature
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(row.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(row.logprobs), expected, atol=1e-4, rtol=0)


def test_greedy_takes_the_likeliest_and_records_at_temperature_1(model, codec, prompts):
    for prompt, row in zip(
        prompts,
        generate_batch(model, codec, prompts, range(4), GenerationSettings(12)),
        strict=True,
    ):
        logprobs, tokens = logits_of(model, prompt, row.token_ids).log_softmax(-1).max(-1)
        assert row.token_ids == tuple(tokens.tolist())
        torch.testing.assert_close(torch.tensor(row.logprobs), logprobs, atol=1e-4, rtol=0)


def test_a_row_does_not_depend_on_its_batch(model, codec, prompts):
    settings = GenerationSettings(32, temperature=1.0)
    seeds = [5, 6, 5, 7]
    together = generate_batch(model, codec, prompts, seeds, settings)
    for prompt, seed, row in zip(prompts, seeds, together, strict=True):
        (alone,) = generate_batch(model, codec, [prompt], [seed], settings)
        assert alone.token_ids == row.token_ids
        assert alone.finish == row.finish


def test_seeds_decide(model, codec, prompts):
    settings = GenerationSettings(16, temperature=1.0)
    same = generate_batch(model, codec, [prompts[0]] * 2, [3, 3], settings)
    other = generate_batch(model, codec, [prompts[0]] * 2, [2**63 - 1, 4], settings)
    assert same[0].token_ids == same[1].token_ids
    assert len({row.token_ids for row in (*same, *other)}) == 3


def test_draws_follow_the_distribution(model, codec):
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0])

    def rewrite(_module, _arguments, output):
        output.logits[:, -1] = -torch.inf
        output.logits[:, -1, 10:14] = logits

    n, temperature = 3000, 1.5
    with contextlib.closing(_Hook(model, rewrite)):
        rows = generate_batch(
            model, codec, [[1]] * n, range(n), GenerationSettings(1, temperature=temperature)
        )
    drawn = torch.tensor([row.token_ids[0] - 10 for row in rows]).bincount(minlength=4) / n
    torch.testing.assert_close(drawn, (logits / temperature).softmax(-1), atol=0.03, rtol=0)


class _Hook:
    def __init__(self, model, rewrite):
        self._handle = model.register_forward_hook(rewrite)

    def close(self):
        self._handle.remove()


@pytest.mark.parametrize(("top_k", "top_p"), [(3, 1.0), (0, 0.02), (5, 0.01), (1, 1.0)])
def test_unlikely_tokens_are_not_drawn(model, codec, prompts, top_k, top_p):
    settings = GenerationSettings(16, 2.0, top_p, top_k)
    for prompt, row in zip(
        prompts, generate_batch(model, codec, prompts, range(4), settings), strict=True
    ):
        probabilities = (logits_of(model, prompt, row.token_ids) / 2.0).softmax(-1)
        for distribution, token in zip(probabilities, row.token_ids, strict=True):
            likelier = distribution[distribution > distribution[token]]
            assert top_k == 0 or len(likelier) < top_k
            assert likelier.sum() < top_p


@pytest.mark.parametrize(
    "text",
    [
        "<answer>a1</answer>",
        "<reasoning>I saw <answer>a0</answer></reasoning>\n<search>who</search>",
        "<reasoning>hm</reasoning><request_grounding/>",
        "<ANSWER>a1</ANSWER>",
        "<think>no <search>x</search></think><request_grounding>x</request_grounding>",
    ],
)
def test_stops_where_an_action_closes(model, codec, text):
    ids = codec.encode(text)
    with scripted(model, [*ids, *codec.encode(" and more")]):
        (row,) = generate_batch(model, codec, [[1, 2]], [0], GenerationSettings(100))
    assert (row.token_ids, row.finish) == (ids, "stop")
    assert len(row.logprobs) == len(ids)


@pytest.mark.parametrize(
    "text",
    [
        "<reasoning><answer>a1</answer>",
        "<think><search>x</search>",
        "<answer>a1",
        "a > b",
        "<answer/>",
    ],
)
def test_does_not_stop_without_a_closed_action(model, codec, text):
    ids = codec.encode(text)
    with scripted(model, ids):
        (row,) = generate_batch(model, codec, [[1]], [0], GenerationSettings(len(ids) + 3))
    assert (len(row.token_ids), row.finish) == (len(ids) + 3, "length")


def test_the_templates_reasoning_counts(model, codec, thinking_codec):
    assert thinking_codec.reply_prefix == "<think>\n"
    ids = codec.encode("<answer>a0</answer> no</think><answer>a1</answer>")
    with scripted(model, ids, ids):
        (row, _) = generate_batch(model, thinking_codec, [[1]] * 2, [0, 1], GenerationSettings(99))
    assert (row.token_ids, row.finish) == (ids, "stop")
    reply = to_reply(row, thinking_codec)
    assert (reply.prefix, reply.text) == ("<think>\n", codec.decode(ids))


def test_rows_stop_each_by_itself(model, codec):
    texts = [
        codec.encode("<answer>a1</answer>"),
        (*codec.encode("one two three four five six"), codec.end_of_turn_id),
        (9, codec.tokenizer.pad_token_id),
        (9,) * 30,
    ]
    with scripted(model, *texts):
        rows = generate_batch(model, codec, [[1], [2], [3], [4]], range(4), GenerationSettings(30))
    assert [row.token_ids for row in rows] == texts
    assert [row.finish for row in rows] == ["stop", "end_of_turn", "end_of_turn", "length"]
    assert all(len(row.logprobs) == len(row.token_ids) for row in rows)


def test_a_full_context_ends_the_episode_not_the_batch(model, codec, prompts):
    settings = GenerationSettings(8, temperature=1.0, max_context_tokens=25)
    rows = generate_batch(model, codec, prompts, range(4), settings)
    assert [len(row.token_ids) for row in rows] == [0, 8, 2, 8]
    assert [row.finish for row in rows] == ["context", "length", "length", "length"]
    reply = to_reply(rows[0], codec)
    assert (reply.text, reply.token_ids, reply.finish) == ("", (), "context")


@pytest.mark.parametrize(("room", "n_tokens"), [(0, 0), (1, 1), (2, 2), (3, 2)])
def test_the_models_positions_bound_the_context(model, codec, prompts, room, n_tokens):
    model.config.max_position_embeddings = len(prompts[0]) + room
    (row,) = generate_batch(model, codec, prompts[:1], [0], GenerationSettings(2))
    assert len(row.token_ids) == n_tokens


def test_no_prompts_no_replies(model, codec):
    assert generate_batch(model, codec, [], [], GenerationSettings()) == []


def test_the_checkpoints_generation_defaults_have_no_say(model, codec, prompts):
    settings = GenerationSettings(16, temperature=1.0)
    expected = tokens_of(generate_batch(model, codec, prompts, range(4), settings))
    traps = {
        "do_sample": True,
        "temperature": 0.1,
        "top_k": 1,
        "top_p": 0.1,
        "repetition_penalty": 9.0,
        "no_repeat_ngram_size": 1,
        "suppress_tokens": list(expected[0][0]),
        "min_new_tokens": 16,
        "max_length": 3,
        "num_beams": 2,
        "stop_strings": ["e"],
    }
    model.generation_config.update(**traps)
    assert tokens_of(generate_batch(model, codec, prompts, range(4), settings)) == expected
    assert {key: getattr(model.generation_config, key) for key in traps} == traps


def test_end_tokens_of_the_checkpoint_stop_a_reply(model, codec):
    model.generation_config.eos_token_id = [55, 56]
    with scripted(model, (9, 56, 9)):
        (row,) = generate_batch(model, codec, [[1]], [0], GenerationSettings(9))
    assert (row.token_ids, row.finish) == ((9, 56), "end_of_turn")


def test_a_model_in_training_generates_as_in_evaluation(model, codec, prompts):
    settings = GenerationSettings(12, temperature=1.0)
    expected = tokens_of(generate_batch(model.eval(), codec, prompts, range(4), settings))
    model.train()
    model.gradient_checkpointing_enable()
    model.lm_head.eval()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.9
    assert tokens_of(generate_batch(model, codec, prompts, range(4), settings)) == expected
    assert model.training
    assert model.model.layers[0].self_attn.training
    assert not model.lm_head.training


def test_adapters_take_part(model, codec, prompts):
    peft = pytest.importorskip("peft")
    settings = GenerationSettings(12, temperature=1.0)
    plain = tokens_of(generate_batch(model, codec, prompts, range(4), settings))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["down_proj"]))
    assert tokens_of(generate_batch(adapted, codec, prompts, range(4), settings)) == plain
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    assert tokens_of(generate_batch(adapted, codec, prompts, range(4), settings)) != plain


def test_broken_logits_are_an_error_that_says_so(model, codec):
    torch.nn.init.constant_(model.model.norm.weight, torch.nan)
    with pytest.raises(PolicyError, match="not finite"):
        generate_batch(model, codec, [[1]], [0], GenerationSettings(4))


@pytest.fixture
def one_rank():
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_a_rank_without_rows_takes_part_in_the_collective(model, codec, prompts):
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    settings = GenerationSettings(4, max_context_tokens=5)
    assert generate_batch(model, codec, [], [], settings, synced_gpus=True) == []
    assert calls
    calls.clear()
    (row,) = generate_batch(model, codec, prompts[:1], [0], settings, synced_gpus=True)
    assert row.finish == "context"
    assert calls


@pytest.mark.usefixtures("one_rank")
def test_synced_ranks_generate_the_same(model, codec, prompts):
    settings = GenerationSettings(8, temperature=1.0)
    expected = tokens_of(generate_batch(model, codec, prompts, range(4), settings))
    synced = generate_batch(model, codec, prompts, range(4), settings, synced_gpus=True)
    assert tokens_of(synced) == expected


def test_seeds_and_prompts_must_match(model, codec):
    with pytest.raises(ValueError, match="shorter"):
        generate_batch(model, codec, [[1], [2]], [0], GenerationSettings())


def test_only_models_that_generate_are_taken(codec):
    with pytest.raises(TypeError, match="Linear"):
        generate_batch(torch.nn.Linear(1, 1), codec, [[1]], [0], GenerationSettings())
