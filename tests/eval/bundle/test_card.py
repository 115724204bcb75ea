"""The evaluation card: its content, its page without scripts, and the published schema."""

import base64
import hashlib
import html
import json
import re

import pytest

from eval.bundle.card import main as card
from eval.run_policy import main as run_policy

# The required and the known fields of "Every Eval Ever" 0.3.0, by level.
REQUIRED = {
    "": "schema_version evaluation_id retrieved_timestamp source_metadata eval_library model_info "
    "evaluation_results",
    "source_metadata": "source_type source_organization_name evaluator_relationship",
    "eval_library": "name version",
    "model_info": "name id additional_details",
    "model_info.additional_details": "deployment_type model_availability",
    "evaluation_results.0": "evaluation_name source_data metric_config score_details",
    "evaluation_results.0.source_data": "dataset_name source_type",
    "evaluation_results.0.metric_config": "lower_is_better",
    "evaluation_results.0.score_details": "score",
}
KNOWN = {
    "": "evaluation_timestamp detailed_evaluation_results",
    "source_metadata": "source_name",
    "evaluation_results.0": "generation_config evaluation_result_id evaluation_timestamp",
    "evaluation_results.0.source_data": "additional_details",
    "evaluation_results.0.score_details": "details uncertainty",
    "evaluation_results.0.metric_config": "evaluation_description metric_id metric_name "
    "metric_kind metric_unit score_type min_score max_score",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("card")
    args = ["--policy", "random", "--dataset", "mini:videos=3", "--split", "test", "--limit", "9"]
    assert run_policy([*args, "--samples", "2", "--out", str(out)]) == 0
    return out / "random"


def test_a_card_says_what_an_accuracy_leaves_out(run, capsys):
    assert card([str(run)]) == 0
    out = capsys.readouterr().out
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    sentence = f"random answers {100 * summary['accuracy']:.1f} % of 18 episodes right (95 %"
    assert sentence in out
    page = (run / "card.html").read_text(encoding="utf-8")
    text = (run / "card.md").read_text(encoding="utf-8")
    for part in ("questions left out, and why", "failed episodes", "malformed turns", "limit 9",
                 "replies cut at the token limit", "hash of the words", "2 samples each",
                 "by the longest option", "seed", "3 videos are few", "--samples 2"):  # fmt: skip
        assert part in page
        assert part in text.replace("\\", "")
    identity = json.loads((run / "config.json").read_text(encoding="utf-8"))["identity"]
    assert identity["words"] in page
    assert identity["questions"] in page


def test_a_name_with_an_ending_means_the_same_files(run, tmp_path, capsys):
    assert card([str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "page.md", "page.json"}


def test_the_page_runs_and_loads_nothing(run, tmp_path):
    hostile = tmp_path / "run"
    hostile.mkdir()
    evil = "x:<script>alert(1)</script><img src=//e.e/x>"
    for file in run.iterdir():
        if file.suffix in (".json", ".jsonl"):
            text = file.read_text(encoding="utf-8").replace('"random"', json.dumps(evil))
            (hostile / file.name).write_text(text, encoding="utf-8")
    assert card([str(hostile), "--out", str(tmp_path / "new" / "card")]) == 0
    page = (tmp_path / "new" / "card.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    policy = html.unescape(found[1])
    assert "default-src 'none'" in policy
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "<script>" not in (tmp_path / "new" / "card.md").read_text(encoding="utf-8").replace(
        "\\<", "")  # fmt: skip


def test_the_record_is_what_the_published_schema_asks_for(run):
    assert card([str(run)]) == 0
    record = json.loads((run / "card.json").read_text(encoding="utf-8"))
    assert record["schema_version"] == "0.3.0"
    for place, names in REQUIRED.items():
        part = record
        for step in filter(None, place.split(".")):
            part = part[int(step)] if step.isdecimal() else part[step]
        assert set(names.split()) <= part.keys(), place
        if place in KNOWN:
            assert part.keys() <= {*names.split(), *KNOWN[place].split()}, place
    result = record["evaluation_results"][0]
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert result["score_details"]["score"] == summary["accuracy"]
    details = result["generation_config"]["additional_details"]
    assert all(isinstance(value, str) for value in details.values())


def test_without_its_dataset_a_card_says_so(run, tmp_path, capsys):
    assert card([str(run), "--dataset", str(tmp_path / "gone"), "--out", str(tmp_path / "c")]) == 0
    assert "not measured" in (tmp_path / "c.md").read_text(encoding="utf-8")
    assert card([str(tmp_path)]) == 1
    assert "Fix:" in capsys.readouterr().err
