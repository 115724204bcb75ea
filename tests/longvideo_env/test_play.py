import io

from rich.console import Console

from longvideo_env import LongTVQAEnv
from longvideo_env.commands.play import as_reply, play
from longvideo_env.game.game import default_game

GAME = default_game()


def session(*typed, n=2):
    """Play with these lines; what was shown, and how many were right."""
    lines = iter(typed)

    def ask(prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    out = io.StringIO()
    env = LongTVQAEnv(dataset="embedded", split="val")
    right = play(env, n, 0, Console(file=out, width=200), ask)
    return out.getvalue(), right


def test_words_become_actions():
    assert as_reply("look who is there", GAME) == "<search>who is there</search>"
    assert as_reply("ground", GAME) == "<request_grounding/>"
    assert as_reply(" ground the kitchen ", GAME) == (
        "<request_grounding>the kitchen</request_grounding>"
    )
    assert as_reply("A2", GAME) == as_reply("answer a2", GAME) == "<answer>a2</answer>"
    assert as_reply("<answer>a1</answer>", GAME) == "<answer>a1</answer>"
    assert as_reply("looking good", GAME) == "looking good"


def test_a_whole_game_counts_the_right_answers():
    env = LongTVQAEnv(dataset="embedded", split="val")
    _, info = env.reset(seed=0)
    first = env.dataset.task(info["qid"]).gold.answer
    _, info = env.reset()
    second = env.dataset.task(info["qid"]).gold.answer
    wrong = (second + 1) % 2
    shown, right = session("help", "look who is there", f"a{first}", f"a{wrong}")
    assert right == 1
    assert "right · reward 1.10" in shown
    assert "exactly one of these" in shown, "help shows the rules"
    assert f"it was a{second}: " in shown
    assert "1 of 2 right, mean reward 0.60" in shown


def test_quitting_and_the_end_of_input_end_the_game():
    assert "0 of 0 right" in session("quit")[0]
    assert "0 of 0 right" in session()[0]


def test_nonsense_costs_a_turn_as_it_does_a_policy():
    shown, _ = session(*["nonsense"] * 5, n=1)
    assert "Your reply does not count" in shown
    assert "wrong, or no answer" in shown
