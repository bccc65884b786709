"""From what a phase asks for to the source that answers it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from replay.interface import Record, Rollouts, Sequences, SnapshotStore, Source
from replay.rollout_queue import RolloutQueue
from replay.sequence_buffer import SequenceBuffer
from replay.snapshots import Snapshots


def make_source(
  request: Rollouts | Sequences,
  *,
  seed: int = 0,
  prepare: Callable[[Record], Any] = lambda record: record,
) -> Source:
  """Builds the source for a phase's request.

  Args:
    request: what the phase asks for.
    seed: of random draws, at least 0. Rollouts are not drawn at random.
    prepare: applied to records that are drawn ahead, in another thread. Rollouts
      are handed on as they are.

  Raises:
    ValueError: the seed is negative.
    TypeError: no source answers such a request.
  """
  if isinstance(request, Rollouts):
    return RolloutQueue(request)
  if isinstance(request, Sequences):
    return SequenceBuffer(request, seed=seed, prepare=prepare)
  raise TypeError(f"no source answers a request of type {type(request).__name__}")


def make_snapshot_store(request: Rollouts | Sequences, directory: Path) -> SnapshotStore | None:
  """Returns where the source of a request keeps its content beside the checkpoints.

  Args:
    request: what the phase asks for.
    directory: for this source alone; made if there is content to keep.

  Returns:
    None for rollouts, whose state is small and goes into the checkpoint.
  """
  return Snapshots(directory) if isinstance(request, Sequences) else None
