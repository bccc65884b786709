"""What to evaluate: which levels, how many episodes, which policy. No JAX here."""

import dataclasses
from pathlib import Path

from environments.levels import LevelDistribution, full_distribution, held_out, parse_levels
from experiments.config import ExperimentConfig
from experiments.errors import UsageError, nearest

NAMED_SETS = ("train", "test", "held-out")


@dataclasses.dataclass(frozen=True)
class LevelSet:
  """Levels to play, and how they were asked for.

  Attributes:
    name: `train`, `test`, `held-out`, or a level distribution's name.
    levels: the levels.
  """

  name: str
  levels: LevelDistribution


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
  """What to play of one run; every value is settled.

  Attributes:
    directory: the run's.
    config: the run's.
    checkpoint: environment steps of the checkpoint; None takes the latest good one.
    level_sets: played one after the other.
    num_environments: B, side by side.
    episodes_per_environment: the quota that every environment plays.
    policy: `sampled` or `greedy`.
    seed: of levels, actions and bootstrap.
    bounds: name of the score bounds.
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

  @property
  def episodes(self) -> int:
    """Episodes on one level set."""
    return self.num_environments * self.episodes_per_environment


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
    return LevelSet(name, held_out(training) if name == "held-out" else parse_levels(name))
  except ValueError as error:
    close = "" if name in NAMED_SETS else nearest(name, NAMED_SETS)
    if close:
      raise UsageError(f"--levels: unknown level set {name!r}.{close}") from None
    raise UsageError(f"--levels: {error}; or one of {', '.join(NAMED_SETS)}") from None
