"""Several environments as one: their batches one behind the other."""

from collections.abc import Sequence
import dataclasses
import itertools

import numpy as np

from environments.checks import checked_action
from environments.interface import Environment, TimeStep


class JoinedEnvironment:
  """Environments of one game that step together.

  Attributes:
    spec: as of one of them, with the environments of all.
  """

  def __init__(self, parts: Sequence[Environment]):
    """Takes environments over; closing this one closes them.

    Raises:
      ValueError: there is none, or they differ in more than their number.
    """
    if not parts:
      raise ValueError("at least one environment is needed")
    self._parts = list(parts)
    counts = [part.spec.num_environments for part in self._parts]
    total = sum(counts)
    specs = {dataclasses.replace(part.spec, num_environments=total) for part in self._parts}
    if len(specs) > 1:
      raise ValueError(
        f"environments of different games cannot be joined: {sorted(map(str, specs))}"
      )
    (self.spec,) = specs
    ends = list(itertools.accumulate(counts))
    self._slices = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]

  def observe(self) -> TimeStep:
    """Returns the present time step; see `Environment.observe`."""
    shown = [part.observe() for part in self._parts]
    return TimeStep(*(np.concatenate(arrays) for arrays in zip(*shown, strict=True)))

  def act(self, action: np.ndarray) -> None:
    """Takes `action`, `[B]` int32; see `Environment.act`."""
    action = checked_action(action, self.spec)
    for part, own in zip(self._parts, self._slices, strict=True):
      part.act(action[own])

  def save_state(self) -> list[bytes]:
    """Returns the exact state, one entry per environment."""
    return [state for part in self._parts for state in part.save_state()]

  def restore_state(self, states: Sequence[bytes]) -> None:
    """Continues bit for bit from `states`; see `Environment.restore_state`."""
    if len(states) != self.spec.num_environments:
      raise ValueError(f"{len(states)} states do not fit {self.spec.num_environments} environments")
    for part, own in zip(self._parts, self._slices, strict=True):
      part.restore_state(states[own])

  def close(self) -> None:
    """Frees the environments; closing again does nothing."""
    for part in self._parts:
      part.close()
