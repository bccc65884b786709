"""Which environments a run acts in. Light: no game is loaded."""

import dataclasses

from environments.games import find_game
from environments.levels import LevelDistribution, parse_levels


@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
  """Which environments a run acts in.

  Attributes:
    game: one of the 16 Procgen games, or `catch`.
    levels: training levels, e.g. `easy-200`, `hard-all`, `easy-50@1000`.
    num_environments: environments that step together, B.

  Raises:
    ValueError: an unknown game, unknown levels, or no environment.
  """

  game: str = "coinrun"
  levels: str = "easy-200"
  num_environments: int = 64

  def __post_init__(self):
    try:
      find_game(self.game)
    except ValueError as error:
      raise ValueError(f"environment.game: {error}") from None
    try:
      parse_levels(self.levels)
    except ValueError as error:
      raise ValueError(f"environment.levels: {error}") from None
    count = self.num_environments
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
      raise ValueError(
        f"environment.num_environments must be an integer of at least 1, got {count!r}"
      )

  @property
  def level_distribution(self) -> LevelDistribution:
    """The training levels."""
    return parse_levels(self.levels)
