"""Evaluates a policy on a set of levels: the row that stands in the metrics file."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import numpy as np

from agents.interface import ActorOutput, PolicyParams
from environments.interface import Environment
from training.calibration import CalibrationWatcher, ValueReading
from training.episodes import Episode
from training.playing import Watcher, play_episodes


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


def play_and_summarise(
  environment: Environment,
  act: Callable[..., ActorOutput],
  params: PolicyParams,
  *,
  episodes_per_environment: int,
  key: jax.Array,
  reading: ValueReading | None = None,
  watchers: tuple[Watcher, ...] = (),
) -> tuple[list[Episode], dict[str, Any]]:
  """Plays every environment's quota; returns the episodes and what a row says of them.

  Args:
    environment: B fresh environments.
    act: compiled `act` or `act_greedy`.
    params: what acting needs.
    episodes_per_environment: the quota.
    key: consumed.
    reading: how the values that acting reports are read; None leaves calibration out.
    watchers: called after every step.
  """
  calibrations = []
  if reading is not None:
    count = environment.spec.num_environments
    calibrations = [CalibrationWatcher(reading, num_environments=count)]
  episodes = play_episodes(
    environment,
    act,
    params,
    episodes_per_environment=episodes_per_environment,
    key=key,
    watchers=(*(each.watch for each in calibrations), *watchers),
  )
  summary = summarise(episodes)
  for each in calibrations:
    summary |= each.summary()
  return episodes, summary


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
  reading: ValueReading | None = None,
) -> dict[str, Any]:
  """Evaluates on one set of levels; returns the row for the metrics file."""
  environment = evaluation_set.make_environment()
  try:
    _, summary = play_and_summarise(
      environment,
      act,
      params,
      episodes_per_environment=episodes_per_environment,
      key=key,
      reading=reading,
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
    **summary,
  }
