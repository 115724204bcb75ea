"""LongVideoAgent as its released checkpoints were trained: one long reply.

Paper: LongVideoAgent, arXiv 2512.20618. Code: longvideoagent/LongVideoAgent, branch `newversion`,
commit 1b6eabb, on which the released 7B was trained; the 3B and the 4B were trained on `main`
(3a80ba8), whose observations differ by line breaks alone.

Same as there: one message of the user with rules, question, a0 to a4 and the first clip's subtitles;
then one turn of the assistant, in which observations are appended as they are; a reply is cut behind
its first closed tag, which is looked for in the order `<search>`, `<request_grounding>`, `<answer>`,
inside reasoning too; five turns; no word on how many are left. Its evaluator's sampling:
temperature 0.6, 3,172 tokens a turn, 60,000 tokens of context.

Otherwise, and why:
- A reply ends as soon as a tag is closed. There it is written to its end and then cut, so that a
  `<search>` behind an answer would win.
- No boxes are shown (`{}` stands in their place): they name words of the right answer.
- An answer is read by `game.protocol.answers`; there the first digit counts, so that "a3 or a1" is
  right. An answer that names no option is a malformed turn; there it ends the episode.
- The clip that grounding names is one that was not visited, and a failed tool fails the episode; there
  it falls back to the present clip, and an error is shown as text.
- The limit of 1,500 tokens for replies and observations together holds in training there, and its
  evaluator does not have it: here neither.
- The first clip's subtitles stand behind its id, as those of later clips do there.
- The words are ours, in that form. Whoever has the original's puts them into a file (`prompts=`).
"""

from __future__ import annotations

from longvideo_env.game.game import GameSpec

WORDS = """
{% block opening %}
Answer a question about a video in turns. Begin each turn with your thoughts inside <{{ tags.reasoning }}>...</{{ tags.reasoning }}>. Then do one of these:

{% for tool in tools %}
- <{{ tool.tag }}>{{ tool.argument }}</{{ tool.tag }}> {{ tool.purpose }}
{% endfor %}
- <{{ tags.answer }}>ax</{{ tags.answer }}> once you know enough, with x the number of the option{% if n_options %}, such as <{{ tags.answer }}>{{ first_label }}</{{ tags.answer }}>{% endif %}.

question: {{ question }}
{% for option in options %}
{{ option.label }}: {{ option.text }}
{% endfor %}
<{{ tags.reply }}>subtitles: {{ view }}</{{ tags.reply }}>
{% endblock %}

{% block view %}
{% for clip in clips %}
{{ clip.clip_id }} + {% for line in clip.lines %}{{ line.text }}{% if not loop.last %} <eos> {% endif %}{% endfor %}{% if not loop.last %}

{% endif %}
{% endfor %}
{% endblock %}

{% block reply %}
{{ "\\n" }}{% if reply %}<{{ tags.reply }}>Bounding BOX:
{}
Visual Description:
{{ reply }}</{{ tags.reply }}>
{% endif %}
{% if view %}<{{ tags.view }}>{{ view }}</{{ tags.view }}>
{% endif %}
{{ "" }}
{% endblock %}

{% block refused %}
{{ "\\n" }}I have seen every clip of this video.{{ "\\n" }}
{% endblock %}

{% block malformed %}
{{ "\\n" }}That was no action. I {% for tool in tools %}write <{{ tool.tag }}>, {% endfor %}or <{{ tags.answer }}>.{{ "\\n" }}
{% endblock %}
"""

GAME = GameSpec(
    tools=("look", "ground"),
    opening="ground",
    protocol="continuation",
    max_turns=5,
    instructions=False,
    reward="reference",
    words=WORDS,
    generation={"temperature": 0.6, "max_turn_tokens": 3172, "max_context_tokens": 60_000},
)
