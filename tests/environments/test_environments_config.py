"""EnvironmentConfig raises, naming field, value and what is allowed."""

import dataclasses

import pytest

from environments.config import EnvironmentConfig
from environments.levels import parse_levels


def test_defaults_are_the_easy_protocol():
  config = EnvironmentConfig()
  assert dataclasses.asdict(config) == {
    "game": "coinrun",
    "levels": "easy-200",
    "num_environments": 64,
  }
  assert config.level_distribution == parse_levels("easy-200")


@pytest.mark.parametrize(
  ("field", "value", "said"),
  [
    ("game", "coinrnu", "'coinrun'"),
    ("levels", "easy-20O", "'easy-200'"),
    ("levels", "hard-all@3", "Procgen ignores it"),
    ("num_environments", 0, "got 0"),
    ("num_environments", -3, "got -3"),
    ("num_environments", 2.0, "got 2.0"),
    ("num_environments", True, "got True"),
    ("num_environments", "64", "got '64'"),
  ],
)
def test_wrong_values(field, value, said):
  with pytest.raises(ValueError, match=rf"environment\.{field}") as error:
    EnvironmentConfig(**{field: value})
  assert said in str(error.value)
