"""Checkpoints of a run of several processes: one step in all of them, or none.

Every process writes what it alone has: environments, sources, counters. The first writes the
train state, which all hold, and the others its checksum.
"""

from collections.abc import Callable, Sequence
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from training.checkpoint import CheckpointError, Checkpoints, Snapshot
from training.checkpoint_reader import CheckpointReader
from training.checksum import checksum_of
from training.part_checkpoints import PartCheckpoints
from training.processes import Processes

logger = logging.getLogger(__name__)


class SharedCheckpoints:
  """The checkpoints of one process, which count where all processes have them."""

  def __init__(self, directories: Sequence[Path], *, keep: int, processes: Processes):
    """Opens the checkpoints.

    Args:
      directories: of every process its own; all must see the first one's disk.
      keep: how many of the latest stay.
      processes: of the run.
    """
    make = Checkpoints if processes.is_first else PartCheckpoints
    self._own = make(directories[processes.index], keep=keep)
    self._processes = processes
    self._directories = directories
    self._first = directories[0]

  def steps(self) -> list[int]:
    """Returns the steps that every process has, oldest first; all have to ask."""
    return self._processes.common(self._own.steps())

  def save(self, step: int, snapshot: Snapshot) -> None:
    """Writes a checkpoint; older ones are dropped when every process has written its own.

    Raises:
      CheckpointError: it could not be written.
      DisagreementError: the processes hold different train states; nothing is written.
    """
    # Of numpy: orbax refuses what is on the devices of one process alone.
    own_copy = jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), snapshot.train_state)
    checksum = checksum_of(own_copy)
    self._processes.check_equal(checksum)
    kept = own_copy if self._processes.is_first else {"checksum": checksum.hex()}
    self._own.save(
      step,
      snapshot._replace(train_state=kept),
      before_dropping=lambda: self._processes.wait(f"saved-{step}"),
    )

  def restore(
    self,
    train_state: Any,
    *,
    damage_beside: Callable[[int], list[str]] = lambda step: [],
  ) -> tuple[int, Snapshot]:
    """Reads the latest checkpoint that is undamaged in every process.

    Args:
      train_state: of the same structure, on the devices of all processes.
      damage_beside: as of `Checkpoints.restore`.

    Returns:
      The step and what was saved; the train state is of numpy.

    Raises:
      CheckpointError: there is none.
    """
    for step in self.steps()[::-1]:
      problem = self._own.find_damage(step) or "; ".join(damage_beside(step))
      if problem:
        logger.warning("checkpoint %d is not used: %s", step, problem)
      if not self._processes.any(bool(problem)):
        return step, self._read(step, train_state)
    empty = [str(self._directories[i]) for i in self._processes.which(not self._own.steps())]
    message = f"no checkpoint in {self._first} is good in every process"
    if empty:
      message += f" (none is left in {', '.join(empty)}: put them back, or begin anew elsewhere)"
    raise CheckpointError(message)

  def drop_after(self, step: int) -> None:
    """Puts away later checkpoints, which not every process has in good order."""
    self._processes.wait(f"read-{step}")  # the others read the first one's train state
    self._own.drop_after(step)

  def close(self) -> None:
    """Waits for what is being written."""
    self._own.close()

  def _read(self, step: int, train_state: Any) -> Snapshot:
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), train_state)
    if self._processes.is_first:
      return self._own.restore(target, step=step)[1]
    snapshot = self._own.restore(step)
    _, state = CheckpointReader(self._first).restore_train_state(target, step=step)
    if checksum_of(state).hex() != snapshot.train_state["checksum"]:
      raise CheckpointError(
        f"step {step} in {self._first} is not the train state that this process has saved with"
      )
    return snapshot._replace(train_state=state)
