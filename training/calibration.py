"""Value calibration: what acting predicted, against the discounted returns that came.

Every state of the episodes that count has the same weight, so that long episodes weigh
more than short ones. Episodes that did not end are in nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from agents.interface import Agent, TrainState
from training.playing import PlayedStep


class ValueReading(NamedTuple):
  """How the values of one state of an agent are read."""

  discount: float
  scale: float  # reward per unit of value


def read_values(agent: Agent, state: TrainState) -> ValueReading | None:
  """Returns how to read the values that `agent` reports in `state`; None if it reports none."""
  reported = agent.reported_value
  if reported is None:
    return None
  return ValueReading(reported.discount, float(jax.device_get(reported.scale(state))))


def discounted_returns(rewards: Sequence[float], discount: float) -> np.ndarray:
  """Returns of every step of one episode that ended (Sutton & Barto 2018, eq. 3.9).

    G_t = r_{t+1} + gamma G_{t+1},   0 behind the end

  Args:
    rewards: `[T]`, the reward after each action.
    discount: gamma.

  Returns:
    `[T]` float64.
  """
  returns = np.empty(len(rewards), np.float64)
  following = 0.0
  for t in reversed(range(len(rewards))):
    following = rewards[t] + discount * following
    returns[t] = following
  return returns


def calibration(predicted: np.ndarray, observed: np.ndarray) -> dict[str, Any]:
  """How far predicted values are off.

    bias = mean(v - G)
    explained variance = 1 - var(G - v) / var(G)

  Args:
    predicted: `[N]`, v of every visited state.
    observed: `[N]`, G of the same states.

  Returns:
    `value_mean`, `value_bias` and `value_explained_variance`; the last is None where
    the returns do not vary, since it is undefined there.
  """
  variance = float(observed.var())
  unexplained = float((observed - predicted).var())
  return {
    "value_mean": float(predicted.mean()),
    "value_bias": float((predicted - observed).mean()),
    "value_explained_variance": 1.0 - unexplained / variance if variance > 0 else None,
  }


class CalibrationWatcher:
  """Watches B environments being played; see the module."""

  def __init__(self, reading: ValueReading, *, num_environments: int):
    self._reading = reading
    self._values: list[list[float]] = [[] for _ in range(num_environments)]
    self._rewards: list[list[float]] = [[] for _ in range(num_environments)]
    self._predicted: list[np.ndarray] = []
    self._observed: list[np.ndarray] = []

  def watch(self, step: PlayedStep) -> None:
    """Takes one step of all environments."""
    values = np.asarray(step.output.extras["value"], np.float64) * self._reading.scale
    for b in np.flatnonzero(step.counts):
      self._values[b].append(float(values[b]))
      self._rewards[b].append(float(step.after.reward[b]))
    for episode in step.ended:
      b = episode.environment
      self._predicted.append(np.asarray(self._values[b]))
      self._observed.append(discounted_returns(self._rewards[b], self._reading.discount))
      self._values[b], self._rewards[b] = [], []

  def summary(self) -> dict[str, Any]:
    """Returns `calibration` over all episodes that ended so far, at least one."""
    return calibration(np.concatenate(self._predicted), np.concatenate(self._observed))
