"""Bundles: their content, what they leave out, and that every later change is found."""

import copy
import json
import os
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.bundle.bundle_checks import check_bundle
from eval.bundle.cleaning import clean_paths
from eval.bundle.contents import MANIFEST, read_bundle, seal, write_bundle
from eval.bundle.packing import main as bundle
from eval.bundle.replaying import replay_bundle
from eval.bundle.verify import main as verify
from eval.run_policy import main as run_policy
from longvideo_env.errors import SpecError

ROOT = Path(__file__).parents[3]
MINI = ("--dataset", "mini:videos=3", "--split", "test")
LOOKS = "scripted:ground-look-answer"


def play(out, *policies, data=MINI, code=0):
    args = [part for policy in policies for part in ("--policy", policy)]
    assert run_policy([*args, *data, "--out", str(out)]) == code


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle")
    play(out / "runs", LOOKS, "random")
    assert bundle([str(out / "runs"), "--out", str(out / "paper.zip")]) == 0
    return out / "paper.zip"


@pytest.fixture
def data(tmp_path):
    return shutil.copytree(ROOT / "longvideo_env/datasets/embedded", tmp_path / "data")


def changed(path, name, change):
    """A bundle with one changed file and recomputed hashes."""
    before = read_bundle(path)
    files = {**before.files, name: change(before.files[name])}
    manifest = {k: v for k, v in before.manifest.items() if k not in ("files", "digest")}
    return replace(before, files=files, manifest=seal(manifest, files))


