"""Which studies there are, by name, each with its presets."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from experiments.errors import unknown
from experiments.studies.comparison import COMPARISONS
from experiments.studies.contest import CONTESTS
from experiments.studies.dqn_ladder import DQN_LADDERS
from experiments.studies.levels import LEVEL_STUDIES
from experiments.studies.study import Study

DEFAULT = "comparison"
STUDIES: MappingProxyType[str, Mapping[str, Callable[[], Study]]] = MappingProxyType(
  {
    DEFAULT: COMPARISONS,
    "dqn-ladder": DQN_LADDERS,
    "levels": LEVEL_STUDIES,
    "contest": CONTESTS,
  }
)


def make_named_study(name: str, preset: str) -> Study:
  """Returns the preset of a study.

  Raises:
    UsageError: there is no such study or preset; names the nearest.
  """
  if name not in STUDIES:
    raise unknown("study", name, STUDIES)
  if preset not in STUDIES[name]:
    raise unknown("preset", preset, STUDIES[name])
  return STUDIES[name][preset]()
