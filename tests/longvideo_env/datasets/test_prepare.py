import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longvideo_env.commands.data.prepare import main, prepare
from longvideo_env.datasets import load_dataset
from longvideo_env.datasets.fetching.archives import Limits, unpack
from longvideo_env.datasets.fetching.hub import parse_hub_spec
from longvideo_env.datasets.layers import Maker, write_layer
from longvideo_env.errors import DatasetNotFoundError, MalformedFileError, SpecError

JPEG = b"\xff\xd8\xff\xe0 picture \xff\xd9"
REPO, COMMIT = "longvideoagent/LongTVQA_plus", "0123456789abcdef0123456789abcdef01234567"


def tar_of(path: Path, *members: tuple[str, bytes | tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_frames_come_out_of_tar_and_compressed_tar(tmp_path: Path, mode: str) -> None:
    archive = tar_of(
        tmp_path / "bbt_frames.tar",
        ("./bbt_frames/s01e01_seg01_clip_00/00001.jpg", JPEG),
        ("./bbt_frames/s01e01_seg01_clip_00/._00001.jpg", b"mac"),
        ("./bbt_frames/readme.txt", b"x"),
        mode=mode,
    )
    assert unpack(archive, tmp_path / "out") == 1
    found = [p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert found == [Path("bbt_frames/s01e01_seg01_clip_00/00001.jpg")]


@pytest.mark.parametrize(
    "member",
    [
        ("../evil.jpg", JPEG),
        ("a/../../evil.jpg", JPEG),
        ("/tmp/evil.jpg", JPEG),
        ("a\\..\\evil.jpg", JPEG),
        ("link.jpg", special("link.jpg", tarfile.SYMTYPE)),
        ("hard.jpg", special("hard.jpg", tarfile.LNKTYPE)),
        ("pipe.jpg", special("pipe.jpg", tarfile.FIFOTYPE)),
        ("dev.jpg", special("dev.jpg", tarfile.CHRTYPE)),
    ],
    ids=lambda member: member[0],
)
def test_a_hostile_archive_leaves_nothing(
    tmp_path: Path, member: tuple[str, bytes | tarfile.TarInfo]
) -> None:
    archive = tar_of(tmp_path / "x.tar", ("good/00001.jpg", JPEG), member)
    with pytest.raises(MalformedFileError, match="expected plain files, got a"):
        unpack(archive, tmp_path / "deep" / "out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "x.tar"]


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(n_files=1), "1 files, got 2"),
        (Limits(n_bytes=20), "20 bytes in all"),
        (Limits(file_bytes=10), "10 bytes in one file"),
    ],
)
def test_limits_hold(tmp_path: Path, limits: Limits, what: str) -> None:
    archive = tar_of(tmp_path / "x.tar", ("a/1.jpg", JPEG), ("a/2.jpg", JPEG))
    with pytest.raises(MalformedFileError, match=what):
        unpack(archive, tmp_path / "out", limits)
    assert not (tmp_path / "out").exists()


def test_two_thousand_folders_in_a_name_are_refused_at_once(tmp_path: Path) -> None:
    name = "a/" * 2000 + "00001.jpg"
    for mode in ("w", "w:gz"):
        archive = tar_of(tmp_path / "deep.tar", (name, b"x"), mode=mode)
        start = time.perf_counter()
        with pytest.raises(MalformedFileError, match="a path of 2,001 folders"):
            unpack(archive, tmp_path / "out")
        assert time.perf_counter() - start < 5
    assert not (tmp_path / "out").exists()


def test_a_broken_archive_is_a_named_error(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "x.tar.gz", ("a/1.jpg", os.urandom(50_000)), mode="w:gz")
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(MalformedFileError, match="expected a whole tar archive"):
        unpack(archive, tmp_path / "out")
    (tmp_path / "y.tar").write_bytes(b"no archive")
    with pytest.raises(MalformedFileError):
        unpack(tmp_path / "y.tar", tmp_path / "out")
    with pytest.raises(DatasetNotFoundError):
        unpack(tmp_path / "none.tar", tmp_path / "out")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The files on the hub: two shows and one invalid row."""
    folder = tmp_path / "hub"
    folder.mkdir()
    options = {f"a{i}": f"option {i}" for i in range(5)}
    clips = ["s01e01_seg01_clip_00", "castle_s02e02_seg01_clip_00"]
    rows: list[dict[str, Any]] = [
        {"qid": i, "q": "Who ?", **options, "answer": "a1", "occur_clip": clip}
        for i, clip in enumerate(clips)
    ]
    write = {
        "LongTVQA_plus_train.json": [*rows, {**rows[0], "qid": 9, "answer": "a7"}],
        "LongTVQA_plus_val.json": [{**row, "qid": 50 + i} for i, row in enumerate(rows)],
        "LongTVQA_plus_subtitle_clip_level.json": {clips[0]: "Hi <eos> Bye", clips[1]: ""},
    }
    for name, value in write.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    tar_of(folder / "bbt_frames.tar", (f"bbt_frames/{clips[0]}/00001.jpg", JPEG))
    tar_of(folder / "castle_frames.tar.gz", (f"{clips[1]}/00001.jpg", JPEG), mode="w:gz")
    return folder


def test_everything_comes_into_one_folder(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = prepare("longtvqa-plus", out, source=str(source), frames=str(source))
    assert report.questions == {"train": 2, "val": 2}
    assert report.invalid["train"] == 1
    assert (report.videos, report.clips, report.without_text, report.without_frames) == (2, 2, 1, 0)
    assert "expected an answer from 0 to 4" in report.examples[0]
    assert (out / "frames" / "castle_frames" / "castle_s02e02_seg01_clip_00").is_dir()
    assert len(load_dataset(str(out), "val")) == 2
    again = prepare("longtvqa-plus", out, source=str(source), frames=str(source))
    assert again == report


def test_what_models_made_comes_along(source: Path, tmp_path: Path, capsys: Any) -> None:
    seen = {"start_s": 0.0, "end_s": 1.0, "text": "a red door"}
    clips = {"s01e01_seg01_clip_00": [seen], "castle_s02e02_seg01_clip_00": [seen]}
    write_layer(source, Maker("captions", "vlm:x"), clips, {"castle_s02e02_seg01_clip_00": "torn"})
    (source / "layers" / "text-x.json.partial.jsonl").write_text("{}")
    (source / "clips.json").write_text(json.dumps({"frames_fps": 2, "clips": {}}))
    flags = ["longtvqa-plus", "--source", str(source)]
    assert main([*flags, "--out", str(tmp_path / "all")]) == 0
    out, err = capsys.readouterr()
    assert "layers, made by models" in out
    assert "left out: layers/text-x.json.partial.jsonl: describe has not finished" in err
    (layer,) = (tmp_path / "all" / "layers").iterdir()
    assert json.loads(layer.read_text()) == json.loads((source / "layers" / layer.name).read_text())
    videos = load_dataset(str(tmp_path / "all"), "val").videos
    assert [v.clips[0].layer("captions")[0].text for v in videos.values()] == ["a red door"] * 2
    assert {v.frames_fps for v in videos.values()} == {2}
    assert main([*flags, "--out", str(tmp_path / "one"), "--show", "bbt"]) == 0
    kept = json.loads((tmp_path / "one" / "layers" / layer.name).read_text())
    assert (list(kept["clips"]), kept["failed"]) == (["s01e01_seg01_clip_00"], {})


def test_shows_and_timed_subtitles(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("pysubs2")
    srt = tmp_path / "srt"
    srt.mkdir()
    text = "1\n00:01:02,000 --> 00:01:03,000\n(Ann:) Hello\n"
    (srt / "s01e01_seg01_clip_00.srt").write_text(text, encoding="utf-8")
    (srt / "castle_s02e02_seg01_clip_00.srt").touch()
    (srt / "s01e02_seg01_clip_00.srt").write_text("no times", encoding="utf-8")
    report = prepare(
        "longtvqa-plus", tmp_path / "o", source=str(source), shows=["bbt"], timed=str(srt)
    )
    assert (report.videos, report.timed, report.questions["val"]) == (1, 1, 1)
    assert [Path(x.partition(": ")[0]).name for x in report.unread] == ["s01e02_seg01_clip_00.srt"]
    (video,) = load_dataset(str(tmp_path / "o"), "val").videos.values()
    line = video.clips[0].subtitles[0]
    assert (line.text, line.start_s) == ("(Ann:) Hello", 62.0)


def test_what_cannot_be_prepared_is_said(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown dataset 'tvqa'"):
        prepare("tvqa", tmp_path / "o")
    with pytest.raises(SpecError, match="unknown show 'friend'"):
        prepare("longtvqa", tmp_path / "o", shows=["friend"])
    with pytest.raises(DatasetNotFoundError, match="no such folder"):
        prepare("longtvqa", tmp_path / "o", source=str(tmp_path / "none"))


@pytest.mark.parametrize("spec", ["hf:x", "hf:a/b/c", "hf:../b", "hf:a/b@", "hf:a b/c"])
def test_hub_specs_of_another_form(spec: str) -> None:
    with pytest.raises(SpecError, match="expected hf:OWNER/NAME"):
        parse_hub_spec(spec)
    assert parse_hub_spec("hf:a/b@v1.0") == ("a/b", "v1.0")


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub that a download of a dataset needs."""

    folder: Path
    log: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        """Write nothing to standard error."""

    def _answer(self, *, body: bool) -> None:
        self.log.append(self.path)
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        data, status = b"{}", 404
        if self.path.startswith(f"/api/datasets/{REPO}/tree/"):
            files = [(name, (self.folder / name).read_bytes()) for name in names]
            tree = [
                {"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for n, d in files
            ]
            status, data = 200, json.dumps(tree).encode()
        elif self.path.startswith(f"/api/datasets/{REPO}"):
            siblings = [{"rfilename": name} for name in names]
            status, data = (
                200,
                json.dumps({"id": REPO, "sha": COMMIT, "siblings": siblings}).encode(),
            )
        elif (name := self.path.partition(f"/{REPO}/resolve/{COMMIT}/")[2]) in names:
            status, data = 200, (self.folder / name).read_bytes()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(
    source: Path, tmp_path: Path
) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """Run Python against a hub on loopback with the files of `source`."""
    pytest.importorskip("huggingface_hub")
    handler = type("Handler", (Hub,), {"folder": source, "log": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def run(code: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **variables,
        }
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    yield run
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_the_hub_serves_gymnasium_and_prepare_and_then_offline(
    hub: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    make = (
        "import gymnasium, longvideo_env\n"
        f"env = gymnasium.make('LongTVQA-v0', dataset='hf:{REPO}', split='val')\n"
        "print(env.reset(seed=0)[1]['qid'] >= 50, env.unwrapped.dataset.name)"
    )
    done = hub(make)
    assert done.stdout == "True LongTVQA_plus\n", done.stderr
    offline = hub(make, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert offline.stdout == "True LongTVQA_plus\n", offline.stderr
    prepared = hub(
        "from longvideo_env.commands.data.prepare import main\n"
        f"main(['longtvqa-plus', '--out', {str(tmp_path / 'out')!r}, '--frames', 'hf:{REPO}'])"
    )
    assert "clips without frames" in prepared.stdout, prepared.stderr
    assert (tmp_path / "out" / "frames" / "bbt_frames" / "s01e01_seg01_clip_00").is_dir()


@pytest.mark.slow
def test_a_dataset_that_the_hub_does_not_have(
    hub: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    done = hub(
        "from longvideo_env.datasets import load_dataset\n"
        "from longvideo_env.errors import DatasetNotFoundError\n"
        "try: load_dataset('hf:nobody/nothing', 'val')\n"
        "except DatasetNotFoundError as error: print(error)"
    )
    assert (
        "'hf:nobody/nothing' is not in the local cache and cannot be downloaded" in done.stdout
    ), done.stderr


@pytest.mark.slow
def test_a_benchmark_comes_from_the_hub_with_its_subtitles(
    hub: Callable[..., "subprocess.CompletedProcess[str]"], source: Path
) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pysubs2")
    shutil.rmtree(source)
    (source / "videomme").mkdir(parents=True)
    row = {
        "video_id": "001", "videoID": "fFjv93ACGo8", "question_id": "001-1", "duration": "short",
        "domain": "Knowledge", "sub_category": "Law", "task_type": "OCR",
        "question": "What falls?", "options": ["A. x", "B. y", "C. z", "D. w"], "answer": "C",
    }  # fmt: skip
    pd.DataFrame([row]).to_parquet(source / "videomme" / "test-00000-of-00001.parquet")
    with zipfile.ZipFile(source / "subtitle.zip", "w") as packed:
        packed.writestr(
            "subtitle/fFjv93ACGo8.srt", "1\n00:00:02,000 --> 00:00:04,000\na vase falls\n"
        )
    (source / "video.mp4").write_bytes(b"is not fetched")
    load = (
        "from longvideo_env.datasets import load_dataset\n"
        f"dataset = load_dataset('videomme:hf:{REPO}', 'test')\n"
        "(line,) = dataset.video(dataset[0]).clips[0].subtitles\n"
        "print([(t.qid, t.gold.answer) for t in dataset], line.text)"
    )
    done = hub(load)
    assert done.stdout == "[('001-1', 2)] a vase falls\n", done.stderr
    offline = hub(load, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert offline.stdout == done.stdout, offline.stderr
