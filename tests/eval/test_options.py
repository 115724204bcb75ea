import json

import pytest

from eval.runs.run_options import fresh_draw
from longvideo_env import load_dataset
from longvideo_env.errors import SpecError


@pytest.mark.parametrize(
    ("dataset", "seed", "drawn"),
    [
        ("mini", 3, "mini:seed=3"),
        ("mini", 0, "mini"),
        ("mini:difficulty=0.2", 3, "mini:difficulty=0.2,seed=3"),
        ("mini:videos=5, seed=7", 3, "mini:videos=5, seed=7"),
        ("mini:seed=0", 3, "mini:seed=0"),
        ("embedded", 3, "embedded"),
        ("data/mini", 3, "data/mini"),
        ("minis", 3, "minis"),
    ],
)
def test_the_seed_draws_the_mini_world_unless_the_spec_does(dataset, seed, drawn):
    assert fresh_draw(dataset, seed) == drawn


def test_seed_0_is_the_plain_world():
    texts = [
        [task.question.text for task in load_dataset(spec, "test").tasks]
        for spec in ("mini:videos=2", "mini:videos=2,seed=0")
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("spec", ["mini:sead=3", "mini:videos=2,sead=3"])
def test_a_bad_spec_stays_bad(spec):
    with pytest.raises(SpecError, match="unknown option"):
        load_dataset(fresh_draw(spec, 3), "test")


def test_flags_override_the_files_policy_instead_of_adding_to_it(tmp_path):
    from eval.run_policy import parse_options

    file = tmp_path / "config.yaml"
    for in_file, policies in (
        ("random", ["random"]),
        (["random", "scripted:answer"], ["random", "scripted:answer"]),
    ):
        file.write_text(json.dumps({"policy": in_file, "out": str(tmp_path)}))
        args = ["--config", str(file)]
        assert parse_options(args)[0].policies == policies
        assert parse_options([*args, "--policy", "teacher:mini"])[0].policies == ["teacher:mini"]
