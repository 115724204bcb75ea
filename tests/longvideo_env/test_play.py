import io

import pytest
from rich.console import Console

from longvideo_env import LongTVQAEnv, ToolCall, tool
from longvideo_env.commands.play import as_reply, play
from longvideo_env.game.game import default_game

GAME = default_game()


def session(*typed, n=2, **options):
    """Play with these lines. Returns the output and the number of right answers."""
    lines = iter(typed)

    def ask(prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    out = io.StringIO()
    env = LongTVQAEnv(dataset="embedded", split="val", **options)
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


def test_a_typo_is_asked_again_and_costs_no_turn():
    shown, right = session(*["nonsense"] * 9, "quit", n=1)
    assert shown.count("no turn was spent") == 9
    assert right == 0
    assert "0 of 0 right" in shown


@tool
def sing(request: ToolCall, song: str, times: int = 1) -> str:
    """Sings a song.

    Args:
        song: what to sing
        times: how often
    """
    return f"{song} " * times


@pytest.mark.parametrize("protocol", ["tags", "functions"])
def test_several_values_have_names(protocol):
    options = {"protocol": protocol, "tools": [sing]}
    shown, _ = session('sing song="la 1" times=2', "sing song=1", "sing la", n=1, **options)
    assert "la 1 la 1" in shown
    assert "\n1 \n3 turns left" in shown, "a text stays one"
    assert shown.count("no turn was spent") == 1


def test_what_is_typed_is_shown_as_the_call_that_it_becomes():
    shown, _ = session("help", "look the lamp", "ground", "hello", "a1", protocol="functions")
    assert 'look(query="the lamp")\n' in shown
    assert "\nground()\n" in shown
    assert 'answer(answer="a1")\n' in shown
    assert "  query: what you want to know" in shown, "help names what a tool is given"
    assert shown.count("no turn was spent") == 1


def test_an_answer_in_words():
    assert as_reply("answer In the Harbour", GAME) == "<answer>In the Harbour</answer>"
