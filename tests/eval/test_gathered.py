import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

import longvideo_env as lv
from eval.metrics.gathered import Gathered
from eval.metrics.summary import summarize
from longvideo_env.records.trajectory import Judged, Timings, Trajectory, TurnRecord

USAGE = st.fixed_dictionaries(
    {"requests": st.just(1), "prompt_tokens": st.integers(0, 9), "completion_tokens": st.just(3)},
    optional={"cost_usd": st.floats(0, 1), "shortlisted": st.just(1), "n_frames": st.just(4)},
)
TURNS = st.builds(
    TurnRecord,
    turn=st.integers(1, 3),
    action=st.sampled_from([None, "answer", "ground", "look"]),
    argument=st.sampled_from([None, "a1", "a red mug", "A red mug."]),
    malformed=st.sampled_from([None, "no_action"]),
    request=st.sampled_from([None, {"tool": "ground", "query": "q"}, {"tool": "look"}]),
    result=st.none() | st.fixed_dictionaries({"text": st.just("t"), "details": USAGE}),
    usage=st.none() | USAGE,
    moves=st.booleans(),
)
EPISODES = st.builds(
    Trajectory,
    qid=st.sampled_from([1, 2, "x"]),
    video_id=st.sampled_from("abc"),
    policy=st.just("p"),
    sample=st.integers(0, 2),
    seed=st.integers(0, 9),
    status=st.sampled_from(["answered", "out_of_turns", "failed"]),
    n_options=st.just(5),
    turns=st.lists(TURNS, max_size=3).map(tuple),
    segments=st.just(()),
    options=st.sampled_from([(), ("a", "b")]),
    show=st.sampled_from([None, "s", "t"]),
    kind=st.sampled_from([None, "what"]),
    first=st.none() | TURNS,
    choice=st.sampled_from([None, 0, 1]),
    correct=st.sampled_from([None, True, False]),
    grounded=st.sampled_from([None, True, False]),
    grounded_first=st.sampled_from([None, True, False]),
    reward=st.none() | st.floats(0, 1.4),
    error=st.sampled_from([None, "no answer in 60 s"]),
    reward_error=st.sampled_from([None, "term: no"]),
    ask=st.sampled_from([None, "words", "when"]),
    answer_scores=st.sampled_from([{}, {"exact_match": 1.0, "token_f1": 0.5}]),
    judged=st.none() | st.builds(Judged, st.just("j"), st.booleans(), usage=st.tuples(USAGE)),
    timings=st.builds(Timings, st.floats(0, 9), st.floats(0, 9)),
)


class Whole(Gathered):
    """Keeps episodes unchanged."""

    def _brief(self, t):
        return t


@given(st.lists(EPISODES, max_size=12))
@settings(max_examples=60, deadline=None)
def test_what_is_kept_of_episodes_is_all_that_the_figures_need(episodes):
    assert json.dumps(summarize(Gathered(episodes), 5)) == json.dumps(summarize(Whole(episodes), 5))


def test_little_is_kept_of_an_episode(tmp_path):
    policy = "scripted:ground-look-answer"
    result = lv.evaluate(policy, dataset="mini", limit=3, progress=False, out=tmp_path)
    gathered = Gathered(replace(t, sample=i) for i in range(100) for t in result.episodes)
    kept = gathered.episodes
    assert not any(t.segments or t.question or t.visited for t in kept)
    assert len({id(t.turns) for t in kept}) <= 3
    assert len({id(t.video_id) for t in kept}) == len({t.video_id for t in kept})
