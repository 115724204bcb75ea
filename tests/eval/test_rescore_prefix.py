"""A rescored run gives the same result, for any prefix that the chat template adds to a reply."""

from hypothesis import given, settings
from hypothesis import strategies as st

from eval.rescore import Scorer
from longvideo_env import EnvConfig, RolloutEngine, Trajectory, load_dataset
from longvideo_env.game.game import Game
from longvideo_env.game.policy import Reply, TextCodec
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox

CONFIG = EnvConfig(dataset="embedded", max_turns=3)
DATASET = load_dataset("embedded", "train")
TOOLBOX = build_toolbox(CONFIG, DATASET)
prefixes = st.sampled_from(["", "<think>\n", "[THINK]", "<seed:think>", "<|channel>thought\n"])
replies = st.lists(
    st.sampled_from(
        [
            "it is a1</think>\n<answer>a1</answer>",
            "maybe <answer>a0</answer> no</think><search>who</search>",
            "so</seed:think><answer>a2</answer>",
            "so[/THINK]<request_grounding/>",
            "so<channel|><answer>a0</answer>",
            "<answer>a1</answer>",
            "never closed <answer>a3</answer>",
            "",
        ]
    ),
    min_size=3,
    max_size=3,
)


class Opened:
    """Writes given replies after the template's prefix."""

    def __init__(self, prefix, replies):
        self.codec = TextCodec()
        self._prefix, self._replies = prefix, replies

    async def act(self, context, /):
        return Reply(self._replies[context.turn - 1], prefix=self._prefix)

    async def aclose(self):
        pass


@settings(max_examples=60)
@given(prefixes, replies, st.integers(0, 19))
def test_rescoring_is_idle_where_nothing_has_changed(prefix, texts, place):
    engine = RolloutEngine(
        dataset=DATASET,
        config=CONFIG,
        toolbox=TOOLBOX,
        policy=Opened(prefix, texts),
        policy_spec="opened",
    )
    played = run_blocking(engine.play(DATASET.tasks[place]))
    scorer = Scorer(DATASET, CONFIG, Game.from_config(CONFIG))
    saved = Trajectory.from_json(played.to_json())
    assert saved == played
    assert scorer.rescore(saved) == played
