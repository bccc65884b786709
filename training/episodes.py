"""Episodes as they end: return, length, level, completion, time-out."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from environments.interface import EnvironmentSpec, TimeStep


class Episode(NamedTuple):
  """One finished episode."""

  environment: int  # index in the batch
  level_seed: int
  episode_return: float  # sum of unscaled rewards
  length: int  # environment steps
  level_complete: bool
  timed_out: bool  # ended by the clock


class EpisodeTracker:
  """Adds up rewards per environment and reports episodes when they end."""

  def __init__(self, spec: EnvironmentSpec):
    self._time_limit = spec.time_limit
    self._return = np.zeros(spec.num_environments, np.float64)
    self._length = np.zeros(spec.num_environments, np.int64)
    self._level_seed = np.full(spec.num_environments, -1, np.int64)

  def start(self, time_step: TimeStep) -> None:
    """Takes the time step at which tracking begins."""
    self._level_seed[:] = time_step.level_seed

  def update(self, time_step: TimeStep) -> list[Episode]:
    """Takes the time step after an action; returns the episodes that it ended."""
    self._return += time_step.reward
    self._length += 1
    ended = np.flatnonzero(time_step.first)
    episodes = [
      Episode(
        environment=int(i),
        level_seed=int(self._level_seed[i]),
        episode_return=float(self._return[i]),
        length=int(self._length[i]),
        level_complete=bool(time_step.previous_level_complete[i]),
        timed_out=bool(self._length[i] >= self._time_limit),
      )
      for i in ended
    ]
    self._return[ended] = 0.0
    self._length[ended] = 0
    self._level_seed[ended] = time_step.level_seed[ended]
    return episodes

  def save_state(self) -> dict[str, np.ndarray]:
    """Returns the unfinished episodes."""
    return {
      "return": self._return.copy(),
      "length": self._length.copy(),
      "level_seed": self._level_seed.copy(),
    }

  def restore_state(self, state: Mapping[str, np.ndarray]) -> None:
    """Takes back what `save_state` returned."""
    self._return[:] = state["return"]
    self._length[:] = state["length"]
    self._level_seed[:] = state["level_seed"]
