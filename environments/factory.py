"""Makes the environments of any game; the only place that knows the families."""

from environments.catch import CatchEnvironment
from environments.games import find_game
from environments.interface import Environment
from environments.levels import LevelDistribution
from environments.procgen import ProcgenEnvironment


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
