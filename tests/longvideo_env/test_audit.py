import json
from dataclasses import replace
from pathlib import Path

import pytest

from longvideo_env.commands.audit import action_closed, audit, main, tokens_after_action
from longvideo_env.errors import SpecError, TrajectoryError
from longvideo_env.records.trajectory import Segment, Trajectory

WORDS = ["Q", "<search>", "who", "</search>", "END", "seen", "<answer>", "a0", "</answer>", "more"]


def decode(ids):
    return "".join(WORDS[i] for i in ids)


def piece(role, *ids, turn=0, sampled=False):
    logprobs = (-0.5,) * len(ids) if sampled else None
    return Segment(role, decode(ids), sampled, turn, ids, logprobs)


GOOD = (
    piece("prompt", 0),
    piece("assistant", 1, 2, 3, turn=1, sampled=True),
    piece("assistant", 4, turn=1),
    piece("user", 5, turn=1),
    piece("assistant", 6, 7, 8, turn=2, sampled=True),
    piece("assistant", 4, turn=2),
)


def save(folder: Path, *segments, status="answered", note=None, name="step-000000-rank-000.jsonl"):
    trajectory = Trajectory(7, "v", "p", 0, 0, status, 2, (), tuple(segments))
    record = json.loads(trajectory.to_json())
    record["rollout"] = {"step": 0, "rank": 0, "row": 0, "used": True, **(note or {})}
    (folder / name).write_text(json.dumps(record) + "\n", encoding="utf-8")


def changed(place, **changes):
    segments = list(GOOD)
    segments[place] = replace(segments[place], **changes)
    return segments


def test_what_is_sound_passes_and_is_counted(tmp_path):
    save(tmp_path, *GOOD)
    findings = audit(tmp_path, decode)
    assert findings.problems == []
    assert findings.counts == {
        "files": 1,
        "rollouts": 1,
        "tokens": 10,
        "sampled tokens": 6,
        "tokens after an action": 0,
        "used in the update": 1,
    }


@pytest.mark.parametrize(
    ("segments", "problem"),
    [
        (changed(3, sampled=True), "marked as sampled, but only assistant segments"),
        (changed(1, logprobs=(-0.1,)), "3 token ids, but 1 log-probs"),
        (changed(1, logprobs=(-0.1, 0.5, -0.1)), "a log-prob is above 0"),
        (changed(3, logprobs=(-0.1,)), "has log-probs, but was not sampled"),
        (changed(3, token_ids=None), "has no token ids"),
        (changed(1, token_ids=(1, 5, 3)), "the ids decode to '<search>seen</search>'"),
        (changed(3, turn=2), "it comes after turn 2's"),
        (GOOD[:1] + GOOD[4:], "got replies in turns [2]"),
        (
            changed(
                4, text="<answer>a0</answer>more", token_ids=(6, 7, 8, 9), logprobs=(-1.0,) * 4
            ),
            "1 tokens came after the end of an action",
        ),
    ],
)
def test_what_is_not_is_named(tmp_path, segments, problem):
    save(tmp_path, *segments)
    problems = audit(tmp_path, decode).problems
    assert any(problem in text for text in problems), problems
    assert all(text.startswith("step-000000-rank-000.jsonl, line 1") for text in problems)


def test_use_is_checked(tmp_path):
    save(tmp_path, *GOOD, status="failed")
    assert any("it failed, but was used" in text for text in audit(tmp_path).problems)
    save(tmp_path, *GOOD, note={"row": 3})
    assert any("its rows are [3]" in text for text in audit(tmp_path).problems)
    save(tmp_path, *GOOD, note={"used": False, "unused": "refilled", "row": 3})
    assert audit(tmp_path).problems == []


def test_reasoning_closes_no_action_even_where_the_template_opened_it(tmp_path):
    reply = piece("assistant", 1, 2, 3, 9, turn=1, sampled=True)
    closed = action_closed(tmp_path)
    assert tokens_after_action(reply, decode, closed) == 1
    assert tokens_after_action(reply, decode, closed, "<think>") == 0
    assert tokens_after_action(reply, None, closed) == 1


OWN = """
def shout(request, what: str) -> str:
    \"\"\"Says it loudly.

    Args:
        what: the words
    \"\"\"
    return what.upper()
"""


def test_own_tags_close_an_action_too(tmp_path, monkeypatch, capsys):
    (tmp_path / "loud_tools.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "run" / "rollouts").mkdir(parents=True)
    text = "<shout>hey</shout> and more"
    reply = replace(piece("assistant", 1, 2, 3, turn=1, sampled=True), text=text)
    save(tmp_path / "run" / "rollouts", GOOD[0], reply, *GOOD[2:])
    assert main([str(tmp_path / "run")]) == 0, "nobody says that it is a tag"
    environment = {"game": "longvideoagent", "tools": ["look", "loud_tools:shout"], "vision": "x"}
    (tmp_path / "run" / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    capsys.readouterr()
    assert main([str(tmp_path / "run")]) == 2
    assert "run the command in the folder in which the training" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    rollouts = tmp_path / "run" / "rollouts"
    for path in (tmp_path / "run", rollouts, rollouts / "step-000000-rank-000.jsonl"):
        assert main([str(path)]) == 3
        assert "1 tokens came after the end of an action" in capsys.readouterr().out


def test_the_command(tmp_path, capsys):
    save(tmp_path, *GOOD)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("1 used in the update\nno problems\n")
    save(tmp_path, *changed(3, sampled=True))
    assert main([str(tmp_path)]) == 3
    assert "problems" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 2
    assert "found no step-" in capsys.readouterr().err


def test_torn_files_are_named(tmp_path):
    (tmp_path / "step-000000-rank-000.jsonl").write_text('{"schema_version": 1')
    with pytest.raises(TrajectoryError, match=r"rank-000\.jsonl, line 1"):
        audit(tmp_path)
    torn = tmp_path / "step-000001-rank-000.jsonl.zst"
    torn.write_bytes(b"(\xb5/\xfdnot a frame")
    with pytest.raises(TrajectoryError, match="incomplete, or not compressed with zstd"):
        audit(torn)
    with pytest.raises(SpecError, match="found no step-"):
        audit(tmp_path / "nowhere")
