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
    assert "vision captions" in shown
    assert "(leaky)" in shown


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main(["show", str(tmp_path / "none.sqlite")]) == 2
    assert main(["import", str(tmp_path / "b.sqlite"), str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
