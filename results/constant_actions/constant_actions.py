"""What does a policy get that does not look: one action for ever, or all at random?

Plays every action of a game, and with a chance of `EPSILON` any, in 64 environments until each
has ended four episodes. One JSON object per policy and level distribution on standard output.

  python results/constant_actions/constant_actions.py coinrun leaper > scores.jsonl
"""

import json
import sys

import numpy as np

from environments.action_names import action_names
from environments.factory import make_environment
from environments.levels import parse_levels

ENVIRONMENTS, QUOTA, SEED = 64, 4, 11
EPSILON = 0.05  # as the final one of the control
LEVELS = ("easy-200", "easy-all")


def play(game: str, levels: str, action: int, *, epsilon: float):
  """Returns the quota's returns and lengths, `[ENVIRONMENTS, QUOTA]` each, and the time limit."""
  environment = make_environment(
    game, levels=parse_levels(levels), num_environments=ENVIRONMENTS, seed=SEED
  )
  generator = np.random.default_rng(SEED)
  environment.observe()  # every environment's first episode opens here
  returns, lengths = np.zeros((2, ENVIRONMENTS, QUOTA))
  ended = np.zeros(ENVIRONMENTS, int)
  while np.any(ended < QUOTA):
    explore = generator.random(ENVIRONMENTS) < epsilon
    others = generator.integers(environment.spec.num_actions, size=ENVIRONMENTS)
    environment.act(np.where(explore, others, action).astype(np.int32))
    step = environment.observe()
    (counted,) = np.nonzero(ended < QUOTA)
    returns[counted, ended[counted]] += step.reward[counted]
    lengths[counted, ended[counted]] += 1
    ended += step.first
  limit = environment.spec.time_limit
  environment.close()
  return returns, lengths, limit


def main(games: list[str]) -> None:
  """Plays and prints."""
  for game in games:
    policies = [(name, number, EPSILON) for number, name in enumerate(action_names(game))]
    policies.append(("random", 0, 1.0))
    for levels in LEVELS:
      for name, action, epsilon in policies:
        returns, lengths, limit = play(game, levels, action, epsilon=epsilon)
        row = {
          "game": game,
          "levels": levels,
          "policy": name,
          "epsilon": epsilon,
          "episodes": returns.size,
          "episode_return": returns.mean(),
          "standard_error": returns.std(ddof=1) / np.sqrt(returns.size),
          "episode_length": lengths.mean(),
          "time_outs": int(np.sum(lengths >= limit)),
          "seed": SEED,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
  main(sys.argv[1:])
