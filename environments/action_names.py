"""What the actions of each game are called. Light: no game is loaded."""

from environments.games import find_game

PROCGEN_ACTIONS = (
  "left down",
  "left",
  "left up",
  "down",
  "stay",
  "up",
  "right down",
  "right",
  "right up",
  "key D",
  "key A",
  "key W",
  "key S",
  "key Q",
  "key E",
)
CATCH_ACTIONS = ("left", "stay", "right")


def action_names(game: str) -> tuple[str, ...]:
  """Returns a name for every action of a game, by its number.

  Raises:
    ValueError: an unknown game.
  """
  return CATCH_ACTIONS if find_game(game).family == "catch" else PROCGEN_ACTIONS
