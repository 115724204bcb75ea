"""The facts of `mini`: who says what in which clip, and no clue outside the gold clip."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import optimize, sparse, stats

from agents.grounding.offline import BM25Grounding
from agents.ranking import tokenize
from agents.vision.captions import CaptionVision
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.mini import vocabulary as mini_words
from longvideo_env.datasets.mini.generator import load_mini
from longvideo_env.ids import parse_clip_id
from longvideo_env.schema import Clip, Task
from longvideo_env.sync import run_immediate
from longvideo_env.testing import grounding_call, vision_call

LEVELS = (0.0, 0.4, 1.0)
FACT = re.compile(r"(\w+) : the (\w+) is on (\w+) \.")
SAY = re.compile(r"when is the (?P<topic>\w+) that (?P<teller>\w+) talks about \?")
LOOK = re.compile(
    r"when (?P<teller>\w+) talks about the (?P<topic>\w+) , "
    r"what colour is the (?P<thing>\w+) of (?P=teller) \?"
)
COMPARE = re.compile(
    r"what is seen both when (?P<teller>\w+) talks about the (?P<topic>\w+) "
    r"and when (?P<other_teller>\w+) talks about the (?P<other_topic>\w+) \?"
)
HOLDS = re.compile(r"(\w+) holds a (\w+) (\w+) \.")


@pytest.fixture(params=LEVELS, ids=lambda level: f"difficulty={level}")
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return load_mini("train", difficulty=request.param, videos=100, seed=11)


def words_of(texts: Sequence[str]) -> set[str]:
    return {word for text in texts for word in text.split()}


def subtitles(clip: Clip) -> list[str]:
    return [line.text for line in clip.subtitles]


def captions(clip: Clip) -> list[str]:
    return [caption.text for caption in clip.captions]


def clips_of(dataset: Dataset) -> list[Clip]:
    return [clip for video in dataset.videos.values() for clip in video.clips]


def kind_of(task: Task) -> str:
    return str(task.question.show).removeprefix("mini:")


def right(task: Task) -> str:
    assert task.gold.answer is not None
    return task.question.options[task.gold.answer]


def held_in(clip: Clip) -> dict[str, tuple[str, str]]:
    found = (HOLDS.fullmatch(text) for text in captions(clip))
    return {match[1]: (match[2], match[3]) for match in found if match}


def fact_clips(dataset: Dataset, task: Task) -> dict[str, tuple[str, str, str]]:
    """Topic -> clip, speaker and day."""
    return {
        match[2]: (clip.clip_id, match[1], match[3])
        for clip in dataset.video(task).clips
        for text in subtitles(clip)
        if (match := FACT.fullmatch(text))
    }


def test_vocabulary_is_small_and_each_list_its_own() -> None:
    lists = [
        mini_words.PEOPLE,
        mini_words.PLACES,
        mini_words.THINGS,
        mini_words.COLOURS,
        mini_words.ACTIONS,
        mini_words.TOPICS,
        mini_words.DAYS,
    ]
    values = [word for values in lists for word in values]
    assert len(set(values)) == len(values)
    assert all(8 <= len(values) <= 12 for values in lists)
    assert all(re.fullmatch("[a-z]+", word) for word in values)
    dataset = load_mini("train")
    texts = [text for clip in clips_of(dataset) for text in (*subtitles(clip), *captions(clip))]
    texts += [text for t in dataset for text in (t.question.text, *t.question.options)]
    vocabulary = words_of(texts)
    assert set(values) <= vocabulary
    assert len(vocabulary) <= 150
    assert all(re.fullmatch(r"[a-z]+|[.,:!?]", word) for word in vocabulary)


def test_shape(dataset: Dataset) -> None:
    sizes = [len(video.clips) for video in dataset.videos.values()]
    assert min(sizes) >= 8
    assert max(sizes) <= 24
    for clip in clips_of(dataset):
        assert parse_clip_id(clip.clip_id)
        assert 3 <= len(clip.subtitles) <= 5
        speakers = {text.split()[0] for text in subtitles(clip)}
        held = held_in(clip)
        assert speakers <= set(held)
        assert 2 <= len(held) <= 3
        assert len(clip.captions) == 1 + 2 * len(held), "one of the place, two of each person"
        assert all(0 <= c.start_s < c.end_s <= 60 for c in clip.captions)  # type: ignore[operator]
    for task in dataset:
        assert len(set(task.question.options)) == 5
        assert task.gold.clip_id in dataset.video(task)


@pytest.mark.slow
def test_difficulty_turns_every_screw() -> None:
    clips, lines, elsewhere, near = [], [], [], []
    for level in LEVELS:
        dataset = load_mini("train", difficulty=level)
        clips.append(len(clips_of(dataset)) / len(dataset.videos))
        lines.append(np.mean([len(clip.subtitles) for clip in clips_of(dataset)]))
        kinds = Counter(map(kind_of, dataset))
        asked = len(dataset) - kinds["compare"]
        elsewhere.append((kinds["say_elsewhere"] + kinds["look_elsewhere"]) / asked)
        assert 0.07 < kinds["compare"] / len(dataset) < 0.13
        assert abs(kinds["say_here"] - kinds["look_here"]) < 0.05 * len(dataset)
        colours = [
            (set(task.question.options) - {right(task)}, {c for c, _ in held_in(clip).values()})
            for task in dataset
            if kind_of(task) == "look_here"
            for clip in [dataset.video(task)[str(task.gold.clip_id)]]
        ]
        near.append(np.mean([len(wrong & there) for wrong, there in colours]))
    for measured in (clips, lines, elsewhere, near):
        assert measured == sorted(measured)
    assert elsewhere == pytest.approx([0.25, 0.45, 0.75], abs=0.04)
    assert clips[0] < 9
    assert clips[2] > 22


def test_eye_and_ear_are_kept_apart(dataset: Dataset) -> None:
    for clip in clips_of(dataset):
        assert not words_of(subtitles(clip)) & mini_words.VISIBLE
        assert not words_of(captions(clip)) & mini_words.SPOKEN


def test_every_fact_is_told_once(dataset: Dataset) -> None:
    for video in dataset.videos.values():
        told = Counter(
            match[2]
            for clip in video.clips
            for text in subtitles(clip)
            if (match := FACT.fullmatch(text))
        )
        assert told
        assert set(told.values()) == {1}
        assert len(told) < len(video.clips)


def test_gold_is_true(dataset: Dataset) -> None:
    for task in dataset:
        video, text = dataset.video(task), task.question.text
        gold = video[str(task.gold.clip_id)]
        match = SAY.fullmatch(text) or LOOK.fullmatch(text) or COMPARE.fullmatch(text)
        assert match, text
        facts = fact_clips(dataset, task)
        clip_id, teller, day = facts[match["topic"]]
        assert (clip_id, teller) == (gold.clip_id, match["teller"])
        span = task.gold.span
        assert span is not None
        if kind_of(task).startswith("say"):
            assert right(task) == day
            share = 60 / len(gold.subtitles)
            line = gold.subtitles[round(span[0] / share)]
            assert line.text == f"{teller} : the {match['topic']} is on {day} ."
            assert span[1] - span[0] == pytest.approx(share, abs=0.02)
            continue
        if kind_of(task).startswith("look"):
            assert held_in(gold)[teller] == (right(task), match["thing"])
        else:
            other = video[facts[match["other_topic"]][0]]
            things = [{thing for _, thing in held_in(clip).values()} for clip in (gold, other)]
            assert things[0] & things[1] == {right(task)}
            assert len(things[0] | things[1]) == 5
        caption = next(c for c in gold.captions if right(task) in c.text)
        assert span == (caption.start_s, caption.end_s)


def test_a_decoy_neither_tells_nor_shows(dataset: Dataset) -> None:
    """In a decoy clip the person is silent. If the person is shown, the colour is another one."""
    traps = 0
    for task in dataset:
        match = SAY.fullmatch(task.question.text) or LOOK.fullmatch(task.question.text)
        if match is None:
            continue
        about = [
            clip
            for clip in dataset.video(task).clips
            if clip.clip_id != task.gold.clip_id and match["topic"] in words_of(subtitles(clip))
        ]
        assert len(about) == kind_of(task).endswith("elsewhere")
        for clip in about:
            assert all(not text.startswith(match["teller"]) for text in subtitles(clip))
            if kind_of(task).startswith("look") and match["teller"] in held_in(clip):
                colour, thing = held_in(clip)[match["teller"]]
                assert (thing, colour != right(task)) == (match["thing"], True)
                assert colour in task.question.options
                traps += 1
    assert traps > 0


def ground(dataset: Dataset, task: Task, visited: tuple[str, ...] = ()) -> str:
    request = grounding_call(task.question, dataset.video(task), None, visited)
    return run_immediate(BM25Grounding().ground(request)).text


def test_bm25_opens_at_the_gold_clip_or_just_beside_it(dataset: Dataset) -> None:
    shares: dict[str, list[tuple[bool, bool]]] = {}
    for task in dataset:
        first = ground(dataset, task)
        second = ground(dataset, task, (first,))
        hits = (first == task.gold.clip_id, second == task.gold.clip_id)
        shares.setdefault(kind_of(task), []).append(hits)
    for kind, hits in shares.items():
        gold_first, gold_second = np.mean(hits, axis=0)
        if kind.endswith("here") and not kind.endswith("elsewhere"):
            assert gold_first >= 0.95, kind
        elif kind.endswith("elsewhere"):
            assert gold_first <= 0.05, kind
            assert gold_second >= 0.95, kind
        else:
            assert gold_first + gold_second >= 0.9, kind
    assert len(shares) == 5


def test_the_first_caption_answers_a_short_query(dataset: Dataset) -> None:
    hits = []
    for task in dataset:
        match = LOOK.fullmatch(task.question.text)
        if match:
            query = f"{match['teller']} {match['thing']} colour"
            clip_ids = (str(task.gold.clip_id),)
            request = vision_call(task.question, dataset.video(task), query, clip_ids)
            reply = run_immediate(CaptionVision().look(request)).text
            hits.append(right(task) in reply.split("\n")[0].split())
    assert np.mean(hits) >= 0.95


@pytest.mark.slow
def test_the_right_position_and_the_right_value_are_even() -> None:
    dataset = load_mini("test", videos=1500)
    assert stats.chisquare(np.bincount([t.gold.answer for t in dataset], minlength=5)).pvalue > 0.01
    for kind, values in (
        ("say", mini_words.DAYS),
        ("look", mini_words.COLOURS),
        ("compare", mini_words.THINGS),
    ):
        tasks = [task for task in dataset if kind_of(task).startswith(kind)]
        rights = Counter(map(right, tasks))
        wrongs = Counter(option for task in tasks for option in task.question.options)
        wrongs.subtract(rights)
        table = [[counts[value] for value in values] for counts in (rights, wrongs)]
        assert stats.chisquare(table[0]).pvalue > 0.01
        assert stats.chi2_contingency(table).pvalue > 0.01


OPTIONS = (*mini_words.DAYS, *mini_words.COLOURS, *mini_words.THINGS)
ASKED = sorted(
    {word for text in (mini_words.ASK_SAY, mini_words.ASK_LOOK, mini_words.ASK_COMPARE)
     for word in tokenize(re.sub(r"{\w+}", "", text))}
    | {*mini_words.PEOPLE, *mini_words.TOPICS, *mini_words.THINGS}
)  # fmt: skip


def blind_features(tasks: Sequence[Task]) -> sparse.csr_array:
    """The features of each option: its word, place, the other options and the question's words.

    Shape: (5 * tasks, features), one row per option.
    """
    n_options, n_asked = len(OPTIONS), len(ASKED)
    number = {word: i for i, word in enumerate(OPTIONS)}
    options = np.array([[number[option] for option in t.question.options] for t in tasks])
    asked = np.zeros((len(tasks), n_asked), dtype=bool)
    for i, task in enumerate(tasks):
        asked[i, [ASKED.index(word) for word in tokenize(task.question.text)]] = True
    rows = np.arange(5 * len(tasks)).reshape(-1, 5)
    task_of, word_of = np.nonzero(asked)
    beside = options[:, :, None] * n_options + options[:, None, :]
    after = word_of[:, None] * n_options + options[task_of]
    start = n_options**2
    columns = [beside.ravel(), (after + start).ravel()]
    start += n_asked * n_options
    columns.append(np.tile(np.arange(5), len(tasks)) + start)
    spread = [np.repeat(rows.ravel(), 5), rows[task_of].ravel(), rows.ravel()]
    places = (np.concatenate(spread), np.concatenate(columns))
    return sparse.csr_array((np.ones(len(places[0])), places), shape=(rows.size, start + 5))


def fit_blind(tasks: Sequence[Task], strength: float = 3.0) -> np.ndarray:
    """Weights of a softmax over a question's options, by L-BFGS."""
    features = blind_features(tasks)
    gold = 5 * np.arange(len(tasks)) + [task.gold.answer for task in tasks]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = (features @ weights).reshape(-1, 5)
        scores -= scores.max(axis=1, keepdims=True)
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        errors = chances.reshape(-1)
        value = -np.log(errors[gold]).sum() + strength / 2 * weights @ weights
        errors[gold] -= 1
        return value, features.T @ errors + strength * weights

    found = optimize.minimize(
        loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 40}
    )
    return np.asarray(found.x)


def blind_hits(weights: np.ndarray, tasks: Sequence[Task]) -> int:
    choices = (blind_features(tasks) @ weights).reshape(-1, 5).argmax(axis=1)
    return int((choices == [task.gold.answer for task in tasks]).sum())


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_question_and_options_alone_say_nothing(level: float) -> None:
    weights = fit_blind(load_mini("train", difficulty=level, videos=1000).tasks)
    tasks = load_mini("test", difficulty=level, videos=1000).tasks
    interval = stats.binomtest(blind_hits(weights, tasks), len(tasks)).proportion_ci()
    assert interval.low < 0.2 < interval.high


@pytest.mark.slow
def test_the_blind_reader_would_find_a_leak() -> None:
    """A test of the check: it learns a colour that is right more often than others."""
    tasks = load_mini("train", videos=1000).tasks
    leaky = [t for t in tasks if "red" not in t.question.options or right(t) == "red"]
    hits = blind_hits(fit_blind(leaky[::2]), leaky[1::2])
    assert stats.binomtest(hits, len(leaky[1::2])).proportion_ci().low > 0.2
