"""Dataset indexes with a killed writer: each is complete or missing, and rests are removed."""

import json
import os
import shutil
import sys
from pathlib import Path

from killing import kill_at_random

FOLDER = Path(sys.argv[1])
CACHE = FOLDER / "cache"
os.environ["LONGVIDEO_ENV_CACHE"] = str(CACHE)

from longvideo_env.datasets import loading  # noqa: E402
from longvideo_env.datasets.tvqa.layout import find_sources  # noqa: E402

loading.INDEX_FROM_BYTES = 0
N = 300


def rows() -> list[dict[str, object]]:
    clip = "s05e02_seg02_clip_{:02d}"
    return [
        {
            "qid": i, "q": f"Who is number {i}?", **{f"a{k}": f"{k} of {i}" for k in range(5)},
            "answer": f"a{i % 5}", "ts": [1.0, 2.0], "episode_name": "s05e02",
            "occur_clip": clip.format(i % 40),
        }
        for i in range(N)
    ]  # fmt: skip


DATA = FOLDER / "data"
DATA.mkdir()
(DATA / "LongTVQA_plus_val.json").write_text(json.dumps(rows()))
texts = {f"s05e02_seg02_clip_{i:02d}": f"Ann : line {i} . <eos> Bye ." for i in range(40)}
(DATA / "LongTVQA_plus_subtitle_clip_level.json").write_text(json.dumps(texts))
SOURCES = find_sources(str(DATA), "val", None)
PLAIN = loading._read(SOURCES, False)


def load() -> None:
    found = loading._load.__wrapped__(SOURCES, SOURCES.state(), False)
    assert list(found) == list(PLAIN)
    assert {v: found.videos[v].clips for v in found.videos} == {
        v: PLAIN.videos[v].clips for v in PLAIN.videos
    }


def folders() -> list[Path]:
    return [path for path in CACHE.iterdir() if path.is_dir() and not path.name.startswith(".")]


def write(n: int) -> None:
    for folder in folders() if CACHE.is_dir() else ():  # moved first: a half-removed one counts
        shutil.rmtree(folder.rename(FOLDER / f"old-{os.getpid()}"))
    load()


def check(n: int) -> int:
    global seen
    seen += bool([path for path in CACHE.iterdir() if path.name.startswith(".")])
    for old in FOLDER.glob("old-*"):
        shutil.rmtree(old)
    load()  # as it lies there, or made anew
    assert len(folders()) == 1
    assert not [path for path in CACHE.iterdir() if path.is_dir() and path.name.startswith(".")]
    return n


seen = 0
kill_at_random(write, check, int(sys.argv[2]))
print(f"{seen} of them left a scratch folder, which the next one took away")
