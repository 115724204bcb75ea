"""Fake films that name other files or addresses are refused, and nothing else is opened."""

import os
import tarfile
from io import BytesIO

import pytest

av = pytest.importorskip("av")

from longvideo_env.datasets.fetching.archives import unpack  # noqa: E402
from longvideo_env.errors import DataError, MalformedFileError  # noqa: E402
from longvideo_env.media.film import survey  # noqa: E402

LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "hls from an address": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "dash": '<!-- a --><MPD type="static"><Period><BaseURL>secret.mp4</BaseURL></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\nc=IN IP4 127.0.0.1\n",
    "concat": "concat:secret.mp4|secret.mp4",
    "subfile": "subfile,,start,0,end,9,,:secret.mp4",
}


@pytest.fixture
def secret(tmp_path):
    with av.open(str(tmp_path / "secret.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    assert survey(tmp_path / "secret.mp4", 1.0).n_pictures == 10
    return tmp_path


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("before", ["", "\n" * 100])
def test_a_list_called_a_film_is_refused(secret, kind, before):
    film = secret / "film.mp4"
    film.write_text(before + LISTS[kind])
    with pytest.raises(MalformedFileError, match="expected a film"):
        survey(film, 1.0)


@pytest.mark.parametrize("name", ["concat:a.mp4", "http:__a.mp4", "subfile,,start,0,end,9,,:x"])
def test_a_name_is_never_an_address(secret, name, monkeypatch):
    monkeypatch.chdir(secret)
    os.rename("secret.mp4", name)
    from pathlib import Path

    assert survey(Path(name), 1.0).n_pictures == 10


def test_a_member_below_thousands_of_folders_is_named(tmp_path):
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("a/" * 2000 + "00001.jpg")
        info.size = 1
        tar.addfile(info, BytesIO(b"x"))
    with pytest.raises(DataError, match="a path of 2,001 folders"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
