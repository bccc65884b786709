"""The rings of a sequence replay: one for every entry of its records."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from replay import windows
from replay.compressed_ring import CompressedRing
from replay.interface import Sequences
from replay.plan import FRAMES, ReplayPlan, leaf_specs, plan_replay
from replay.ring import Ring


class FrameStore:
  """The latest frames of B environments, with everything that belongs to a frame.

  Shapes are learnt from the first record; memory is allocated then, and only then.

  Attributes:
    frames: frames of every environment so far; the number of the next.
    num_environments: B, 0 before the first record.
  """

  def __init__(self, request: Sequences, *, first: int = 0):
    """Allocates nothing.

    Args:
      request: of the replay.
      first: number of the first frame to be written.
    """
    self._request = request
    self._plan: ReplayPlan | None = None
    self._leaves = {}
    self._rings: dict[str, Ring | CompressedRing] = {}
    self.frames = first
    self.num_environments = 0

  @property
  def oldest(self) -> int:
    """Number of the oldest frame that is stored."""
    return windows.oldest_frame(self.frames, self.capacity)

  @property
  def capacity(self) -> int:
    """Frames that every environment keeps, 0 before the first record."""
    return self._plan.capacity_per_environment if self._plan else 0

  @property
  def nbytes(self) -> int:
    """Bytes held."""
    return sum(ring.nbytes for ring in self._rings.values())

  def write(self, record: Mapping[str, Any]) -> int:
    """Stores a copy of a record.

    Args:
      record: `[T, B, ...]` by name, of numpy or on a device.

    Returns:
      T.

    Raises:
      TypeError: the record is not a mapping of names to arrays.
      ValueError: an entry does not fit, or the request cannot be met; nothing is stored.
      MemoryError: compressed observations outgrow their budget.
    """
    if not isinstance(record, Mapping):
      raise TypeError(f"a record maps names to arrays, got {type(record).__name__}")
    record = {name: np.asarray(leaf) for name, leaf in record.items()}
    steps, num_environments = self._check_axes(record)
    leaves = leaf_specs(record)
    if not self._rings:
      self._allocate(leaves, num_environments)
    if leaves != self._leaves:
      odd = {name for name, _ in leaves.items() ^ self._leaves.items()}
      raise ValueError(
        f"entries {sorted(odd)} differ from the first record's:"
        f" {[leaves.get(name) for name in sorted(odd)]} against"
        f" {[self._leaves.get(name) for name in sorted(odd)]}"
      )
    if num_environments != self.num_environments:
      raise ValueError(
        f"the record has {num_environments} environments, not the first record's"
        f" {self.num_environments}"
      )
    if steps > self.capacity:
      raise ValueError(
        f"a record of {steps} steps is longer than the ring, which keeps {self.capacity} frames"
        " of every environment"
      )
    for name, leaf in record.items():
      self._rings[name].write(self.frames, leaf)
    self.frames += steps
    return steps

  def read(
    self, environment: np.ndarray, first: np.ndarray, *, length: int
  ) -> dict[str, np.ndarray]:
    """Returns copies of windows: `[length, N, ...]` by name, for `[N]` first frames."""
    return {
      name: ring.read(environment, first, length=length) for name, ring in self._rings.items()
    }

  def _check_axes(self, record: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Returns T and B; raises ValueError where entries do not share them."""
    for name, leaf in record.items():
      if leaf.ndim < 2:
        raise ValueError(f"entry {name!r} must be [T, B, ...], got the shape {leaf.shape}")
    axes = {leaf.shape[:2]: name for name, leaf in record.items()}
    if len(axes) != 1 or 0 in next(iter(axes)):
      raise ValueError(f"all entries must share [T, B], above 0, got {axes}")
    return next(iter(axes))

  def _allocate(self, leaves: Mapping[str, tuple], num_environments: int) -> None:
    """Makes the rings, once it is known that they fit."""
    plan = plan_replay(self._request, num_environments=num_environments, leaves=leaves)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if plan.total > physical:
      raise ValueError(
        f"the replay takes {plan.total / 2**30:.2f} GiB ({plan}), this machine has"
        f" {physical / 2**30:.2f} GiB: lower capacity or memory_budget"
      )
    for name, (shape, dtype) in leaves.items():
      kind = {"shape": shape, "dtype": np.dtype(dtype)}
      if name == FRAMES and plan.compressed:
        kind |= {"block_frames": self._request.block_frames, "nbytes": plan.observations}
        ring = CompressedRing(plan.capacity_per_environment, num_environments, **kind)
      else:
        ring = Ring(plan.capacity_per_environment, num_environments, **kind)
      self._rings[name] = ring
    self._plan, self._leaves, self.num_environments = plan, dict(leaves), num_environments
