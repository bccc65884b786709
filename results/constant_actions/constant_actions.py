"""What does a policy get that does not look: one action for ever, or all at random?

Plays every action of a game, and with a chance of `EPSILON` any, in 64 environments until each
has ended four episodes. One JSON object per policy and level distribution on standard output.

  python results/constant_actions/constant_actions.py coinrun leaper > scores.jsonl
"""

import json
import sys
from typing import Any

import jax
import numpy as np

from agents.interface import ActorOutput
from environments.action_names import action_names
from environments.factory import make_environment
from environments.levels import parse_levels
from training.evaluation import play_and_summarise

ENVIRONMENTS, QUOTA, SEED = 64, 4, 11
EPSILON = 0.05  # as the final one of the control
LEVELS = ("easy-200", "easy-all")


def play(game: str, levels: str, action: int, *, epsilon: float) -> dict[str, Any]:
  """Returns what an evaluation says of the quota's episodes."""
  environment = make_environment(
    game, levels=parse_levels(levels), num_environments=ENVIRONMENTS, seed=SEED
  )
  generator = np.random.default_rng(SEED)

  def act(params, observation, key):
    del params, observation, key
    explore = generator.random(ENVIRONMENTS) < epsilon
    others = generator.integers(environment.spec.num_actions, size=ENVIRONMENTS)
    return ActorOutput(np.where(explore, others, action).astype(np.int32), {})

  key = jax.random.key(SEED)
  _, summary = play_and_summarise(environment, act, None, episodes_per_environment=QUOTA, key=key)
  environment.close()
  return summary


def main(games: list[str]) -> None:
  """Plays and prints."""
  for game in games:
    policies = [(name, number, EPSILON) for number, name in enumerate(action_names(game))]
    policies.append(("random", 0, 1.0))
    for levels in LEVELS:
      for name, action, epsilon in policies:
        row = {"game": game, "levels": levels, "policy": name, "epsilon": epsilon, "seed": SEED}
        print(json.dumps(row | play(game, levels, action, epsilon=epsilon)), flush=True)


if __name__ == "__main__":
  main(sys.argv[1:])
