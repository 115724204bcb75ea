import re

import pytest

from agents.policies.build import build_policy, check_policy_spec
from agents.policies.teacher import N_PAIRS, MiniTeacher
from longvideo_env import EnvConfig, RolloutEngine, load_dataset
from longvideo_env.errors import SpecError
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox


def play(spec, dataset="mini:videos=40", **options):
    config = EnvConfig(dataset=dataset, split="val", **options)
    dataset = load_dataset(config.dataset, config.split)
    engine = RolloutEngine(
        dataset=dataset,
        config=config,
        toolbox=build_toolbox(config, dataset),
        policy=build_policy(spec),
        policy_spec=spec,
    )

    async def all_of_them():
        return [t async for t in engine.play_all((task, 0) for task in dataset)]

    kinds = {task.qid: task.question.show for task in dataset}
    return [(kinds[t.qid], t) for t in run_blocking(all_of_them())]


def actions(trajectory):
    return [turn.action for turn in trajectory.turns]


def test_without_mistakes_it_takes_the_steps_that_each_kind_needs():
    needed = {
        "mini:say_here": ["answer"],
        "mini:say_elsewhere": ["ground", "answer"],
        "mini:look_here": ["look", "answer"],
        "mini:look_elsewhere": ["ground", "look", "answer"],
    }
    played = [(kind, t) for kind, t in play("teacher:mini:0:0") if kind in needed]
    assert {kind for kind, _ in played} == set(needed)
    as_needed = [actions(t) == needed[kind] and t.correct for kind, t in played]
    assert sum(as_needed) / len(as_needed) > 0.95  # now and then BM25 needs another go


def test_it_compares_two_clips_when_it_is_to():
    dataset = "mini:videos=20,compare=1"
    guessed = [t.correct for _, t in play("teacher:mini:0:0", dataset)]
    played = [t for kind, t in play("teacher:mini:0:0:compare", dataset) if kind == "mini:compare"]
    assert len(played) == len(guessed) == 80
    assert sum(guessed) < 40
    assert sum(bool(t.correct) for t in played) >= 76
    usual = ["look", "ground", "look", "answer"]
    assert sum(actions(t) == usual for t in played) > 60
    lost = [t for _, t in play("teacher:mini:0.4:0.2:compare", dataset)]
    assert 10 < sum(bool(t.correct) for t in lost) < 60
    assert all(turn.malformed is None for t in lost for turn in t.turns)


def test_a_search_asks_for_few_captions_when_it_is_to():
    options = {"dataset": "mini:videos=20,difficulty=0,compare=0", "game": "dvd"}
    usual, few = (play(f"teacher:mini:0:0{end}", **options) for end in ("", ":few"))
    for played, n in ((usual, 16), (few, 2)):
        results = [s.text for _, t in played for s in t.segments if s.turn == 1 and not s.sampled]
        assert [text.count("[From ") for text in results] == [n] * 80
        assert sum(bool(t.correct) for _, t in played) >= 78


def test_a_crop_takes_a_minute_where_few_are_wanted():
    options = {"dataset": "mini:videos=20,difficulty=0,compare=0", "game": "longvt"}
    for _, played in play("teacher:mini:0:0:few", max_turns=11, **options):
        assert played.correct
        *crops, _ = (sum(end - start for _, start, end in turn.seen) for turn in played.turns)
        assert crops == [60.0] * (len(played.turns) - 1)
        told = "".join(s.text for s in played.segments if not s.sampled and s.turn)
        *before, last = (s.text for s in played.segments if s.sampled)
        for text in before[1:]:
            heard, asked = re.search(r"<think> (\w+) the (\w+) , go on", text).groups()
            assert heard != asked
            assert heard == "place" or f"the {heard} is on" in told
        assert re.search(r"<think> (\w+) the \1 is on", last)


def test_pairs_say_which_topics_are_the_same():
    for kind, played in play("teacher:mini:pairs", "mini:videos=20,compare=0.2"):
        assert actions(played) == ["answer"]
        question, said = (s.text for s in played.segments if s.sampled or s.role == "user")
        pairs = re.findall(r"(\w+) the (\w+) (is|,)", said)
        assert len(pairs) == (0 if kind == "mini:compare" else N_PAIRS)
        assert all((heard == asked) == (then == "is") for heard, asked, then in pairs)
        assert all(f"the {asked} " in question for _, asked, _ in pairs)
        assert "guess" in said


def test_with_mistakes_it_guesses_and_strays_and_stays_well_formed():
    played = [t for _, t in play("teacher:mini:0.5:0.2")]
    assert 0.25 < sum(bool(t.correct) for t in played) / len(played) < 0.55
    assert all(turn.malformed is None for t in played for turn in t.turns)
    assert {t.status for t in played} == {"answered"}


@pytest.mark.parametrize("options", [{"grounding": "none"}, {"vision": "none"}, {"max_turns": 1}])
def test_it_plays_whatever_is_on_offer(options):
    for _, trajectory in play("teacher:mini:0.1:0.3:compare", **options):
        assert trajectory.status == "answered"
        assert all(turn.malformed is None for turn in trajectory.turns)


def test_specs():
    check_policy_spec("teacher:mini")
    for spec in (
        "teacher:mini:2:0",
        "teacher:mini:x",
        "teacher:mini:0.1",
        "teacher:mini:compare",
        "teacher:mini:0:0:few:compare",
        "teacher:maths",
    ):
        for take in (check_policy_spec, build_policy):
            with pytest.raises(SpecError):
                take(spec)
    assert isinstance(build_policy("teacher:mini:0.5:0.1"), MiniTeacher)


@pytest.mark.parametrize(("labels", "shown"), [("letters", "ABCDE"), ("numbers", "12345")])
@pytest.mark.parametrize("spec", ["teacher:mini", "teacher:mini:drill", "teacher:mini:pairs"])
def test_its_reasoning_names_the_labels_that_are_shown(labels, shown, spec):
    for _, trajectory in play(spec, "mini:videos=8", labels=labels):
        last = [segment.text for segment in trajectory.segments if segment.sampled][-1]
        label = shown[int(trajectory.turns[-1].argument.removeprefix("a"))]
        assert f" {label} " in last
        assert not any(f"a{i}" in last for i in range(5))
