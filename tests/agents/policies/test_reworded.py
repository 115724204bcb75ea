"""No policy depends on sentences of the words file: with other words it plays the same."""

import re

import pytest

from agents.policies.build import build_policy
from longvideo_env import EnvConfig, RolloutEngine, Trajectory, load_dataset
from longvideo_env.game.words.fields import SAMPLES
from longvideo_env.game.words.templates import default_text, load_words
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox

N = 500

REWORDED = """\
{% block rules %}
Regeln: {{ max_turns }}.
{% for tool in tools %} {{ tool.tag | upper }}={{ tool.argument }};{% endfor %}

{% endblock %}
{% block opening %}
{{ turns }}
{{ view }}
{{ n_clips }} Stücke in {{ video_id }}.
{% for option in options | reverse %}
({{ option.label }}) {{ option.text }}
{% endfor %}
Gefragt ist: {{ question }}
{% endblock %}
{% block view %}
{% for clip in clips %}
== {{ clip.clip_id }} ==
{% for line in clip.lines %}
* {{ line.text }} @{{ line.time }}
{% else %}
(still)
{% endfor %}
{% endfor %}
{% endblock %}
{% block turns %}Noch {{ turns_left }}.{% endblock %}
{% block reply %}
{{ turns }}
>> {{ reply }}
{{ view }}
{% endblock %}
{% block refused %}Nein: {{ reason }}. {{ turns }}{% endblock %}
{% block malformed %}So nicht, {{ problem }}! {{ turns }}{% endblock %}
{% block no_action %}nichts getan{% endblock %}
{% block several_actions %}{{ n }} auf einmal{% endblock %}
{% block unclosed %}{{ tag }} offen{% endblock %}
{% block empty %}{{ tag }} leer{% endblock %}
{% block unavailable %}{{ tag }} fehlt{% endblock %}
{% block unknown_option %}{{ said }} bis {{ last_label }}{% endblock %}
{% block not_a_label %}{{ said }} ist kein Zeichen{% endblock %}
{% block wrong_arguments %}{{ tag }}: {{ problem }}{% endblock %}
{% block ended %}Schluss mit {{ choice }}.{% endblock %}
"""


@pytest.fixture(scope="module")
def reworded(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("words") / "reworded.jinja"
    path.write_text(REWORDED, encoding="utf-8")
    return str(path)


def play(spec: str, prompts: str | None, n: int, **options: object) -> list[Trajectory]:
    config = EnvConfig.from_mapping(
        {"dataset": "mini:videos=130", "split": "train", "prompts": prompts, **options}
    )
    dataset = load_dataset(config.dataset, config.split)
    assert len(dataset) >= n
    engine = RolloutEngine(
        dataset=dataset,
        config=config,
        toolbox=build_toolbox(config, dataset),
        policy=build_policy(spec),
        policy_spec=spec,
    )

    async def all_of_them() -> list[Trajectory]:
        return [t async for t in engine.play_all((task, 0) for task in dataset.tasks[:n])]

    return sorted(run_blocking(all_of_them()), key=lambda t: str(t.qid))


SAID = ("system", "user", "tool")


def sentences(text: str) -> set[str]:
    """Phrases of four or more words in a words file, without code and comments."""
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|</?[^>]*>", "\n", text, flags=re.DOTALL)
    found = (" ".join(line.split()) for line in re.split(r"[\n.:,]", text))
    return {line for line in found if len(line.split()) >= 4}


def test_every_block_is_reworded(reworded: str) -> None:
    mine, usual = load_words(reworded), load_words()
    assert set(re.findall(r"block (\w+) %", REWORDED)) == set(usual.blocks) <= set(SAMPLES)
    assert all(mine.blocks[name].text != usual.blocks[name].text for name in usual.blocks)
    assert len(sentences(default_text())) > 10
    assert not sentences(default_text()) & sentences(REWORDED)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("scripted:ground-look-answer", {}),
        ("scripted:ground-look-answer", {"window": 3, "shuffle_options": True}),
        ("teacher:mini", {}),
        ("teacher:mini:0:0", {}),
        ("random", {}),
        ("scripted:ground-look-answer", {"protocol": "functions"}),
        ("teacher:mini:0:0", {"protocol": "functions"}),
    ],
)
def test_the_same_actions_whatever_the_words(
    reworded: str, spec: str, options: dict[str, object]
) -> None:
    n = N if not options and spec.startswith("scripted") else N // 5
    usual, other = (play(spec, prompts, n, **options) for prompts in (None, reworded))
    assert len(usual) == len(other) == n
    for before, after in zip(usual, other, strict=True):
        assert before.qid == after.qid
        assert [s.text for s in before.segments if s.sampled] == [
            s.text for s in after.segments if s.sampled
        ]
        assert before.turns == after.turns
        for name in ("choice", "visited", "status", "reward", "reward_terms", "correct"):
            assert getattr(before, name) == getattr(after, name), name
        told = [" ".join(s.text for s in t.segments if s.role in SAID) for t in (before, after)]
        assert "Noch " in told[1]
        assert not any(line in told[1] for line in ("You have", "last turn", "Question:", "clips"))
        assert "turn" in told[0]
    if spec != "random":
        assert sum(bool(t.correct) for t in usual) > n * 0.25
