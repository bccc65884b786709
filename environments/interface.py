"""The types through which everything else sees an environment.

Numpy only: no JAX, no device, no agent.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class EnvironmentSpec:
  """What a batch of environments looks like from outside.

  Attributes:
    name: the game, e.g. `coinrun`.
    num_environments: B.
    observation_shape: (H, W, C) of a uint8 frame.
    num_actions: A; actions are integers in [0, A).
    time_limit: steps after which an episode is ended by the clock. To the agent
      a time-out is a termination, as in all published work on Procgen.
  """

  name: str
  num_environments: int
  observation_shape: tuple[int, int, int]
  num_actions: int
  time_limit: int


class TimeStep(NamedTuple):
  """What B environments show at one moment.

  Where `first` is set, `reward` is the last reward of the episode that just
  ended and `observation` is already the next episode's first frame: the
  terminal frame is never shown.
  """

  observation: np.ndarray  # [B, H, W, C] uint8
  reward: np.ndarray  # [B] float32, for the action before
  first: np.ndarray  # [B] bool, observation opens an episode
  level_seed: np.ndarray  # [B] int32, the level that observation shows
  previous_level_complete: np.ndarray  # [B] bool, where first: the episode that ended was solved


class Environment(Protocol):
  """B environments that step together and reset themselves."""

  spec: EnvironmentSpec

  def observe(self) -> TimeStep:
    """Returns the present time step; calling it again changes nothing.

    The arrays are the caller's: a later `act` does not write into them.
    """

  def act(self, action: np.ndarray) -> None:
    """Takes `action`, `[B]` int32, in every environment.

    Raises:
      ValueError: wrong shape or dtype, or an action outside [0, A).
    """

  def save_state(self) -> list[bytes]:
    """Returns the exact state, one entry per environment."""

  def restore_state(self, states: Sequence[bytes]) -> None:
    """Continues bit for bit from `states`, the present time step included.

    Raises:
      ValueError: the states are of another number of environments, another
        game, or another level distribution.
    """

  def close(self) -> None:
    """Frees the environments; using them afterwards is an error."""
