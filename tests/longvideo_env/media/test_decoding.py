import codecs
from pathlib import Path

import pytest

pytest.importorskip("chardet")
pytest.importorskip("pysubs2")

from longvideo_env.errors import MalformedFileError
from longvideo_env.media.captions.decoding import decode
from longvideo_env.media.subtitles import read_subtitles

SAID = {
    "cp1252": [
        "café",
        "Où est-il ? Je n'ai pas vu la clé près de la fenêtre.\nÇa va être drôle.",
        "Ich weiß, daß die Tür offen ist.\nÜber Nacht.",
        "¿Dónde está el niño? Mañana.\n¡Qué rápido!",
        "São Paulo não é aqui.",
        "Blåbærgrød",
        "I don’t know — he said “hello”.",  # noqa: RUF001
    ],
    "gb18030": ["你好", "我不知道他在哪里。\n我们明天再见吧。", "门开着，谁在那里？\n快跑！"],  # noqa: RUF001
    "big5": ["你好", "我不知道他在哪裡。\n我們明天再見吧。", "門開著，誰在那裡？\n快跑！"],  # noqa: RUF001
    "shift_jis": ["こんにちは", "彼がどこにいるか分からない。", "ドアが開いている。誰だ？"],  # noqa: RUF001
    "cp1251": ["Где он? Я не знаю.\nУвидимся завтра."],  # noqa: RUF001
    "cp1250": ["Gdzie jest klucz? Może w szufladzie, Łódź płynie.", "Přítel šel k řece."],
    "koi8_r": ["Где он? Я не знаю.\nУвидимся завтра."],  # noqa: RUF001
    "cp866": ["Где он? Я не знаю.\nУвидимся завтра."],  # noqa: RUF001
    "cp1253": ["Πού είναι το κλειδί;\nΔεν το ξέρω, ίσως στο συρτάρι."],  # noqa: RUF001
    "cp1254": ["Anahtar nerede?\nBilmiyorum, belki çekmecededir. Şimdi gidiyoruz, değil mi?"],
    "cp1255": ["איפה המפתח?\nאני לא יודע, אולי במגירה."],  # noqa: RUF001
    "cp1256": ["أين المفتاح؟\nلا أعرف، ربما في الدرج."],  # noqa: RUF001
    "cp874": ["กุญแจอยู่ที่ไหน\nฉันไม่รู้ อาจจะอยู่ในลิ้นชัก"],
    "euc_jp": ["彼がどこにいるか分からない。", "ドアが開いている。誰だ？"],  # noqa: RUF001
    "iso2022_jp": ["彼がどこにいるか分からない。"],
    "iso8859_2": ["Gdzie jest klucz? Może w szufladzie, Łódź płynie.\nŚwiatło już gaśnie."],
    "euc_kr": ["그가 어디 있는지 모르겠어.\n내일 봐요."],
}
UNICODE = [
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-le",
    "utf-32-be",
]


def srt(said: str) -> str:
    rows = enumerate(said.split("\n"), 1)
    return "".join(f"{i}\n00:00:0{i},000 --> 00:00:0{i},900\n{row}\n\n" for i, row in rows)


@pytest.mark.parametrize(("encoding", "said"), [(e, s) for e in SAID for s in SAID[e]])
def test_encodings_are_told_apart(tmp_path: Path, encoding: str, said: str) -> None:
    path = tmp_path / "x.srt"
    for written in (encoding, *UNICODE):
        path.write_bytes(srt(said).encode(written))
        found = read_subtitles(path)
        assert [line.text for line in found.lines] == said.split("\n"), written
        assert found.problems == ()
        if written == "utf-16-be":
            path.write_bytes(codecs.BOM_UTF16_BE + path.read_bytes())
            assert [line.text for line in read_subtitles(path).lines] == said.split("\n")


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.srt"
    path.write_bytes(srt("门").encode("gb18030"))
    with pytest.raises(MalformedFileError, match=r"it may be .*gb18030.*--encoding"):
        read_subtitles(path)
    assert read_subtitles(path, "gb18030").lines[0].text == "门"
    with pytest.raises(MalformedFileError, match="expected text in nonsense"):
        read_subtitles(path, "nonsense")
    path.write_bytes(bytes(range(1, 256)) * 3)
    with pytest.raises(MalformedFileError, match=r"it is neither|it may be"):
        read_subtitles(path)


def test_a_few_broken_characters_in_utf8_are_named() -> None:
    text = srt("Où est la clé ? À côté de la fenêtre, près du café.")
    data = text.encode()
    for broken in (data.replace("É".encode(), b"") + "é".encode()[:1], b"\xff" + data):
        found, encoding, problems = decode(broken, None, Path("x"))
        assert encoding == "utf-8"
        assert "Où est la clé" in found
        assert len(problems) == 1


def test_a_slip_between_two_scripts_changes_nothing() -> None:
    said = "Мајку му, Aлекс! Великoг пса дa нађемо.\nКроз векове, крећући се тихо међу вама."  # noqa: RUF001
    assert decode(srt(said).encode("cp1251"), None, Path("x"))[:2] == (srt(said), "cp1251")


def test_a_whole_line_in_another_encoding_is_not_guessed() -> None:
    data = "é".encode() + b" abc " + "déjà vu à côté".encode("cp1252")
    with pytest.raises(MalformedFileError):
        decode(data, None, Path("x"))
