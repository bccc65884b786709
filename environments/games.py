"""The games, one row each: family, time limit, score bounds.

Light: numpy is not needed here, and no game is loaded.
"""

from collections.abc import Mapping
import dataclasses
from types import MappingProxyType
from typing import NamedTuple

from environments.names import unknown_name

MODES = ("easy", "hard")
BOUNDS = ("train-procgen", "paper")


class Bounds(NamedTuple):
  """Mean returns that count as normalised score 0 and 1."""

  minimum: float
  maximum: float


@dataclasses.dataclass(frozen=True)
class Game:
  """One game.

  Attributes:
    name: as in `GAMES`.
    family: which adapter plays it: `procgen` or `catch`.
    time_limit: steps after which an episode is ended by the clock.
    easy: bounds in easy mode by train-procgen's code.
    hard: bounds in hard mode, equal in both published sets.
    easy_paper: bounds in easy mode by the paper's table.
  """

  name: str
  family: str
  time_limit: int
  easy: Bounds
  hard: Bounds
  easy_paper: Bounds


def _procgen(name, time_limit, *, easy, hard, easy_paper=None):
  """Returns a Procgen row; the published sets differ in two easy games only."""
  return Game(
    name, "procgen", time_limit, Bounds(*easy), Bounds(*hard), Bounds(*(easy_paper or easy))
  )


# Bounds: openai/train-procgen (code) and Cobbe et al. 2020, appendix C. Time limits were
# checked against the binary with a policy that stands still, except where it always dies earlier.
_ROWS = (
  _procgen("bigfish", 6000, easy=(1, 40), hard=(0, 40)),
  _procgen("bossfight", 4000, easy=(0.5, 13), hard=(0.5, 13)),
  _procgen("caveflyer", 1000, easy=(3.5, 12), hard=(2, 13.4)),
  _procgen("chaser", 1000, easy=(0.5, 13), hard=(0.5, 14.2)),
  _procgen("climber", 1000, easy=(2, 12.6), hard=(1, 12.6)),
  _procgen("coinrun", 1000, easy=(5, 10), hard=(5, 10)),
  _procgen("dodgeball", 1000, easy=(1.5, 19), hard=(1.5, 19)),
  _procgen("fruitbot", 1000, easy=(-1.5, 32.4), hard=(-0.5, 27.2)),
  _procgen("heist", 1000, easy=(3.5, 10), hard=(2, 10)),
  _procgen("jumper", 1000, easy=(1, 10), hard=(1, 10), easy_paper=(3, 10)),
  _procgen("leaper", 500, easy=(1.5, 10), hard=(1.5, 10), easy_paper=(3, 10)),
  _procgen("maze", 500, easy=(5, 10), hard=(4, 10)),
  _procgen("miner", 1000, easy=(1.5, 13), hard=(1.5, 20)),
  _procgen("ninja", 1000, easy=(3.5, 10), hard=(2, 10)),
  _procgen("plunder", 4000, easy=(4.5, 30), hard=(3, 30)),
  _procgen("starpilot", 1000, easy=(2.5, 64), hard=(1.5, 35)),
  Game("catch", "catch", 7, Bounds(-1, 1), Bounds(-1, 1), Bounds(-1, 1)),
)

GAMES: Mapping[str, Game] = MappingProxyType({row.name: row for row in _ROWS})


def find_game(name: str) -> Game:
  """Returns the row of the game called `name`.

  Raises:
    ValueError: there is none; the message names the nearest one and all of them.
  """
  if name not in GAMES:
    raise ValueError(unknown_name("game", name, GAMES))
  return GAMES[name]


def score_bounds(game: str, mode: str, bounds: str = "train-procgen") -> Bounds:
  """Returns the mean returns that count as 0 and 1.

  Two sets are in use (SCIENCE.md, section 3). They differ in easy mode only:
  jumper starts at 1 and leaper at 1.5 in train-procgen's code, both at 3 in the
  paper's table.

  Args:
    game: a name in `GAMES`.
    mode: `easy` or `hard`.
    bounds: `train-procgen` or `paper`.

  Raises:
    ValueError: an unknown game, mode or set of bounds.
  """
  row = find_game(game)
  if mode not in MODES:
    raise ValueError(unknown_name("mode", mode, MODES))
  if bounds not in BOUNDS:
    raise ValueError(unknown_name("score bounds", bounds, BOUNDS))
  if mode == "hard":
    return row.hard
  return row.easy_paper if bounds == "paper" else row.easy


def normalised_score(score, bounds: Bounds):
  """Min-max normalised score (Cobbe et al. 2020), never clipped.

    (score - minimum) / (maximum - minimum)

  Args:
    score: mean return, a number or an array of any shape.
    bounds: from `score_bounds`.

  Returns:
    The same shape; below 0 and above 1 are possible.
  """
  return (score - bounds.minimum) / (bounds.maximum - bounds.minimum)
