import json
import shutil
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")
Image = pytest.importorskip("PIL.Image")

from longvideo_env.commands.data.ingest import IngestOptions, cut_spans, ingest, main  # noqa: E402
from longvideo_env.datasets.own.ingested import load_videos  # noqa: E402
from longvideo_env.errors import DatasetNotFoundError, MalformedFileError, SpecError  # noqa: E402
from longvideo_env.media.film import FilmInfo, survey  # noqa: E402
from longvideo_env.media.frames import list_frames  # noqa: E402

SRT = "1\n00:00:00,500 --> 00:00:01,500\nAnn : hello\n\n2\n00:00:05,000 --> 00:00:06,000\nlast\n"


def picture(shade: int, size: tuple[int, int] = (64, 32)) -> np.ndarray:
    """A picture with a white left half and a grey right half."""
    image = np.full((size[1], size[0], 3), shade, np.uint8)
    image[:, : size[0] // 2] = 255
    return image


def write_film(path: Path, times_ms: list[int], shades: list[int] | None = None) -> Path:
    """A film with one picture at each given time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.time_base = Fraction(1, 1000)
        container.start_encoding()
        for i, time in enumerate(times_ms):
            shade = shades[i] if shades else 0
            frame = av.VideoFrame.from_ndarray(picture(shade), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path, seconds: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        for i in range(seconds * 8):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1000), np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = 8000, i * 1000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shade_of(path: Path) -> int:
    """The brightness of the right half."""
    return int(pixels(path)[:, -8:].mean())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


@pytest.mark.slow
def test_the_film_of_the_pack(shared_data: Path, tmp_path: Path) -> None:
    video = shared_data / "video"
    options = IngestOptions(clip_s=20, longest_side=96, fps=1)
    out = tmp_path / "film"
    record = ingest(
        video / "tears-of-steel-battle.webm",
        out,
        subtitles=video / "sintel-en.vtt",
        options=options,
    )
    assert (record["clips"], record["frames"], record["subtitles"]) == (4, 71, 14)
    assert record["length_s"] == pytest.approx(70.54, abs=0.05)
    (film,) = load_videos(out).values()
    assert film.frames_fps == 1
    assert [(clip.start_s, clip.end_s) for clip in film.clips[:2]] == [(0, 20), (20, 40)]
    frames = list_frames(film, film.clip_ids[1])
    assert [frame.time_s for frame in frames] == list(range(20))
    assert pixels(frames[0].path).shape == (40, 96)
    assert film.clips[1].subtitles[0].text == "This blade has a dark past."
    assert film.clips[1].subtitles[0].start_s == 0.0


def test_a_variable_frame_rate_goes_by_time_stamps(tmp_path: Path) -> None:
    # Shade 0 until 2 s in many pictures, then one picture of shade 100 that stays until 5 s.
    times = [*range(0, 2000, 100), 2000, 5000]
    film = write_film(tmp_path / "f.mkv", times, [0] * 20 + [100, 200])
    ingest(film, tmp_path / "out", options=IngestOptions(clip_s=3, fps=1))
    shades = [shade_of(p) for p in sorted((tmp_path / "out").rglob("*.jpg"))]
    assert shades == pytest.approx([0, 0, 100, 100, 100, 200], abs=12)


def test_a_film_that_starts_late_counts_from_its_start(tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mkv", list(range(10_000, 14_000, 250)))
    info = survey(film, 3)
    assert info.first_picture_s == pytest.approx(0, abs=0.1)
    assert info.length_s == pytest.approx(4, abs=0.4)


def test_a_turned_film_comes_out_upright(tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mp4", list(range(0, 2000, 200)))
    data = bytearray(film.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    # 90 degrees clockwise, as a phone held upright writes it.
    turn = (0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *turn)
    film.write_bytes(data)
    ingest(film, tmp_path / "out", options=IngestOptions(fps=1))
    image = pixels(next((tmp_path / "out").rglob("00001.jpg")))
    assert image.shape == (64, 32)
    # The white left half lies at the top after a turn clockwise.
    assert image[:24].mean() > 200 > 60 > image[-24:].mean()


def test_a_truncated_film_is_an_error_unless_partial(tmp_path: Path, capsys: Any) -> None:
    rng = np.random.default_rng(0).integers(0, 255, 200).tolist()
    film = write_film(tmp_path / "f.mkv", list(range(0, 20_000, 100)), rng)
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(MalformedFileError, match=r"breaks off after .* of 19\.9 s .*--partial"):
        ingest(film, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    record = ingest(film, tmp_path / "out", options=IngestOptions(partial=True, fps=1))
    assert 5 < record["length_s"] < 15
    assert record["fault"]
    assert main([str(film), "--out", str(tmp_path / "again"), "--partial", "--fps", "1"]) == 0
    assert f"breaks off after {record['length_s']:.1f} s" in capsys.readouterr().err


def test_sound_with_subtitles_is_a_film_without_frames(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "talk.wav", 7)
    (tmp_path / "t.srt").write_text(SRT, encoding="utf-8")
    record = ingest(
        sound, tmp_path / "out", subtitles=tmp_path / "t.srt", options=IngestOptions(clip_s=4)
    )
    assert (record["clips"], record["frames"], record["length_s"]) == (2, 0, 7.0)
    (video,) = load_videos(tmp_path / "out").values()
    assert [[line.text for line in clip.subtitles] for clip in video.clips] == [
        ["Ann : hello"],
        ["last"],
    ]
    with pytest.raises(MalformedFileError, match="neither pictures nor subtitles"):
        ingest(sound, tmp_path / "bare")


def test_pictures_may_end_before_the_sound_or_start_after_it(tmp_path: Path) -> None:
    path = tmp_path / "f.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000)
        sound.layout = "mono"
        for i in range(40):
            shown = av.VideoFrame.from_ndarray(picture(0), format="rgb24")
            shown.pts, shown.time_base = 30 + i, Fraction(1, 10)
            container.mux(video.encode(shown))
        container.mux(video.encode(None))
        for i in range(96):
            heard = av.AudioFrame.from_ndarray(
                np.zeros((1, 1000), np.int16), format="s16", layout="mono"
            )
            heard.sample_rate, heard.pts = 8000, i * 1000
            container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
    record = ingest(path, tmp_path / "out", options=IngestOptions(clip_s=4, fps=1))
    assert (record["length_s"], record["clips"], record["fault"]) == (12.0, 3, None)
    found = sorted(
        p.relative_to(tmp_path / "out/frames") for p in (tmp_path / "out").rglob("*.jpg")
    )
    assert list(map(str, found)) == [
        "f_seg01_clip_00/00004.jpg",
        "f_seg01_clip_01/00001.jpg",
        "f_seg01_clip_01/00002.jpg",
        "f_seg01_clip_01/00003.jpg",
    ]


def test_a_film_without_subtitles_has_clips_and_captions(tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mkv", list(range(0, 8000, 500)))
    (tmp_path / "c.srt").write_text(SRT, encoding="utf-8")
    ingest(
        film, tmp_path / "out", captions=tmp_path / "c.srt", options=IngestOptions(clip_s=4, fps=1)
    )
    (video,) = load_videos(tmp_path / "out").values()
    assert [clip.subtitles for clip in video.clips] == [(), ()]
    assert [clip.captions[0].text for clip in video.clips] == ["Ann : hello", "last"]


def write_covered(path: Path, cover_first: bool) -> Path:
    """A film of 3 s with a large cover picture, as some programs add it."""
    with av.open(str(path), "w") as container:
        for is_cover in (cover_first, not cover_first):
            stream = container.add_stream("mpeg4", rate=4)
            stream.width, stream.height = (320, 320) if is_cover else (64, 32)
            stream.pix_fmt = "yuv420p"
        for stream in container.streams.video:
            size = (stream.width, stream.height)
            for i in range(1 if stream.width == 320 else 12):
                frame = av.VideoFrame.from_ndarray(picture(0, size), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 4)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["f.mkv", "f.mp4", "f.ts"])
@pytest.mark.parametrize("cover_first", [True, False])
def test_a_cover_picture_is_no_film(tmp_path: Path, name: str, cover_first: bool) -> None:
    film = write_covered(tmp_path / name, cover_first)
    record = ingest(film, tmp_path / "out", options=IngestOptions(fps=1))
    assert record["length_s"] == pytest.approx(3, abs=0.3)
    image = pixels(next((tmp_path / "out").rglob("00001.jpg")))
    assert image.shape == (32, 64)


@pytest.mark.parametrize("name", ["-film.mkv", "pipe:0.mkv", "http:x.mkv", "-", "a%03d.mkv"])
def test_names_that_a_program_could_take_for_something_else(
    tmp_path: Path, name: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "x.mkv", list(range(0, 2000, 500))).rename(tmp_path / name)
    (tmp_path / "-s.srt").write_text(SRT, encoding="utf-8")
    assert main([name, "--out", "out", "--subtitles", "-s.srt", "--fps", "1"]) == 0
    assert "1 clips, 2 frames, 2 subtitles" in capsys.readouterr().out


def test_a_playlist_called_film_opens_nothing_elsewhere(tmp_path: Path) -> None:
    film = tmp_path / "f.m3u8"
    film.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n")
    with pytest.raises(MalformedFileError, match="a playlist"):
        ingest(film, tmp_path / "out")


def test_what_is_not_read_of_the_subtitles_is_said(tmp_path: Path, capsys: Any) -> None:
    film = write_film(tmp_path / "f.mkv", list(range(0, 8000, 500)))
    text = SRT + "\n3\n00:00:0x,000 --> 00:00:07,000\nlost\n"
    (tmp_path / "f.srt").write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    assert main([str(film), "--out", str(out), "--subtitles", str(tmp_path / "f.srt")]) == 0
    printed = capsys.readouterr().out
    assert "subtitles: 2 lines read, 1 not: line 10: its times cannot be read" in printed
    assert len(json.loads((out / "film.json").read_text())["not_read"]["subtitles"]) == 1


def test_a_folder_of_films_goes_on_where_it_was_stopped(tmp_path: Path, capsys: Any) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    for name in ("a.mkv", "b.mkv", "-c.mp4"):
        write_film(films / name, list(range(0, 2000, 500)))
    (films / "d.mkv").write_bytes(b"broken")
    (films / "notes.txt").touch()
    (films / "a.info.json").write_text("{}")
    (films / "a.en.srt").write_text(SRT, encoding="utf-8")
    (films / "a.de.srt").write_text("", encoding="utf-8")
    arguments = [str(films), "--out", str(out), "--fps", "1"]
    assert main(arguments) == 3
    printed = capsys.readouterr()
    assert "3 of 4 films are ready" in printed.out
    assert "d.mkv: expected a film" in printed.err
    assert sorted(path.name for path in out.iterdir()) == ["-c", "a", "b"]
    assert json.loads((out / "a/film.json").read_text())["subtitles"] == 2
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}

    shutil.rmtree(out / "b")
    write_film(films / "d.mkv", list(range(0, 2000, 500)))
    assert main(arguments) == 0
    assert "a: " not in capsys.readouterr().out  # it existed already
    assert sorted(path.name for path in out.iterdir()) == ["-c", "a", "b", "d"]
    assert all(p.stat().st_mtime_ns == t for p, t in made.items() if p.parts[-4] != "b")
    assert main([str(films), "--out", str(out), "--fps", "2"]) == 3  # other options: unchanged
    assert "not an empty folder" in capsys.readouterr().err


def test_subtitles_beside_a_film_are_taken_unless_none_are_wanted(
    tmp_path: Path, capsys: Any
) -> None:
    film = write_film(tmp_path / "f.mp4", list(range(0, 4000, 500)))
    (tmp_path / "f.en.srt").write_text(SRT, encoding="utf-8")
    arguments = [str(film), "--fps", "1", "--speech", "none", "--out"]
    assert main([*arguments, str(tmp_path / "a")]) == 0
    assert "f.en.srt beside the film" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "b"), "--subtitles", "none"]) == 0
    assert "0 subtitles" in capsys.readouterr().out
    assert main([str(tmp_path), *arguments[1:], str(tmp_path / "c"), "--subtitles", "none"]) == 0
    assert "0 subtitles" in capsys.readouterr().out
    with_lines, without = (
        json.loads((tmp_path / name / "film.json").read_text())["subtitles"] for name in "ab"
    )
    assert with_lines > 0 == without


def test_a_film_of_no_pictures(tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mp4", [])
    with pytest.raises(MalformedFileError, match="neither a video nor an audio stream"):
        ingest(film, tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"not a film", b"\x1aE\xdf\xa3" + b"\0" * 50])
def test_what_is_no_film(tmp_path: Path, data: bytes, capsys: Any) -> None:
    (tmp_path / "x.mkv").write_bytes(data)
    assert main([str(tmp_path / "x.mkv"), "--out", str(tmp_path / "out")]) == 1
    assert "x.mkv: expected" in capsys.readouterr().err
    with pytest.raises(DatasetNotFoundError):
        ingest(tmp_path / "none.mkv", tmp_path / "out")


def test_scenes_are_cut_where_the_picture_changes_most() -> None:
    info = FilmInfo(25.0, 25.0, 75, 0.0, ((3.0, 0.9), (7.0, 0.5), (8.0, 0.1), (15.0, 0.3)))
    spans = cut_spans(info, IngestOptions(clip_s=10, scenes=True))
    assert spans == [(0.0, 7.0), (7.0, 15.0), (15.0, 25.0)]
    assert cut_spans(info, IngestOptions(clip_s=10)) == [(0.0, 10.0), (10.0, 20.0), (20.0, 25.0)]


def test_ten_thousand_clips_in_one_video(tmp_path: Path) -> None:
    spans = cut_spans(FilmInfo(36_000, None, 1, 0.0), IngestOptions(clip_s=3.6))
    assert len(spans) == 10_000
    clips = {
        f"long_seg01_clip_{i:05d}": {"start_s": a, "end_s": b} for i, (a, b) in enumerate(spans)
    }
    (tmp_path / "clips.json").write_text(json.dumps({"clips": clips}), encoding="utf-8")
    (video,) = load_videos(tmp_path).values()
    assert len(video.clips) == 10_000
    assert video.clips[9_999].end_s == 36_000
    assert len(video.window(video.clip_ids[5000], 5)) == 5


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(SpecError, match="not an empty folder"):
        ingest(tmp_path / "film.mkv", tmp_path)
    with pytest.raises(SpecError, match="clip_s must be 1 to 3600"):
        IngestOptions(clip_s=0)
