from longvideo_env.config import EnvConfig
from longvideo_env.drivers.render import render_transcript
from longvideo_env.game.episode import Episode
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import Action
from longvideo_env.tools.tool import ToolReply, ToolResult


def test_before_during_and_after(question, film):
    episode = Episode(question, film, Game.from_config(EnvConfig(max_turns=2)))
    request = episode.start()
    assert "Question 7" in render_transcript(episode)
    episode.receive(ToolResult("ground", "bm25", ToolReply(view=request.video.clip_ids[0])))
    text = render_transcript(episode)
    assert "Opened by bm25: s01e01_seg01_clip_00" in text
    assert "(2 turns left)" in text
    episode.reply("<search>x</search>")
    episode.receive(ToolResult("look", "eyes", error="down"))
    assert render_transcript(episode).endswith("Failed: look (eyes): down")


def test_without_grounding(question, film):
    game = Game.from_config(EnvConfig(grounding="none", max_turns=1))
    episode = Episode(question, film, game)
    episode.start()
    episode.reply("nothing")
    text = render_transcript(episode)
    assert "Opened at its start" in text
    assert text.endswith("Out of turns, no answer")


def test_calls_are_shown_as_calls(question, film):
    game = Game.from_config(EnvConfig(grounding="none", max_turns=2, protocol="functions"))
    episode = Episode(question, film, game)
    episode.start()
    episode.reply(game.protocol.write(Action("look", "the mug"), "Where is it?"))
    episode.receive(ToolResult("look", "eyes", ToolReply("A mug.")))
    episode.reply('{"content": "", "tool_calls": [], "broken": "no JSON"}')
    text = render_transcript(episode)
    assert 'master │ Where is it?\n         │ look(query="the mug")\n' in text
    assert "(cannot be read as a call: no JSON)" in text
