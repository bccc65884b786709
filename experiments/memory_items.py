"""What a run keeps in memory, item by item, each with its arithmetic. No JAX."""

from collections.abc import Iterator
import dataclasses
import math

import numpy as np

from agents.workload import Leaf, PhaseWork, Workload
from environments.interface import EnvironmentSpec
from experiments.config import ExperimentConfig
from experiments.errors import UsageError
from replay.interface import Sequences
from replay.plan import DRAWN_AHEAD, plan_replay


@dataclasses.dataclass(frozen=True)
class MemoryItem:
  """One thing that a run keeps in memory.

  Attributes:
    name: what it is.
    size: in bytes, over all devices where it is on devices.
    place: `host` or `device`; without an accelerator both are the machine's memory.
    arithmetic: how `size` comes about.
  """

  name: str
  size: int
  place: str
  arithmetic: str


def memory_items(
  config: ExperimentConfig, work: Workload, spec: EnvironmentSpec
) -> Iterator[MemoryItem]:
  """Yields everything that a run keeps and that follows from counts.

  Raises:
    UsageError: a request of its replay cannot be met; the message has the arithmetic.
  """
  step = sum(map(leaf_bytes, work.record.values()))
  steps = work.rollout_length * spec.num_environments
  rollout = f"{work.rollout_length} x {spec.num_environments} steps x {step:,} bytes"
  yield MemoryItem("rollout", step * steps, "host", rollout)
  yield MemoryItem("record of the rollout", step * steps, "device", rollout)
  for phase in work.phases:
    if isinstance(phase.source, Sequences):
      yield from _replay_memory(phase, work, spec=spec)
    else:
      yield from _rollouts_memory(phase, rollout, size=step * steps)
  if work.simulations:
    at_once = {
      "acting": spec.num_environments,
      "evaluation": config.evaluation.num_environments,
      "reanalysing": max(phase.searched_at_once for phase in work.phases),
    }
    what = max(at_once, key=at_once.get)
    yield MemoryItem(
      "search trees",
      work.tree_bytes * at_once[what],
      "device",
      f"{at_once[what]:,} positions ({what}) x {work.tree_bytes:,} bytes",
    )


def _rollouts_memory(phase: PhaseWork, rollout: str, *, size: int):
  """Yields what a phase over fresh rollouts keeps, at the moment in which its batch is made."""
  count = phase.source.count
  if count > 1:
    group = f"{count} rollouts of {rollout}"
    yield MemoryItem(f"{phase.name}: queue", count * size, "host", group)
    yield MemoryItem(f"{phase.name}: drawn", count * size, "device", group)
  yield MemoryItem(
    f"{phase.name}: batch", count * size, "device", f"{count} x {rollout}" if count > 1 else rollout
  )


def _replay_memory(phase: PhaseWork, work: Workload, *, spec: EnvironmentSpec):
  """Yields what a phase over replayed sequences keeps."""
  request = phase.source
  leaves = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in work.record.items()}
  try:
    replay = plan_replay(request, num_environments=spec.num_environments, leaves=leaves)
  except ValueError as error:
    raise UsageError(f"agent.sequences: {error}") from None
  frame = leaf_bytes(work.record["observation"])
  frames = f"{request.capacity:,} frames x {frame:,} bytes"
  if replay.compressed:
    frames = f"memory_budget; {frames} = {gib(request.capacity * frame)} do not fit it raw"
  yield MemoryItem(f"{phase.name}: replay, frames", replay.observations, "host", frames)
  rest = replay.other_leaves + replay.priorities
  what = "actions, rewards, ... of every frame" + (", priorities" if replay.priorities else "")
  yield MemoryItem(f"{phase.name}: replay, the rest", rest, "host", what)
  yield MemoryItem(
    f"{phase.name}: drawn batches",
    replay.batch * (1 + DRAWN_AHEAD),
    "device",
    f"{1 + DRAWN_AHEAD} x {request.batch_size} sequences of {request.length} frames",
  )
  yield MemoryItem(
    f"{phase.name}: batch",
    request.samples_per_draw * frame,
    "device",
    f"{request.samples_per_draw:,} frames x {frame:,} bytes",
  )


def leaf_bytes(leaf: Leaf) -> int:
  """Returns the bytes of one environment's entry at one step."""
  shape, dtype = leaf
  return math.prod(shape) * np.dtype(dtype).itemsize


def gib(size: int) -> str:
  """Returns a number of bytes as GiB, or as MiB where that is less than a tenth of one."""
  return f"{size / 2**30:,.2f} GiB" if size >= 0.1 * 2**30 else f"{size / 2**20:,.1f} MiB"
