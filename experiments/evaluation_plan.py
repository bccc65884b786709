"""What to evaluate: which levels, how many episodes, which policy, which search. No JAX here."""

import dataclasses
from pathlib import Path

from environments.level_list import LevelList, is_level_list, parse_level_list
from environments.levels import (
  LevelDistribution,
  full_distribution,
  held_out,
  overlap,
  parse_levels,
)
from experiments.config import ExperimentConfig
from experiments.errors import UsageError, nearest

NAMED_SETS = ("train", "test", "held-out")


@dataclasses.dataclass(frozen=True)
class LevelSet:
  """Levels to play, and how they were asked for.

  Attributes:
    name: `train`, `test`, `held-out`, or the name of the levels.
    levels: drawn from at random, or a list with an environment for every level.
  """

  name: str
  levels: LevelDistribution | LevelList

  @property
  def is_list(self) -> bool:
    """Whether every level is played equally often."""
    return isinstance(self.levels, LevelList)

  @property
  def num_levels(self) -> int:
    """Size of the set; 0 means every level."""
    return len(self.levels.seeds) if self.is_list else self.levels.num_levels

  def shared_with(self, training: LevelDistribution) -> int:
    """Returns how many level seeds of the same mode training plays too."""
    if not self.is_list:
      return overlap(self.levels, training)
    same_mode = self.levels.mode == training.mode
    return sum(same_mode and seed in training.seeds for seed in self.levels.seeds)


@dataclasses.dataclass(frozen=True)
class VideoPlan:
  """Which episodes become films.

  Attributes:
    directory: of the films; each run has a folder in it.
    episodes: of every evaluation, the first of so many environments.
  """

  directory: Path
  episodes: int


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
  """What to play of one run; every value is settled.

  Attributes:
    directory: the run's.
    config: the run's.
    checkpoint: environment steps of the checkpoint; None takes the latest good one.
    level_sets: played one after the other.
    num_environments: B, side by side, where levels are drawn at random.
    episodes_per_environment: the quota that every environment plays.
    policy: `sampled` or `greedy`.
    seed: of levels, actions and bootstrap.
    bounds: name of the score bounds.
    search: with which an agent that plans acts; None is its own.
    simulations: numbers of simulations, each evaluated; empty where the agent does not plan.
    video: None makes no films.
  """

  directory: Path
  config: ExperimentConfig
  checkpoint: int | None
  level_sets: tuple[LevelSet, ...]
  num_environments: int
  episodes_per_environment: int
  policy: str
  seed: int
  bounds: str
  search: str | None = None
  simulations: tuple[int, ...] = ()
  video: VideoPlan | None = None

  def environments_on(self, level_set: LevelSet) -> int:
    """Environments side by side: one for every level of a list."""
    return level_set.num_levels if level_set.is_list else self.num_environments


def resolve_level_set(name: str, training: LevelDistribution) -> LevelSet:
  """Returns the levels that `name` means for a run on `training` levels.

  Raises:
    UsageError: it means none; names the nearest.
  """
  try:
    if name == "train":
      return LevelSet(name, training)
    if name == "test":
      return LevelSet(name, full_distribution(training))
    if is_level_list(name):
      levels = parse_level_list(name, mode=training.mode)
      return LevelSet(levels.name, levels)
    return LevelSet(name, held_out(training) if name == "held-out" else parse_levels(name))
  except ValueError as error:
    close = "" if name in NAMED_SETS else nearest(name, NAMED_SETS)
    if close:
      raise UsageError(f"--levels: unknown level set {name!r}.{close}") from None
    more = (
      "" if is_level_list(name) else f"; or one of {', '.join(NAMED_SETS)}, or seeds:3,17,40-59"
    )
    raise UsageError(f"--levels: {error}{more}") from None
