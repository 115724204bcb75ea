import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longvideo_env import LongTVQAEnv
from longvideo_env.datasets import Dataset, loading
from longvideo_env.datasets.tvqa.index import LazyTasks
from longvideo_env.datasets.tvqa.layout import find_sources
from longvideo_env.errors import DataError, DuplicateQidError
from longvideo_env.records.cached_folder import cached_folder
from longvideo_env.records.files import cache_root

Write = Callable[..., Path]
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def index_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "INDEX_FROM_BYTES", 0)
    monkeypatch.setenv("LONGVIDEO_ENV_CACHE", str(tmp_path / "cache"))


def both(folder: Path, skip_invalid: bool = False) -> tuple[Dataset, Dataset]:
    """The split through an index, and read like small files."""
    sources = find_sources(str(folder), "val", None)
    indexed = loading._load.__wrapped__(sources, sources.state(), skip_invalid)
    return indexed, loading._read(sources, skip_invalid)


def assert_same(indexed: Dataset, plain: Dataset) -> None:
    assert list(indexed) == list(plain)
    assert indexed.qids == plain.qids
    assert list(indexed.videos) == list(plain.videos)
    for video_id, video in plain.videos.items():
        assert indexed.videos[video_id].clips == video.clips
    assert [str(e) for e in indexed.skipped] == [str(e) for e in plain.skipped]
    assert [type(e) for e in indexed.skipped] == [type(e) for e in plain.skipped]
    assert indexed.fewest_options == plain.fewest_options
    assert indexed.gold_clips() == plain.gold_clips()
    assert (indexed.name, indexed.split, indexed.root) == (plain.name, plain.split, plain.root)


def write_all(folder: Write, rows: list[Row], **more: Any) -> Path:
    return folder(
        LongTVQA_plus_val__json=rows,
        LongTVQA_plus_subtitle_clip_level__json={
            "s05e02_seg02_clip_10": "",
            "s05e02_seg02_clip_9": "Héllo 🐢 . <eos> Bye .",
        },
        captions__json={"s05e02_seg01_clip_05": [{"start_s": 1, "end_s": 2, "text": "A cup."}]},
        subtitles__json={"s05e02_seg02_clip_9": [{"start_s": 3.5, "end_s": 5, "text": "Hi"}]},
        clips__json={
            "frames_fps": 2,
            "clips": {"s05e02_seg03_clip_00": {"start_s": 0, "end_s": 9}},
        },
        **more,
    )


def test_an_index_gives_what_the_files_give(folder: Write, row: Row) -> None:
    rows = [row, {**row, "qid": 2, "q": "¿Qué? 🎬"}, {**row, "qid": "three", "a3": "d", "a4": "e"}]
    indexed, plain = both(write_all(folder, rows))
    assert isinstance(indexed.tasks, LazyTasks)
    assert_same(indexed, plain)
    assert indexed.videos["s05e02"].frames_fps == 2
    assert indexed.task("three") == plain.task("three")
    assert indexed.tasks[-2:][0] == plain.tasks[-2]
    assert indexed.tasks[1:] == indexed.tasks[1:] != indexed.tasks


def test_a_real_split(shared_data: Path) -> None:
    indexed, plain = both(shared_data / "tvqa_plus_dev")
    assert isinstance(indexed.tasks, LazyTasks)
    assert_same(indexed, plain)


def test_invalid_rows_are_told_and_listed_alike(folder: Write, row: Row) -> None:
    bad = [{**row, "qid": 2, "a1": None}, 3, row, {**row, "qid": 5, "answer": ["a0"]}]
    root = folder(LongTVQA_plus_val__json=[*bad, {**row, "qid": "six"}, {**row, "qid": 7, "ts": 4}])
    with pytest.raises(DataError) as indexed_error:
        both(root)
    sources = find_sources(str(root), "val", None)
    with pytest.raises(DataError) as plain_error:
        loading._read(sources, False)
    assert str(indexed_error.value) == str(plain_error.value)
    assert_same(*both(root, skip_invalid=True))


