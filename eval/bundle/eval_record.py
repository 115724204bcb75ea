"""A run as a record in the schema of EvalEval's "Every Eval Ever", version 0.3.0.

The schema is eval.schema.json of https://github.com/evaleval/every_eval_ever. There is one record
per run, and one result per figure with its interval. Facts without a field of their own (words,
hashes, failed episodes) go into `additional_details`, whose values are texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.bundle.cleaning import clean_values
from eval.bundle.packing import command_of
from eval.metrics.pairs import Run
from eval.metrics.summary import accuracy_interval
from eval.runs.store import IDENTITY

SCHEMA = "0.3.0"
FIGURES = (
    ("accuracy", "accuracy", "Share of scored episodes with the right answer"),
    ("grounding_accuracy", "grounding accuracy", "Share with the gold clip among those visited"),
)
_UNKNOWN = "unknown"


def eval_record(run: Run, summary: Mapping[str, Any], retrieved: int) -> dict[str, Any]:
    """The record of a run.

    Args:
        run: The run.
        summary: Its figures.
        retrieved: Time of the record, in seconds since 1970.
    """
    config, s = clean_values(run.config), clean_values(summary)
    identity = config.get(IDENTITY) or {}
    policy = str(s["policy"])
    data = f"{s['dataset']}/{s['split']}"
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{data}/{policy}/{retrieved}",
        "retrieved_timestamp": str(retrieved),
        "source_metadata": {
            "source_name": "longvideo-env",
            "source_type": "evaluation_run",
            "source_organization_name": _UNKNOWN,
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "longvideo-env",
            "version": str(identity.get("version", _UNKNOWN)),
        },
        "model_info": {
            "name": policy,
            "id": policy.partition(":")[2] or policy,
            "additional_details": {
                "deployment_type": _UNKNOWN,
                "model_availability": _UNKNOWN,
                **_texts({"checkpoint": identity.get("checkpoint")}),
            },
        },
        "evaluation_results": [
            _result(name, label, what, config, s)
            for name, label, what in FIGURES
            if s.get(name) is not None
        ],
    }


def _result(
    name: str, label: str, what: str, config: Mapping[str, Any], s: Mapping[str, Any]
) -> dict[str, Any]:
    identity = config.get(IDENTITY) or {}
    interval = accuracy_interval(s) if name == "accuracy" else None
    notes = {
        "split": s["split"],
        **{part: identity.get(part) for part in ("questions", "answers", "texts")},
    }
    return {
        "evaluation_name": f"{s['dataset']} {s['split']}",
        "source_data": {
            "dataset_name": str(s["dataset"]),
            "source_type": "other",
            "additional_details": _texts(notes),
        },
        "metric_config": {
            "evaluation_description": what,
            "metric_id": name,
            "metric_name": label,
            "metric_kind": "accuracy",
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
        },
        "score_details": {
            "score": s[name],
            "details": _texts({k: s.get(k) for k in ("n_failed", "n_videos", "malformed_rate",
                                                     "stopped", "cost_usd")}),
            **_uncertainty(interval, int(s["n_scored"])),
        },
        "generation_config": _generation(config, s),
    }  # fmt: skip


def _uncertainty(interval: Sequence[float] | None, n: int) -> dict[str, Any]:
    if interval is None:
        return {}
    ends = {"lower": interval[0], "upper": interval[1], "confidence_level": 0.95}
    return {
        "uncertainty": {
            "confidence_interval": {**ends, "method": "clustered by video"},
            "num_samples": n,
        }
    }


def _generation(config: Mapping[str, Any], s: Mapping[str, Any]) -> dict[str, Any]:
    names = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k",
             "max_tokens": "max_turn_tokens"}  # fmt: skip
    drawn = {name: config[key] for name, key in names.items() if key in config}
    environment = ("grounding", "vision", "max_turns", "window", "reward", "seed")
    return {
        "generation_args": {
            **drawn,
            "execution_command": command_of(config, s),
            "agentic_eval_config": {
                "available_tools": [{"name": str(name)} for name in config.get("tools") or ()],
            },
        },
        "additional_details": _texts(
            {
                **{name: config.get(name) for name in environment},
                "samples": s["n_samples"],
                "words": (config.get(IDENTITY) or {}).get("words"),
            }
        ),
    }


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Details as texts. Unknown values are left out."""
    return {name: str(value) for name, value in values.items() if value is not None}
