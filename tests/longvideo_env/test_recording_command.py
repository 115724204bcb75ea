import json

from longvideo_env.commands.recordings import main
from longvideo_env.tools.recording import Recording, export_calls
from longvideo_env.tools.tool import ToolReply


def test_a_recording_goes_out_and_comes_back(tmp_path, capsys):
    recording = Recording(tmp_path / "a.sqlite", "reuse")
    recording.put({"kind": "vision", "agent": "captions"}, ToolReply("x"))
    recording.put({"kind": "vision", "agent": "eyes", "leaky": True}, ToolReply("y"))
    file, back, lines = (str(tmp_path / name) for name in ("a.sqlite", "b.sqlite", "a.jsonl"))
    assert main(["export", file, "--out", lines]) == 0
    assert main(["import", back, lines]) == 0
    assert "2 new calls" in capsys.readouterr().out
    assert list(export_calls(back)) == list(export_calls(file))
    assert main(["show", back]) == 0
    shown = capsys.readouterr().out
    assert "2 calls" in shown
    assert main(["show", back, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows == [
        {"kind": "vision", "agent": "captions", "model": None, "leaky": None, "calls": 1},
        {"kind": "vision", "agent": "eyes", "model": None, "leaky": "yes", "calls": 1},
    ]


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main(["show", str(tmp_path / "none.sqlite")]) == 1
    assert main(["import", str(tmp_path / "b.sqlite"), str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.count("\n") == 2
