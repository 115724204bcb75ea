import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.errors import TrajectoryError
from longvideo_env.records.trajectory import (
    Segment,
    Timings,
    Trajectory,
    TurnRecord,
    read_trajectories,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SEGMENTS = st.builds(
    Segment,
    st.sampled_from(["system", "user", "assistant", "prompt"]),
    TEXT,
    st.booleans(),
    st.integers(0, 9),
    st.none() | st.lists(st.integers(0, 200_000)).map(tuple),
    st.none() | st.lists(FLOATS).map(tuple),
)
TURNS = st.builds(
    TurnRecord,
    st.integers(1, 9),
    st.none() | st.sampled_from(["look", "ground", "answer"]),
    st.none() | TEXT,
    st.none() | st.just("unclosed"),
    st.none() | st.fixed_dictionaries({"kind": st.just("vision"), "query": TEXT}),
    st.none() | st.fixed_dictionaries({"value": TEXT, "details": st.just({"n": 1})}),
)
TRAJECTORIES = st.builds(
    Trajectory,
    qid=st.integers() | TEXT,
    video_id=TEXT,
    policy=TEXT,
    sample=st.integers(0, 99),
    seed=st.integers(0, 2**63 - 1),
    status=st.sampled_from(["answered", "out_of_turns", "out_of_context", "failed"]),
    n_options=st.integers(2, 8),
    turns=st.lists(TURNS).map(tuple),
    segments=st.lists(SEGMENTS).map(tuple),
    visited=st.lists(TEXT).map(tuple),
    choice=st.none() | st.integers(0, 7),
    option_order=st.none() | st.permutations(range(5)).map(tuple),
    error=st.none() | TEXT,
    first=st.none() | TURNS,
    correct=st.none() | st.booleans(),
    grounded=st.none() | st.booleans(),
    reward=st.none() | FLOATS,
    reward_terms=st.dictionaries(TEXT, FLOATS),
    timings=st.builds(Timings, FLOATS),
)


@given(TRAJECTORIES)
def test_round_trip(trajectory):
    line = trajectory.to_json()
    assert "\n" not in line
    again = Trajectory.from_json(line)
    assert again == trajectory
    assert again.timings == trajectory.timings
    assert again.to_json() == line


@given(TRAJECTORIES)
def test_without_timings_equal_episodes_are_equal_bytes(trajectory):
    assert "timings" not in json.loads(trajectory.to_json(timings=False))
    assert Trajectory.from_json(trajectory.to_json(timings=False)) == trajectory


def example():
    return Trajectory(
        1, "v", "random", 0, 7, "answered", 5, (TurnRecord(1),), (Segment("user", "x"),)
    )


def test_keys_at_the_top():
    assert {"qid", "policy", "status", "segments", "reward"} <= set(json.loads(example().to_json()))


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "null", "{}", '{"schema_version": 99}', '{"schema_version": 1}', "ż"]
)
def test_lines_that_are_no_trajectory(line):
    with pytest.raises(TrajectoryError):
        Trajectory.from_json(line)


def test_a_segment_without_text_is_named():
    record = json.loads(example().to_json())
    record["segments"][0]["text"] = None
    with pytest.raises(TrajectoryError, match="expected a segment's text, got None"):
        Trajectory.from_json(json.dumps(record))


@given(st.integers(1, 200))
def test_torn_lines_are_found_out(n):
    line = example().to_json()
    with pytest.raises(TrajectoryError):
        Trajectory.from_json(line[: min(n, len(line) - 1)])


def test_reading_a_file_names_the_line(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.write_text(example().to_json() + "\n{}\n", encoding="utf-8")
    episodes = read_trajectories(path)
    assert next(episodes) == example()
    with pytest.raises(TrajectoryError, match=r"episodes\.jsonl, line 2"):
        next(episodes)
