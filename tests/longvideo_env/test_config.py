import pytest

from longvideo_env import EnvConfig
from longvideo_env.errors import SpecError


def test_defaults_are_valid():
    assert EnvConfig().dataset == "mini"


@pytest.mark.parametrize(
    "options", [{"max_turns": 0}, {"window": 0}, {"window": 6}, {"tags": "papre"}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(SpecError):
        EnvConfig(**options)


def test_unknown_options_name_the_nearest():
    with pytest.raises(SpecError, match="Did you mean 'max_turns'"):
        EnvConfig.from_mapping({"max_turn": 3})
