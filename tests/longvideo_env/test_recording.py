import asyncio
import dataclasses
import multiprocessing
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longvideo_env import EnvConfig, load_dataset
from longvideo_env.errors import RecordingError, RecordingMissError, SpecError, ToolError
from longvideo_env.testing import grounding_call, toolbox_of, vision_call
from longvideo_env.tools.keys import call_key
from longvideo_env.tools.recording import (
    Recording,
    export_calls,
    import_calls,
    open_recording,
)
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import ToolReply
from longvideo_env.tools.with_gold import OracleGrounding, UnsafeBoxes


class Counting:
    """Replies after a moment, and counts its calls."""

    immediate = False

    def __init__(self, value="a mug", error=None):
        self.value = value
        self.error = error
        self.asked = 0
        self.boxes = None

    async def look(self, request, /):
        self.asked += 1
        mine = self.asked
        self.boxes = request.boxes
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return ToolReply(f"{self.value} {mine}", details={"n": mine})

    ground = look


def look(question, film, query="who", **fields):
    return vision_call(question, film, query, film.clip_ids[:1], **fields)


def play(toolbox, *requests):
    async def together():
        return await asyncio.gather(*(toolbox.call(request) for request in requests))

    return asyncio.run(together())


def recorded(agent, path, mode):
    recording = Recording(path, mode)
    return toolbox_of(vision=agent, specs={"vision": "counting"}, recording=recording)


def test_equal_calls_under_way_are_asked_once(tmp_path, question, film):
    agent = Counting()
    toolbox = recorded(agent, tmp_path / "calls.sqlite", "reuse")
    request = look(question, film)
    results = play(toolbox, *[request] * 8, look(question, film, "where"))
    assert agent.asked == 2
    assert {result.reply.text for result in results[:8]} == {"a mug 1"}
    assert play(toolbox, request)[0].reply.text == "a mug 1"
    stats = toolbox.recording.stats
    assert (stats.hits, stats.shared, stats.asked) == (1, 7, 2)
    assert stats.hit_rate == 0.8


def test_replay_gives_what_was_recorded_and_refuses_the_rest(tmp_path, question, film):
    path = tmp_path / "calls.sqlite"
    play(recorded(Counting(), path, "record"), look(question, film))
    agent = Counting()
    toolbox = recorded(agent, path, "replay")
    known, unknown = play(toolbox, look(question, film), look(question, film, "where"))
    assert (known.reply.text, dict(known.reply.details)) == ("a mug 1", {"n": 1})
    assert not unknown.ok
    assert "does not hold this call" in unknown.error
    assert agent.asked == 0


def test_record_asks_anew_but_once_for_each_call(tmp_path, question, film):
    path = tmp_path / "calls.sqlite"
    play(recorded(Counting("old"), path, "record"), look(question, film))
    toolbox = recorded(Counting("new"), path, "record")
    for _ in range(2):
        assert play(toolbox, look(question, film))[0].reply.text == "new 1"
    assert play(recorded(Counting(), path, "replay"), look(question, film))[0].reply.text == "new 1"


def test_failures_are_shared_but_never_recorded(tmp_path, question, film):
    agent = Counting(error=ToolError("down"))
    toolbox = recorded(agent, tmp_path / "calls.sqlite", "reuse")
    results = play(toolbox, *[look(question, film)] * 3)
    assert [result.error for result in results] == ["down"] * 3
    assert agent.asked == 1
    agent.error = None
    assert play(toolbox, look(question, film))[0].ok
    assert len(toolbox.recording) == 1


