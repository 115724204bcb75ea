"""How model families write calls, as data: transformers' response templates.

A tokenizer may have its own. TRL has templates of many families and finds them by the text of the
chat template. Below are families that neither covers, and gpt-oss, which writes calls in more ways
than TRL's template reads. `transformers` parses replies with them (`parse_response`). The matching
one is found by testing it on the chat template's own output.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CALL = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}
_THOUGHT = {"open": "[THINK]", "close_pattern": r"\[/THINK\]\s*", "content": "text"}
_REST = {"close_pattern": r"</s>\s*|$", "content": "text"}

MISTRAL_LIST: Mapping[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "[/INST]",
    "fields": {
        "reasoning_content": _THOUGHT,
        "tool_calls": {
            "open_pattern": r"\[TOOL_CALLS\]\s*(?=\[)",
            "close_pattern": r"</s>\s*|$",
            "content": "json",
            "transform_each": True,
            "transform": {
                "type": "function",
                "function": {"name": "{name}", "arguments": "{arguments}"},
            },
        },
        "content": _REST,
    },
}
"""`[TOOL_CALLS] [{"name": ..., "arguments": {...}}]`: Mistral 7B 0.3, Mistral Nemo."""

MISTRAL_ARGS: Mapping[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "[/INST]",
    "fields": {
        "reasoning_content": _THOUGHT,
        "tool_calls": {
            "open_pattern": r"\[TOOL_CALLS\](?P<name>[^\[\s]+)(?:\[CALL_ID\][^\[]*)?\[ARGS\]",
            "close_pattern": r"(?=\[TOOL_CALLS\])|</s>\s*|$",
            "repeats": True,
            "content": "json",
            "transform": _CALL,
        },
        "content": _REST,
    },
}
"""`[TOOL_CALLS]name[ARGS]{...}`: Mistral Small 3.2, Magistral, Devstral."""

MUSE: Mapping[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|start|>assistant",
    "fields": {
        "reasoning_content": {
            "open_pattern": r"\s*to=self<\|message\|>",
            "close_pattern": r"<\|eom\|>\s*(?:<\|start\|>assistant)?",
            "content": "text",
        },
        "tool_calls": {
            "open_pattern": r'<atem:invoke name="(?P<name>[^"]+)">',
            "close_pattern": r"</atem:invoke>\s*",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r'<atem:parameter name="(?P<key>[^"]+)">(?P<value>.*?)'
                r"</atem:parameter>",
                "value_parser": {"name": "text"},
            },
            "transform": _CALL,
        },
        "content": {
            "open_pattern": r"\s*to=user<\|message\|>",
            "close_pattern": r"<\|eot\|>\s*|$",
            "content": "text",
        },
    },
}
"""`<atem:invoke name="...">`: Muse."""


GPT_OSS: Mapping[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|start|>assistant",
    "fields": {
        "reasoning_content": {
            "open": "<|channel|>analysis<|message|>",
            "close_pattern": r"<\|end\|>\s*",
            "content": "text",
        },
        "tool_calls": {
            "open_pattern": r"(?:<\|channel\|>commentary\s+)?to=functions\.(?P<name>[^\s<]+)"
            r"(?:<\|channel\|>commentary)?\s*(?:<\|constrain\|>)?\s*json<\|message\|>",
            "close_pattern": r"<\|call\|>\s*",
            "repeats": True,
            "content": "json",
            "transform": _CALL,
        },
        "content": {
            "open": "<|channel|>final<|message|>",
            "close_pattern": r"<\|return\|>\s*",
            "content": "text",
        },
    },
}
"""The recipient stands before the channel, as in the chat template, or behind it, as the model
often writes (`<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>`). Source:
OpenAI's description of the harmony format."""


def known_templates(tokenizer: PreTrainedTokenizerBase) -> Iterator[Mapping[str, Any]]:
    """The response templates to try: the tokenizer's own, gpt-oss's, TRL's, ours."""
    own = getattr(tokenizer, "response_template", None)
    if own is not None:
        yield own
    yield GPT_OSS
    yield from _of_trl(tokenizer)
    yield from (MISTRAL_LIST, MISTRAL_ARGS, MUSE)


def _of_trl(tokenizer: PreTrainedTokenizerBase) -> Iterator[Mapping[str, Any]]:
    try:
        from trl import chat_template_utils as trl
    except ImportError:  # vLLM works without TRL
        return
    other = copy.copy(tokenizer)  # a copy, because the template is set on the tokenizer
    with suppress(ValueError):  # TRL only knows exact chat templates
        trl.add_response_schema(other)
        yield other.response_template
    yield from (
        trl.qwen3_template,
        trl.qwen3_5_template,
        trl.llama3_template,
        trl.glm4moe_template,
        trl.gptoss_template,
        trl.gemma4_template,
        trl.lfm2_2_5_template,
        trl.nemotron_3_template,
    )
