"""What a phase may ask for, and what answers it.

A *record* maps names to arrays `[T, B, ...]`: time first, then environments.
Sources live on the host. They know no agent and run no network.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import fractions
import math
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequences:
  """Ask for windows of stored frames, each used several times.

  A window is `length` frames in a row of one environment. It may cross episode
  ends, where the discount is 0, and never the write head. Its first `starts`
  frames are the samples: what follows a start is there to unroll and bootstrap.
  A draw is a record `[length, batch_size, ...]` with the entries of `SAMPLE_LEAVES`.

  Attributes:
    length: L = S + K + n frames, for S starts, K unrolled steps and n-step returns.
    starts: S, samples in a window.
    batch_size: windows in a draw.
    capacity: frames kept, over all environments; every environment keeps the same
      number of its latest frames.
    min_size: frames, over all environments, before the first draw.
    samples_per_insert: samples drawn (`batch_size * starts` in a draw) for every
      environment step inserted after the first `min_size`. As in Reverb's
      SampleToInsertRatio, the steps before `min_size` earn no draws: they would all
      come due at once. Taken as the decimal number it is written as, and counted in
      integers: what does not make up a whole draw stays due for the next.
    priority_exponent: alpha of prioritised replay (Schaul et al. 2016): a window is
      drawn in proportion to (priority of its first frame)^alpha; 0 draws uniformly.
    importance_exponent: beta of the importance weights of its samples.
    memory_budget: bytes for stored observations. What does not fit uncompressed is
      kept as compressed blocks; the windows that come out are the same.
    block_frames: frames of one environment in a compressed block. More compress
      better and are slower to read (the mean over Procgen's games is 11 times
      smaller at 16 frames, 16 times at 32, 19 times at 64).

  Raises:
    ValueError: a value is out of its range; the message names it.
  """

  length: int
  starts: int
  batch_size: int
  capacity: int
  min_size: int
  samples_per_insert: float
  priority_exponent: float = 0.0
  importance_exponent: float = 0.0
  memory_budget: int = 8 * 2**30
  block_frames: int = 32

  def __post_init__(self):
    for name in ("length", "starts", "batch_size", "capacity", "min_size"):
      _check_positive_integer(name, getattr(self, name))
    for name in ("memory_budget", "block_frames"):
      _check_positive_integer(name, getattr(self, name))
    if self.starts > self.length:
      raise ValueError(
        f"Sequences.starts must be at most length = {self.length}, got {self.starts}"
      )
    if not self.length <= self.min_size <= self.capacity:
      raise ValueError(
        f"Sequences.min_size must be in [length, capacity] = [{self.length}, {self.capacity}],"
        f" got {self.min_size}"
      )
    if not (math.isfinite(self.samples_per_insert) and self.samples_per_insert > 0):
      raise ValueError(
        f"Sequences.samples_per_insert must be finite and above 0, got {self.samples_per_insert!r}"
      )
    for name in ("priority_exponent", "importance_exponent"):
      value = getattr(self, name)
      if not 0 <= value <= 1:
        raise ValueError(f"Sequences.{name} must be in [0, 1], got {value!r}")
    if self.importance_exponent and not self.priority_exponent:
      raise ValueError(
        "Sequences.importance_exponent must be 0 where priority_exponent is 0: uniform draws"
        f" have nothing to weigh, got {self.importance_exponent!r}"
      )

  @property
  def samples_per_draw(self) -> int:
    """Samples in a draw."""
    return self.batch_size * self.starts

  def draws_earned(self, inserted: int) -> int:
    """Draws that so many inserted environment steps have earned since the start.

      floor((inserted - min_size) * samples_per_insert / samples_per_draw), at least 0

    Args:
      inserted: environment steps of all time, over all environments.
    """
    ratio = fractions.Fraction(str(self.samples_per_insert))
    counted = max(0, inserted - self.min_size)
    return counted * ratio.numerator // (ratio.denominator * self.samples_per_draw)


def _check_positive_integer(name: str, value: Any) -> None:
  """Raises ValueError unless a field of Sequences is an integer of at least 1."""
  if not isinstance(value, int) or isinstance(value, bool) or value < 1:
    raise ValueError(f"Sequences.{name} must be an integer of at least 1, got {value!r}")


# What a draw of Sequences adds to the stored entries of its windows, `[S, batch_size]` each.
SAMPLE_LEAVES = (
  "environment",  # int32, which environment the window is of
  "frame_number",  # int32, frames of that environment before the sample, of all time
  "age",  # int32, frames that the environment has added since, the sample included
  "importance_weight",  # float32, in (0, 1]; 1 for uniform draws
)


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

  def facts(self) -> dict[str, float]:
    """Returns numbers by name that say how the source stands; none of it is used."""

  def save_state(self) -> dict[str, np.ndarray]:
    """Returns everything that a bit-for-bit continuation needs, as flat arrays."""

  def restore_state(self, state: Mapping[str, np.ndarray]) -> None:
    """Takes back what `save_state` returned.

    Raises:
      ValueError: the state does not fit this source; the message names the entry.
    """


class SnapshotStore(Protocol):
  """Keeps the content of one large source beside the checkpoints, writing only what is new."""

  def save(self, source: Any, name: str) -> Any:
    """Writes a snapshot called `name`.

    Raises:
      OSError: it could not be written; earlier snapshots are untouched.
    """

  def restore(self, source: Any, name: str) -> None:
    """Continues `source` bit for bit from a snapshot.

    Raises:
      ValueError: the snapshot is of another source.
    """

  def find_damage(self, name: str) -> list[str]:
    """Returns what is wrong with a snapshot, a line for every file; none if it is good."""

  def prune(self, keep: Iterable[str]) -> None:
    """Deletes all other snapshots."""
