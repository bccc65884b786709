"""Makes the environments of any game; the only place that knows the families."""

from environments.catch import CatchEnvironment, catch_spec
from environments.games import find_game
from environments.interface import Environment, EnvironmentSpec
from environments.joined import JoinedEnvironment
from environments.level_list import LevelList
from environments.levels import LevelDistribution
from environments.procgen import ProcgenEnvironment, procgen_spec


def make_environment(
  game: str, *, levels: LevelDistribution, num_environments: int, seed: int
) -> Environment:
  """Returns open environments of `game`; close them after use.

  Procgen's library is loaded only for a Procgen game.

  Args:
    game: a name in `GAMES`.
    levels: the levels that are drawn from at every reset.
    num_environments: B.
    seed: in [0, 2**31); the same seed gives the same levels in the same order.

  Raises:
    ValueError: an unknown game, or a number out of range.
  """
  if find_game(game).family == "catch":
    return CatchEnvironment(levels, num_environments=num_environments, seed=seed)
  return ProcgenEnvironment(game, levels, num_environments=num_environments, seed=seed)


def make_one_per_level(game: str, *, levels: LevelList, seed: int) -> Environment:
  """Returns open environments of `game`, one for every level of a list and always in it.

  Procgen draws from ranges only, so that each has a range of one level. They step in the
  caller's thread, one after the other.

  Args:
    game: a name in `GAMES`.
    levels: environment i plays the i-th.
    seed: in [0, 2**31); of no consequence in Procgen, where a level decides everything.

  Raises:
    ValueError: an unknown game, or a number out of range.
  """
  is_catch = find_game(game).family == "catch"
  parts = []
  for level in levels.single_levels():
    if is_catch:
      parts.append(CatchEnvironment(level, num_environments=1, seed=seed))
    else:
      parts.append(ProcgenEnvironment(game, level, num_environments=1, seed=seed, num_threads=0))
  return JoinedEnvironment(parts)


def environment_spec(game: str, *, num_environments: int) -> EnvironmentSpec:
  """Returns what `make_environment` would open looks like; opens and loads nothing.

  Args:
    game: a name in `GAMES`.
    num_environments: B.

  Raises:
    ValueError: an unknown game, or no environment.
  """
  if find_game(game).family == "catch":
    return catch_spec(num_environments)
  return procgen_spec(game, num_environments=num_environments)
