"""Plays a fixed quota of episodes in every environment and reports them."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import numpy as np

from agents.interface import ActorOutput, PolicyParams
from environments.interface import Environment
from training.episodes import Episode, EpisodeTracker


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
  """Levels to evaluate on.

  Attributes:
    split: `train` or `test`.
    levels: name of the level distribution.
    seed: of the environments: the same levels come in the same order every time.
    make_environment: builds the B environments anew.
  """

  split: str
  levels: str
  seed: int
  make_environment: Callable[[], Environment]


def play_episodes(
  environment: Environment,
  act: Callable[..., ActorOutput],
  params: PolicyParams,
  *,
  episodes_per_environment: int,
  key: jax.Array,
) -> list[Episode]:
  """Plays until every environment has finished its quota; later episodes do not count.

  Args:
    environment: B fresh environments.
    act: compiled `act` or `act_greedy`.
    params: what acting needs.
    episodes_per_environment: the quota.
    key: consumed.

  Returns:
    B * quota episodes, in the order in which they ended.
  """
  tracker = EpisodeTracker(environment.spec)
  time_step = environment.observe()
  tracker.start(time_step)
  remaining = np.full(environment.spec.num_environments, episodes_per_environment)
  episodes = []
  step = 0
  while remaining.any():
    output = act(params, time_step.observation, jax.random.fold_in(key, step))
    environment.act(np.asarray(output.action))
    time_step = environment.observe()
    for episode in tracker.update(time_step):
      if remaining[episode.environment]:
        remaining[episode.environment] -= 1
        episodes.append(episode)
    step += 1
  return episodes


def summarise(episodes: list[Episode]) -> dict[str, Any]:
  """Returns what an evaluation row says of its episodes."""
  returns = np.asarray([episode.episode_return for episode in episodes])
  return {
    "episodes": len(episodes),
    "episode_return": float(returns.mean()),
    "episode_return_std": float(returns.std()),
    "episode_length": float(np.mean([episode.length for episode in episodes])),
    "level_complete": float(np.mean([episode.level_complete for episode in episodes])),
    "time_outs": int(sum(episode.timed_out for episode in episodes)),
  }


def evaluate(
  evaluation_set: EvaluationSet,
  act: Callable[..., ActorOutput],
  params: PolicyParams,
  *,
  episodes_per_environment: int,
  policy: str,
  key: jax.Array,
) -> dict[str, Any]:
  """Evaluates on one set of levels; returns the row for the metrics file."""
  environment = evaluation_set.make_environment()
  try:
    episodes = play_episodes(
      environment, act, params, episodes_per_environment=episodes_per_environment, key=key
    )
    num_environments = environment.spec.num_environments
  finally:
    environment.close()
  return {
    "split": evaluation_set.split,
    "levels": evaluation_set.levels,
    "policy": policy,
    "episodes_per_environment": episodes_per_environment,
    "num_environments": num_environments,
    "seed": evaluation_set.seed,
    **summarise(episodes),
  }