def test_a_bundle_verifies_and_plays_again_in_another_folder(packed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "found.json"
    more = ["--replay", "--tables", str(tmp_path / "tables"), "--json", str(out)]
    assert verify([str(packed), *more]) == 0
    text = capsys.readouterr().out
    assert "verified: " in text
    assert "12 episodes were played again" in text
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["differs"] == []
    assert all("wall_s" in line for line in found["unchecked"])
    tex = (tmp_path / "tables" / "table.tex").read_text(encoding="utf-8")
    for part in (r"\toprule", r"\bottomrule", "95\\% CI", "0."):
        assert part in tex
    assert "| random" in (tmp_path / "tables" / "table.md").read_text(encoding="utf-8")


def test_equal_runs_give_equal_bytes_and_nothing_is_overwritten(packed, tmp_path, capsys):
    runs = packed.parent / "runs"
    again = tmp_path / "again.zip"
    both = [str(runs / "random"), str(runs / LOOKS.replace(":", "-"))]
    other = tmp_path / "other.zip"
    for out in (again, other):
        assert bundle([*both, "--out", str(out)]) == 0
    assert again.read_bytes() == other.read_bytes()
    assert bundle([str(runs), "--out", str(again)]) == 1
    assert "already exists" in capsys.readouterr().err


def test_the_command_in_the_manifest_plays_the_same_run(packed, tmp_path):
    import shlex

    before = read_bundle(packed)
    entry = next(run for run in before.runs if run["policy"] == "random")
    words = shlex.split(entry["command"])
    assert words[:2] == ["longvideo-env", "evaluate"]
    assert run_policy([*words[2:-1], str(tmp_path)]) == 0
    name = "runs/random/episodes.jsonl"
    was, now = ([json.loads(line) for line in text.splitlines()] for text in (
        before.files[name], (tmp_path / "random" / "episodes.jsonl").read_bytes()))  # fmt: skip
    for row in (*was, *now):
        del row["timings"]
    assert was == now


EPISODE = st.sampled_from(
    ("choice", "correct", "reward", "grounded", "grounded_first", "status", "question", "kind",
     "options", "reward_terms", "video_id", "qid", "reply", "drop", "twice", "policy")
)  # fmt: skip


def tamper(row, what):
    """Change one field of an episode to another value of the same type."""
    row = copy.deepcopy(row)
    if what == "reply":
        last = [s for s in row["segments"] if s["sampled"]][-1]
        old = f"<answer>a{row['choice']}"
        assert old in last["text"]
        new = (row["choice"] + 1) % row["n_options"]
        last["text"] = last["text"].replace(old, f"<answer>a{new}")
    elif what == "choice":
        row["choice"] = (row["choice"] + 1) % row["n_options"]
    elif what in ("correct", "grounded", "grounded_first"):
        row[what] = not row[what]
    elif what == "reward":
        row["reward"] += 0.001
    elif what == "reward_terms":
        row["reward_terms"]["answer"] = 1 - row["reward_terms"]["answer"]
    elif what == "status":
        row["status"] = "out_of_turns"
    elif what == "options":
        row["options"] = row["options"][::-1]
    else:
        row[what] = f"{row[what]}x"
    return row


@pytest.mark.slow
@settings(max_examples=60)
@given(run=st.sampled_from(("random", "scripted-ground-look-answer")), place=st.integers(0, 11),
       what=EPISODE)  # fmt: skip
def test_a_changed_episode_is_found_though_all_hashes_fit(packed, run, place, what):
    def change(content):
        rows = [json.loads(line) for line in content.splitlines()]
        if what == "drop":
            del rows[place]
        elif what == "twice":
            rows.append(rows[place])
        else:
            rows[place] = tamper(rows[place], what)
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    name = f"runs/{run}/episodes.jsonl"
    qid = json.loads(read_bundle(packed).files[name].splitlines()[place])["qid"]
    found = check_bundle(changed(packed, name, change)).differs
    assert found
    if what not in ("drop", "twice", "policy", "qid"):
        assert any(f"question {qid}" in line for line in found), found


@settings(max_examples=20)
@given(data=st.data())
def test_a_changed_figure_or_hash_is_found_though_all_hashes_fit(packed, data):
    before = read_bundle(packed)
    run = data.draw(st.sampled_from(("random", "scripted-ground-look-answer")))
    file = data.draw(st.sampled_from(("summary.json", "config.json", "questions.json")))
    name = f"runs/{run}/{file}"
    whole = json.loads(before.files[name])
    part = whole["identity"] if file == "config.json" else whole
    free = {"wall_s", "selection", "recording", "shard", "n_samples", "coverage", "oracle", "leaky",
            "n_skipped_rows", "spent", "grounding", "vision", "dataset", "split", "groups",
            "version", "draw"}  # fmt: skip
    keys = [key for key, value in part.items() if key not in free and value not in (None, {}, [])]
    key = data.draw(st.sampled_from(sorted(keys)))

    def other(value):
        if isinstance(value, dict):
            inside = data.draw(st.sampled_from(sorted(value)))
            return {**value, inside: other(value[inside])}
        if isinstance(value, list):
            return [other(value[0]), *value[1:]]
        return f"{value}0" if isinstance(value, str) else (value or 0) + 1

    changed_value = other(part[key])
    part[key] = changed_value
    found = check_bundle(changed(packed, name, lambda _: json.dumps(whole).encode())).differs
    assert found, (name, key, changed_value)


ODD = st.sampled_from((None, 0, -1, "", "x", [], {}, True, 1e300, [None], {"x": None}))


@settings(max_examples=30)
@given(data=st.data())
def test_values_of_any_type_are_findings_and_no_traceback(packed, data):
    files = ("episodes.jsonl", "summary.json", "config.json", "questions.json")
    name = f"runs/random/{data.draw(st.sampled_from(files))}"
    lines = name.endswith("jsonl")

    def change(content):
        whole = (
            [json.loads(line) for line in content.splitlines()] if lines else json.loads(content)
        )
        part = whole
        for _ in range(data.draw(st.integers(1, 4))):
            keys = sorted(part) if isinstance(part, dict) else range(len(part))
            if not keys:
                break
            key = data.draw(st.sampled_from(list(keys)))
            if not (isinstance(part[key], dict | list) and part[key]):
                break
            part = part[key]
        if isinstance(part, dict | list) and part:
            keys = sorted(part) if isinstance(part, dict) else range(len(part))
            part[data.draw(st.sampled_from(list(keys)))] = data.draw(ODD)
        if lines:
            return "".join(json.dumps(row) + "\n" for row in whole).encode()
        return json.dumps(whole).encode()

    found = changed(packed, name, change)
    findings = check_bundle(found)
    if not any("cannot be read" in line for line in findings.differs):
        replay_bundle(found, findings)


@settings(max_examples=20)
@given(data=st.data())
def test_any_changed_byte_of_a_file_is_found(packed, data):
    before = read_bundle(packed)
    name = data.draw(st.sampled_from(sorted(before.files)))
    content = bytearray(before.files[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    found = check_bundle(replace(before, files={**before.files, name: bytes(content)})).differs
    assert f"{name}: its hash differs from the manifest's" in found


@settings(max_examples=15)
@given(place=st.integers(0), bit=st.integers(0, 7))
def test_a_file_with_a_flipped_bit_never_verifies_wrongly(packed, tmp_path_factory, place, bit):
    content = bytearray(packed.read_bytes())
    content[place % len(content)] ^= 1 << bit
    broken = tmp_path_factory.mktemp("broken") / "x.zip"
    broken.write_bytes(content)
    try:
        found = read_bundle(broken)
    except SpecError:
        return
    # A bit of the zip's own metadata, such as a time, does not change the content.
    whole = read_bundle(packed)
    assert check_bundle(found).differs or (found.files, found.manifest) == (
        whole.files, whole.manifest)  # fmt: skip


def test_a_changed_hash_of_the_manifest_is_found(packed, tmp_path, capsys):
    with zipfile.ZipFile(packed) as archive:
        manifest = json.loads(archive.read(MANIFEST))
    files = read_bundle(packed).files
    name = next(iter(manifest["files"]))
    for change in (
        lambda m: m["files"][name].update(sha256="0" * 64),
        lambda m: m["runs"][0].update(command="rm -r /"),
        lambda m: m["files"].pop(name),
        lambda m: m.update(digest="0" * 64),
    ):
        wrong = copy.deepcopy(manifest)
        change(wrong)
        write_bundle(tmp_path / "wrong.zip", wrong, files)
        assert verify([str(tmp_path / "wrong.zip")]) == 3
        assert "differs: " in capsys.readouterr().out


def test_other_words_are_found(packed):
    name = next(name for name in read_bundle(packed).files if name.startswith("words/"))
    found = check_bundle(changed(packed, name, lambda text: text.replace(b"You", b"Thou")))
    assert any(line.startswith(f"{name}: not the words") for line in found.differs)


def test_own_words_go_along_and_are_checked(tmp_path, capsys, monkeypatch):
    words = tmp_path / "mine.jinja"
    words.write_text("{% block turns %}{{ turns_left }} left.{% endblock %}", encoding="utf-8")
    play(tmp_path / "runs", LOOKS, data=(*MINI, "--prompts", str(words)))
    out = tmp_path / "paper.zip"
    assert bundle([str(tmp_path / "runs"), "--out", str(out)]) == 0
    words.unlink()
    monkeypatch.chdir(tmp_path)
    assert verify([str(out), "--replay"]) == 0
    assert "what the environment says" in capsys.readouterr().out
    name = next(name for name in read_bundle(out).files if name.startswith("words/"))
    other = changed(out, name, lambda text: text.replace(b" left", b" more"))
    assert any("what the environment says" in line for line in check_bundle(other).differs)


def test_prompts_that_were_never_shown_are_found_by_playing_again(packed):
    def change(content):
        return content.replace(b"You are at:", b"You were at:")

    found = changed(packed, "runs/random/episodes.jsonl", change)
    findings = check_bundle(found)
    assert findings.differs == []  # no figure depends on it
    replay_bundle(found, findings)
    assert len(findings.differs) == 12
    assert "played again, segments differ" in findings.differs[0]


def test_another_dataset_is_found_and_each_question_named(data, tmp_path, capsys):
    play(tmp_path / "runs", LOOKS, data=("--dataset", str(data), "--split", "val"))
    out = tmp_path / "paper.zip"
    assert bundle([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert verify([str(out)]) == 0
    assert "rewards, and the questions: " in capsys.readouterr().out  # the dataset is missing
    assert verify([str(out), "--dataset", str(data), "--replay"]) == 0
    file = data / "LongTVQA_plus_val.json"
    rows = json.loads(file.read_text(encoding="utf-8"))
    rows[0]["q"], rows[1]["answer"] = "Who sings?", "a0" if rows[1]["answer"] != "a0" else "a1"
    file.write_text(json.dumps(rows), encoding="utf-8")
    capsys.readouterr()
    assert verify([str(out), "--dataset", str(data)]) == 3
    text = capsys.readouterr().out
    assert f"question {rows[0]['qid']}: its text or options is not the one that was played" in text
    assert f"question {rows[1]['qid']}: its answer is not the one that was played" in text
    assert "the answer key: its hash differs" in text


def test_shown_texts_of_other_data_stay_here_unless_asked_for(data, tmp_path, capsys):
    play(tmp_path / "runs", LOOKS, data=("--dataset", str(data), "--split", "val"))
    said = json.loads((data / "LongTVQA_plus_subtitle_clip_level.json").read_text())
    lines = [part.strip() for text in said.values() for part in text.split("<eos>")]
    lines = [line for line in lines if len(line) > 20]
    for more, there in (([], False), (["--with-texts"], True)):
        out = tmp_path / f"paper{there}.zip"
        assert bundle([str(tmp_path / "runs"), "--out", str(out), *more]) == 0
        text = b"".join(read_bundle(out).files.values()).decode()
        assert any(json.dumps(line, ensure_ascii=False)[1:-1] in text for line in lines) is there
        assert verify([str(out), "--dataset", str(data), "--replay"]) == 0
    assert "texts left out" in capsys.readouterr().out


def test_no_path_of_this_machine_and_no_key_goes_out(data, tmp_path, capsys, monkeypatch):
    play(tmp_path / "runs", LOOKS, data=("--dataset", str(data), "--split", "val"))
    out = tmp_path / "paper.zip"
    assert bundle([str(tmp_path / "runs"), "--out", str(out)]) == 0
    for content in read_bundle(out).files.values():
        assert str(tmp_path).encode() not in content
        assert f"{Path.home()}/".encode() not in content
    monkeypatch.setenv("MY_API_KEY", "s3cret-s3cret")
    episodes = tmp_path / "runs" / "scripted-ground-look-answer" / "episodes.jsonl"
    for secret, what in (("s3cret-s3cret", "the value of MY_API_KEY"),
                         ("sk-0123456789abcdefghij", "seems to hold a key"),
                         (f"{tmp_path}/runs/x", "a path of this machine")):  # fmt: skip
        before = episodes.read_text(encoding="utf-8")
        row = json.loads(before.splitlines()[0])
        row["turns"][0]["argument"] = secret
        rest = "\n".join(before.splitlines()[1:])
        episodes.write_text(f"{json.dumps(row)}\n{rest}\n", encoding="utf-8")
        capsys.readouterr()
        assert bundle([str(tmp_path / "runs"), "--out", str(tmp_path / "x.zip")]) == 2
        err = capsys.readouterr().err
        assert what in err
        assert secret not in err
        assert not (tmp_path / "x.zip").exists()
        episodes.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/someone/data/tvqa", "tvqa"),
        ("hf:/home/a/base+/home/a/lora", "hf:base+lora"),
        ("videomme:/data", "videomme:data"),
        ("openai:m@http://127.0.0.1:80/v1", "openai:m@http://127.0.0.1:80/v1"),
        ("runs/a and/or b", "runs/a and/or b"),
        ("no file '/tmp/x y'", "no file 'x y'"),
        (r"C:\Users\someone\x", "x"),
        ("<b>r</b><answer>a0</answer>", "<b>r</b><answer>a0</answer>"),
    ],
)
def test_paths_are_cut_to_their_last_part(text, clean):
    assert clean_paths(text) == clean


def test_what_does_not_follow_from_its_episodes_is_not_bundled(tmp_path, capsys):
    play(tmp_path / "runs", "random")
    folder = tmp_path / "runs" / "random"
    numbers = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    (folder / "summary.json").write_text(json.dumps({**numbers, "accuracy": 0.9}))
    assert bundle([str(folder), "--out", str(tmp_path / "x.zip")]) == 1
    out = capsys.readouterr().out
    assert "accuracy is 0.9 in the summary and 0." in out
    assert "Fix: compute the figures again with `longvideo-env rescore`" in out
    assert not (tmp_path / "x.zip").exists()
    (folder / "summary.json").unlink()
    assert bundle([str(folder), "--out", str(tmp_path / "x.zip")]) == 2
    assert "Fix: resume and finish the run" in capsys.readouterr().err
    assert bundle([str(tmp_path / "none"), "--out", str(tmp_path / "x.zip")]) == 1
    for wrong in (tmp_path / "none.zip", folder / "config.json"):
        assert verify([str(wrong)]) == 1
        assert (
            "Fix: give a complete file that `longvideo-env bundle` wrote" in capsys.readouterr().err
        )


def test_a_run_behind_endpoints_is_played_again_from_its_recording(tmp_path, capsys, monkeypatch):
    pytest.importorskip("openai")
    pytest.importorskip("aiohttp")
    sys.path.insert(0, str(ROOT / "tests" / "agents"))
    from fake_server import completion, running

    turns = ("<search>who?", "<request_grounding>more", "<answer>a1")

    def answer(body, _):
        if body["model"] == "ground":
            text = body["messages"][1]["content"]
            return completion(f"<clip>{text.split('<')[1].partition('>')[0]}</clip>")
        if body["model"] == "eyes":
            return completion("A red mug.")
        return completion(turns[min(sum(m["role"] == "assistant" for m in body["messages"]), 2)])

    data = shutil.copytree(ROOT / "longvideo_env/datasets/embedded", tmp_path / "data")
    with running(answer) as server:
        file = tmp_path / "endpoints.yaml"
        file.write_text(f"endpoints: {{fake: {{base_url: '{server.url}', api_key_env: FAKE_KEY}}}}")
        monkeypatch.setenv("LONGVIDEO_ENDPOINTS", str(file))
        monkeypatch.setenv("FAKE_KEY", "sk-never-to-be-seen-by-anybody")
        args = ["--policy", "openai:master@fake", "--grounding", "openai:ground@fake",
                "--vision", "openai:eyes@fake,frames=3", "--dataset", str(data), "--limit", "4",
                "--samples", "2", "--recording", "reuse",
                "--out", str(tmp_path / "runs")]  # fmt: skip
        assert run_policy(args) == 0
    monkeypatch.delenv("LONGVIDEO_ENDPOINTS")
    monkeypatch.delenv("FAKE_KEY")
    out = tmp_path / "paper.zip"
    assert bundle([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert b"never-to-be-seen" not in b"".join(read_bundle(out).files.values())
    assert verify([str(out), "--dataset", str(data), "--replay"]) == 0
    assert "8 episodes were played again" in capsys.readouterr().out

    def drop(content):
        lines = content.splitlines(keepends=True)
        return b"".join(line for line in lines if b"<answer>a1" not in line)

    findings = check_bundle(found := changed(out, "recording.jsonl", drop), dataset=str(data))
    replay_bundle(found, findings, dataset=str(data))
    assert any("does not hold this call" in line for line in findings.differs)


@pytest.mark.slow
def test_a_bundle_of_the_mini_starter_verifies_within_half_a_minute(tmp_path):
    import subprocess
    import time

    pytest.importorskip("torch")
    command = [sys.executable, "-m", "longvideo_env.commands.main"]
    args = ["--config", str(ROOT / "configs/eval/mini.yaml"), "--out", str(tmp_path / "runs")]
    subprocess.run([*command, "evaluate", *args, "--limit", "100"], cwd=ROOT, check=True)
    assert bundle([str(tmp_path / "runs"), "--out", str(tmp_path / "paper.zip")]) == 0
    start = time.monotonic()
    done = subprocess.run(
        [*command, "verify", str(tmp_path / "paper.zip"), "--replay"],
        cwd=tmp_path, check=False, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "100 episodes were played again" in done.stdout
    assert "the model's files" in done.stdout
    assert time.monotonic() - start < 30


def test_a_reply_with_other_ends_of_lines_is_read_back_whole(tmp_path):
    import longvideo_env as lv

    def odd(messages):
        return "one\u2028two\x85three\x0c<answer>a0</answer>\u2029"

    lv.evaluate(odd, dataset="mini:videos=1", split="test", out=tmp_path / "runs", progress=False)
    assert bundle([str(tmp_path / "runs"), "--out", str(tmp_path / "x.zip")]) == 0
    assert verify([str(tmp_path / "x.zip"), "--replay"]) == 0
