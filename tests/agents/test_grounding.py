import pytest

from agents.grounding.offline import BM25Grounding, RandomGrounding
from longvideo_env import EnvConfig, load_dataset
from longvideo_env.schema import Clip, Question, TimedText, Video
from longvideo_env.sync import run_immediate
from longvideo_env.testing import GroundingContract, grounding_call
from longvideo_env.tools.registry import build_toolbox


class TestBM25(GroundingContract):
    def make_agent(self):
        return BM25Grounding()


class TestRandom(GroundingContract):
    def make_agent(self):
        return RandomGrounding()

    def test_reaches_every_clip(self, film, question):
        found = {
            run_immediate(RandomGrounding().ground(grounding_call(question, film, seed=i))).text
            for i in range(100)
        }
        assert found == set(film.clip_ids)


LINES = ("Ann : good morning", "Bo : the lighthouse lamp is broken", "", "Ann : soup again?")


@pytest.fixture
def film():
    clips = (Clip(f"s01e01_seg01_clip_0{i}", (TimedText(line),)) for i, line in enumerate(LINES))
    return Video("s01e01", tuple(clips))


@pytest.fixture
def question():
    return Question(1, "What does Bo say about the lamp?", ("it broke", "it burns"), "s01e01")


def ground(film, question, query=None, visited=()):
    request = grounding_call(question, film, query, visited)
    return run_immediate(BM25Grounding().ground(request)).text[-2:]


def test_bm25_uses_the_question_unless_the_master_says_more(film, question):
    assert ground(film, question) == "01"
    assert ground(film, question, "who talks about soup") == "03"


def test_bm25_leaves_visited_clips_out(film, question):
    assert ground(film, question, visited=("s01e01_seg01_clip_01",)) != "01"
    assert ground(film, question, visited=film.clip_ids) == "01"


def test_bm25_without_a_shared_word_takes_the_first_clip(film, question):
    assert ground(film, question, "zzz ???") == "00"


def test_bm25_on_a_video_without_any_words(question):
    film = Video("s01e01", (Clip("s01e01_seg01_clip_00"), Clip("s01e01_seg01_clip_01")))
    assert ground(film, question) == "00"


def test_bm25_finds_more_gold_clips_than_chance_on_real_questions(shared_data):
    folder = str(shared_data / "tvqa_plus_dev")
    dataset = load_dataset(folder, "val")
    agent = build_toolbox(EnvConfig(dataset=folder), dataset).agents["grounding"]
    hits = sum(
        run_immediate(agent.ground(grounding_call(task.question, dataset.video(task)))).text
        == task.gold.clip_id
        for task in dataset
    )
    assert hits / len(dataset) > 0.35  # chance is 0.05