def test_a_duplicate_is_told(folder: Write, row: Row) -> None:
    root = folder(LongTVQA_plus_val__json=[row, {**row, "qid": "1"}])
    with pytest.raises(DuplicateQidError, match="rows 1 and 2 share it"):
        both(root)
    assert not [path for path in cache_root().iterdir() if path.is_dir()], "nothing half-made stays"


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 9),
    st.text(max_size=4),
    st.lists(st.floats(), max_size=3),
)
KEYS = ("qid", "q", "a0", "a2", "a4", "a5", "a05", "answer", "answer_idx", "ts", "occur_clip")


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.dictionaries(st.sampled_from([*KEYS, "episode_name", "bbox"]), VALUES)))
def test_the_quick_look_accepts_what_the_reader_accepts(tmp_path: Path, changes: list[Row]) -> None:
    good = {"q": "Why ?", **{f"a{i}": f"o{i}" for i in range(5)}, "answer": "a1", "ts": [0, 1.5]}
    place = {"occur_clip": "s05e02_seg02_clip_00", "episode_name": "s05e02"}
    rows = [{"qid": 100 + i, **good, **place, **change} for i, change in enumerate(changes)]
    rows.append({"qid": 7, **good, **place})
    (tmp_path / "LongTVQA_val.json").write_text(json.dumps(rows), encoding="utf-8")
    assert_same(*both(tmp_path, skip_invalid=True))


@pytest.mark.slow
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    "change",
    [{}, {"qid": 3}, {"qid": "3"}, {"ts": [3, 1]}, {"ts": [0.5, 1e2]}, {"q": " \u2003 "},
     {"q": 'a "b" \\ é'}, {"occur_clip": "s05e03_seg02_clip_00"}, {"a0": ""}, {"a5": "f"}],
)  # fmt: skip
def test_one_row_among_many_plain_ones(
    tmp_path: Path, row: Row, change: Row, ascii_only: bool
) -> None:
    rows = [{**row, "qid": i, "q": "Où ?" if i % 7 == 0 else "Why ?"} for i in range(1200)]
    rows[700] |= change
    text = json.dumps(rows, ensure_ascii=ascii_only)
    (tmp_path / "LongTVQA_val.json").write_text(text, encoding="utf-8")
    assert_same(*both(tmp_path, skip_invalid=True))


@pytest.mark.parametrize("head", ["", "\ufeff", " \n"])
def test_json_lines_and_byte_order_marks(tmp_path: Path, row: Row, head: str) -> None:
    lines = [json.dumps({**row, "qid": i, "q": "żółw 🐢 ?"}, ensure_ascii=False) for i in range(3)]
    for name, text in (("l", "\r\n".join(lines)), ("a", f"[{' , '.join(lines)} ]\n")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "tvqa_val.jsonl").write_bytes((head + text).encode())
        indexed, plain = both(folder)
        assert isinstance(indexed.tasks, LazyTasks)
        assert_same(indexed, plain)


def test_it_pickles_and_survives_a_change_of_the_files(folder: Write, row: Row) -> None:
    root = write_all(folder, [row, {**row, "qid": 2}])
    indexed, plain = both(root)
    (root / "LongTVQA_plus_val.json").write_text("gone", encoding="utf-8")
    twin = pickle.loads(pickle.dumps(indexed))
    assert twin.tasks == indexed.tasks
    assert list(twin) == list(indexed) == list(plain)
    assert twin.video(twin[0]).clips == plain.video(plain[0]).clips


def test_the_environment_plays_it(folder: Write, row: Row) -> None:
    root = write_all(folder, [row])
    env = LongTVQAEnv(dataset=str(root), split="val", grounding="oracle")
    text, _ = env.reset(seed=1)
    assert "[s05e02_seg02_clip_00]" in text
    assert env.step("<answer>a2</answer>")[4]["is_success"]


def test_a_cache_that_cannot_be_written_is_done_without(
    folder: Write, row: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LONGVIDEO_ENV_CACHE", str(tmp_path / "file" / "below"))
    indexed, plain = both(write_all(folder, [row]))
    assert list(indexed) == list(plain)


@pytest.mark.slow
def test_several_processes_make_one_index(folder: Write, row: Row, tmp_path: Path) -> None:
    root = write_all(folder, [{**row, "qid": i} for i in range(500)])
    code = (
        "import sys; from longvideo_env.datasets import loading; loading.INDEX_FROM_BYTES = 0\n"
        "d = loading.load_dataset(sys.argv[1], 'val'); print(type(d.tasks).__name__, len(list(d)))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in running] == ["LazyTasks 500\n"] * 3
    assert len([path for path in cache_root().iterdir() if path.is_dir()]) == 1


def test_only_the_newest_states_are_kept() -> None:
    for i in range(7):
        folder = cached_folder("set", str(i), lambda new: (new / "x").touch())
        os.utime(folder, (i, i))
    assert sorted(p.name for p in cache_root().iterdir() if p.is_dir()) == [
        "set-3",
        "set-4",
        "set-5",
        "set-6",
    ]