def test_who_waits_asks_when_the_one_who_asked_is_cancelled(tmp_path, question, film):
    agent = Counting()
    toolbox = recorded(agent, tmp_path / "calls.sqlite", "reuse")

    async def cancelled():
        first = asyncio.ensure_future(toolbox.call(look(question, film)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(toolbox.call(look(question, film)))
        await asyncio.sleep(0.001)
        first.cancel()
        return await second

    assert asyncio.run(cancelled()).ok
    assert agent.asked == 2


def test_a_recording_cannot_smuggle_in_a_clip(tmp_path, question, film):
    recording = Recording(tmp_path / "calls.sqlite", "reuse")
    toolbox = toolbox_of(Counting(), specs={"grounding": "counting"}, recording=recording)
    request = grounding_call(question, film)
    recording.put(
        call_key(toolbox.agents["grounding"], "counting", request),
        ToolReply(view="../../etc/passwd"),
    )
    assert "not a clip of video" in play(toolbox, request)[0].error


def test_the_oracles_choices_are_not_recorded(tmp_path):
    dataset = load_dataset("embedded", "train")
    config = EnvConfig(
        grounding="oracle", recording="reuse", recording_file=str(tmp_path / "calls.sqlite")
    )
    toolbox = build_toolbox(config, dataset)
    assert isinstance(toolbox.agents["grounding"], OracleGrounding)
    task = dataset.tasks[0]
    assert play(toolbox, grounding_call(task.question, dataset.video(task)))[0].ok
    assert play(toolbox, look(task.question, dataset.video(task)))[0].ok
    (line,) = export_calls(tmp_path / "calls.sqlite")
    assert '"tool":"look"' in line


def test_keys_go_by_content(question, film):
    def key(question=question, film=film, visited=film.clip_ids[:2], seed=1):
        return call_key(Counting(), "spec", grounding_call(question, film, None, visited, seed))

    assert key() == key(visited=film.clip_ids[:2][::-1])
    assert key() != key(visited=film.clip_ids[1:3])
    other = dataclasses.replace(question, options=(*question.options[1:], question.options[0]))
    assert key() != key(question=other)
    clip = dataclasses.replace(film.clips[0], subtitles=())
    changed = dataclasses.replace(film, clips=(clip, *film.clips[1:]))
    assert key() != key(film=changed)
    assert key() == key(seed=2), "the seed joins the key when it is read"


def test_export_and_import_are_inverses(tmp_path, question, film):
    toolbox = recorded(Counting(), tmp_path / "a.sqlite", "reuse")
    play(toolbox, *(look(question, film, query) for query in ("who", "żółw 🐢", "?!")))
    lines = list(export_calls(tmp_path / "a.sqlite"))
    assert import_calls(tmp_path / "b.sqlite", iter(lines)) == 3
    assert list(export_calls(tmp_path / "b.sqlite")) == lines
    assert import_calls(tmp_path / "b.sqlite", iter(lines)) == 0
    with pytest.raises(RecordingError, match="line 1: the key"):
        import_calls(tmp_path / "b.sqlite", iter([lines[0].replace('"query":"', '"query":"x')]))


@settings(max_examples=30)
@given(line=st.text(max_size=60))
def test_lines_that_are_no_calls_are_named(tmp_path_factory, line):
    with pytest.raises(RecordingError, match="line 1"):
        import_calls(tmp_path_factory.mktemp("r") / "calls.sqlite", iter([line]))


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="does not exist"):
        Recording(tmp_path / "none.sqlite", "replay")
    (tmp_path / "text").write_text("no database, " * 100)
    with pytest.raises(RecordingError, match="cannot be opened"):
        Recording(tmp_path / "text", "reuse")
    newer = sqlite3.connect(tmp_path / "newer.sqlite")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(RecordingError, match="format 99"):
        Recording(tmp_path / "newer.sqlite", "reuse")
    with pytest.raises(RecordingError, match="expected one of the modes"):
        Recording(tmp_path / "x", "off")
    with pytest.raises(SpecError, match="needs a file"):
        build_toolbox(EnvConfig(recording="reuse"), load_dataset("embedded", "val"))
    with pytest.raises(SpecError, match="recording must be one of"):
        EnvConfig(recording="on")


def test_everybody_in_a_process_gets_the_same_one(tmp_path):
    first = open_recording(tmp_path / "a.sqlite", "reuse")
    assert open_recording(str(tmp_path / "a.sqlite"), "reuse") is first


def _write(path, start):
    recording = Recording(path, "reuse")
    for i in range(start, start + 40):
        recording.put({"i": i}, ToolReply(str(i)), replace=False)


@pytest.mark.slow
def test_several_processes_write_at_once(tmp_path):
    path = tmp_path / "calls.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(path, start)) for start in (0, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(Recording(path, "replay")) == 60


def test_boxes_reach_the_agent_only_where_they_are_asked_for(tmp_path, question, film):
    agent = Counting()
    wrapped = UnsafeBoxes(agent, {str(question.qid): (film.clip_ids[0], ("mug", "Sheldon"))})
    toolbox = recorded(wrapped, tmp_path / "calls.sqlite", "reuse")
    (result,) = play(toolbox, look(question, film))
    assert agent.boxes == ("mug", "Sheldon")
    assert result.reply.details["leaky"] is True
    (line,) = export_calls(tmp_path / "calls.sqlite")
    assert '"leaky":true' in line
    elsewhere = vision_call(question, film, "who", film.clip_ids[1:2])
    play(toolbox, elsewhere)
    assert agent.boxes == ()


def test_a_miss_in_replay_is_an_error_of_its_own(tmp_path):
    path = tmp_path / "calls.sqlite"
    Recording(path, "reuse").put({"a": 1}, ToolReply("x"))

    async def never():
        raise AssertionError("asked")

    replayed = Recording(path, "replay")
    with pytest.raises(RecordingMissError):
        asyncio.run(replayed.call({"a": 2}, never))
    assert (replayed.stats.asked, replayed.stats.not_recorded) == (0, 1)
    assert str(replayed.stats) == "1 not recorded"


class Drawing(Counting):
    """Uses the seed to make a choice."""

    async def look(self, request, /):
        self.asked += 1
        await asyncio.sleep(0.01)
        return ToolReply(f"drawn {request.seed}" if request.query == "draw" else "fixed")


def test_a_seed_counts_only_where_an_agent_reads_it(tmp_path, question, film):
    def asks(query):
        return [look(question, film, query, seed=seed) for seed in (1, 2, 3, 1)]

    path = tmp_path / "calls.sqlite"
    for mode, asked in (("reuse", 4), ("reuse", 0), ("record", 4), ("replay", 0)):
        agent = Drawing()
        toolbox = toolbox_of(vision=agent, recording=Recording(path, mode))
        drawn, fixed = play(toolbox, *asks("draw")), play(toolbox, *asks("say"))
        said = [r.reply.text for r in drawn]
        assert said == ["drawn 1", "drawn 2", "drawn 3", "drawn 1"]
        assert {r.reply.text for r in fixed} == {"fixed"}
        assert agent.asked == asked
        stats = toolbox.recording.stats
        assert stats.hits + stats.shared + stats.asked == 8
        assert len(toolbox.recording) == 4
    lines = list(export_calls(path))
    import_calls(tmp_path / "again.sqlite", iter(lines))
    assert list(export_calls(tmp_path / "again.sqlite")) == lines
    again = toolbox_of(
        vision=Drawing(), recording=open_recording(tmp_path / "again.sqlite", "replay")
    )
    assert all(r.ok for r in play(again, *asks("draw"), *asks("say")))


def test_a_recording_of_the_first_format_is_refused(tmp_path):
    old = sqlite3.connect(tmp_path / "old.sqlite")
    old.execute("PRAGMA user_version=1")
    old.close()
    with pytest.raises(RecordingError, match=r"format 1, with other keys.* Fix: record into"):
        Recording(tmp_path / "old.sqlite", "reuse")
