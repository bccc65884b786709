"""What a phase may ask for, and what answers it.

A *record* maps names to arrays `[T, B, ...]`: time first, then environments.
Sources live on the host. They know no agent and run no network.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple, Protocol

import numpy as np

Record = Mapping[str, Any]  # arrays [T, B, ...], of numpy or on a device


class Trajectory(NamedTuple):
  """T steps of B environments, as the actor collects them."""

  observation: np.ndarray  # [T, B, H, W, C] uint8
  action: np.ndarray  # [T, B] int32
  reward: np.ndarray  # [T, B] float32, after action t
  discount: np.ndarray  # [T, B] float32, after action t: 0 where it ended the episode, else 1
  extras: Mapping[str, np.ndarray]  # [T, B, ...], what `act` reported
  final_observation: np.ndarray  # [B, H, W, C] uint8, for bootstrapping


@dataclasses.dataclass(frozen=True)
class Rollouts:
  """Ask for fresh rollouts: each used exactly once, in groups of `count`.

  Attributes:
    count: rollouts in a group. A group is one record whose environments axis
      holds the `count` rollouts one after another: `[T, count * B, ...]`.

  Raises:
    ValueError: `count` is not a positive integer.
  """

  count: int = 1

  def __post_init__(self):
    if not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 1:
      raise ValueError(f"Rollouts.count must be an integer of at least 1, got {self.count!r}")


class Source(Protocol):
  """Where a phase's data comes from."""

  def add(self, record: Record) -> None:
    """Takes one record; the source may keep the arrays without copying."""

  def updates_due(self) -> int:
    """Returns how many draws the counts allow now; never depends on a clock."""

  def draw(self) -> Record:
    """Returns the next record to learn from.

    Raises:
      RuntimeError: no update is due.
    """

  def save_state(self) -> dict[str, np.ndarray]:
    """Returns everything that a bit-for-bit continuation needs, as flat arrays."""

  def restore_state(self, state: Mapping[str, np.ndarray]) -> None:
    """Takes back what `save_state` returned.

    Raises:
      ValueError: the state does not fit this source; the message names the entry.
    """
