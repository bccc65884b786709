"""What a replay of sequences will hold in memory, and whether it can be built."""

from collections.abc import Mapping
import dataclasses
import math

import numpy as np

from replay.interface import SAMPLE_LEAVES, Sequences
from replay.priorities import priority_bytes

# Procgen's 16 games at 32 frames a block: harmonic mean 15.7; starpilot 6.0, miner 88.
LIKELY_COMPRESSION = 16
DRAWN_AHEAD = 2  # drawn batches that a replay of sequences keeps ready
FRAMES = "observation"  # the entry that is large enough to be compressed

Leaf = tuple[tuple[int, ...], np.dtype]  # shape of one environment's entry at one step, dtype


@dataclasses.dataclass(frozen=True)
class ReplayPlan:
  """Sizes of a replay, in bytes where nothing else is said.

  Attributes:
    capacity_per_environment: frames that every environment keeps.
    compressed: whether observations are kept as compressed blocks.
    observations: the observations, in the form in which they are kept.
    other_leaves: everything else that is stored with a frame.
    priorities: of prioritised draws.
    batch: one drawn batch.
  """

  capacity_per_environment: int
  compressed: bool
  observations: int
  other_leaves: int
  priorities: int
  batch: int

  @property
  def total(self) -> int:
    """Bytes of everything that is stored; drawn batches come on top."""
    return self.observations + self.other_leaves + self.priorities


def leaf_specs(record: Mapping[str, np.ndarray]) -> dict[str, Leaf]:
  """Returns what one environment's entries look like at one step, for a record `[T, B, ...]`."""
  return {name: (leaf.shape[2:], np.dtype(leaf.dtype)) for name, leaf in record.items()}


def plan_replay(
  request: Sequences, *, num_environments: int, leaves: Mapping[str, Leaf]
) -> ReplayPlan:
  """Works out what a replay takes, and refuses what does not fit.

  Args:
    request: what is asked for.
    num_environments: B.
    leaves: shape and dtype of a record's entries without their time and environments
      axes; `observation` is required.

  Raises:
    ValueError: the request cannot be met; the message has the arithmetic.
  """
  _check_leaves(leaves)
  capacity, left = divmod(request.capacity, num_environments)
  if left:
    raise ValueError(
      f"capacity must be a multiple of the {num_environments} environments, got"
      f" {request.capacity}; {capacity * num_environments} is the next below"
    )
  if capacity < request.length:
    raise ValueError(
      f"a window of length {request.length} is longer than the ring: capacity"
      f" {request.capacity} over {num_environments} environments keeps {capacity} frames of each"
    )
  if request.min_size < request.length * num_environments:
    raise ValueError(
      f"min_size must be at least length x environments = {request.length} x {num_environments}"
      f" = {request.length * num_environments}, got {request.min_size}: a draw needs a whole"
      " window"
    )
  sizes = {
    name: math.prod(shape) * np.dtype(dtype).itemsize for name, (shape, dtype) in leaves.items()
  }
  raw = sizes[FRAMES] * request.capacity
  compressed = raw > request.memory_budget
  if raw > request.memory_budget * LIKELY_COMPRESSION:
    raise ValueError(
      f"capacity {request.capacity} x {sizes[FRAMES]} bytes = {raw / 2**30:.2f} GiB of frames do"
      f" not fit memory_budget = {request.memory_budget / 2**30:.2f} GiB, nor when compressed:"
      f" {LIKELY_COMPRESSION}-fold, they are {raw / LIKELY_COMPRESSION / 2**30:.2f} GiB"
    )
  drawn = sum(sizes.values()) * request.length + 4 * len(SAMPLE_LEAVES) * request.starts
  return ReplayPlan(
    capacity_per_environment=capacity,
    compressed=compressed,
    observations=request.memory_budget if compressed else raw,
    other_leaves=(sum(sizes.values()) - sizes[FRAMES]) * request.capacity,
    priorities=priority_bytes(request.capacity) if request.priority_exponent else 0,
    batch=drawn * request.batch_size,
  )


def _check_leaves(leaves: Mapping[str, Leaf]) -> None:
  """Raises ValueError where a record's entries cannot be stored."""
  if FRAMES not in leaves:
    raise ValueError(f"a record for Sequences needs the entry {FRAMES!r}, got {sorted(leaves)}")
  reserved = sorted(set(leaves) & set(SAMPLE_LEAVES))
  if reserved:
    raise ValueError(f"a draw adds the entries {reserved} itself: the record must not have them")
