"""Reads the train state out of a run's checkpoints and changes nothing on disk.

For whoever looks at a run from outside, also while it goes on: no lock, nothing is made,
moved or cleaned up, and the sources' data (a replay) is neither read nor needed.
"""

import logging
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from training.checkpoint import CheckpointError, find_damage, find_misfit
from training.processes import this_process_alone

logger = logging.getLogger(__name__)

ITEM = "train_state"


class CheckpointReader:
  """The checkpoints of one run directory, to read from."""

  def __init__(self, directory: Path):
    self._directory = directory.absolute()

  def steps(self) -> list[int]:
    """Returns the steps that have a checkpoint and its manifest, oldest first."""
    written = {path.name for path in (self._directory / "steps").glob("*")}
    listed = {path.stem for path in (self._directory / "manifests").glob("*.json")}
    return sorted(int(name) for name in written & listed if name.isdigit())

  def restore_train_state(self, train_state: Any, *, step: int | None = None) -> tuple[int, Any]:
    """Reads the train state of the latest good checkpoint, or of the one at `step`.

    Args:
      train_state: a tree of `jax.ShapeDtypeStruct` with shardings, which say on which
        devices the arrays go: other ones than those that they were saved on are fine.
      step: which checkpoint; by default the latest whose train state is undamaged.

    Returns:
      The step and the train state.

    Raises:
      CheckpointError: there is none, none is undamaged, or it is another agent's.
    """
    candidates = self.steps()[::-1] if step is None else [step]
    problems = []
    for candidate in candidates:
      problem = find_damage(self._directory, candidate, item=ITEM)
      if problem is None:
        return candidate, self._read(candidate, train_state)
      problems.append(f"{candidate}: {problem}")
      if step is None:
        logger.warning("checkpoint %d is not used: %s", candidate, problem)
    found = "; ".join(problems) if problems else "none was found"
    raise CheckpointError(f"no usable checkpoint in {self._directory} ({found})")

  def _read(self, step: int, train_state: Any) -> Any:
    path = self._directory / "steps" / str(step) / ITEM
    try:
      # Compared before reading: a restore that fails half-way leaves pages of tracebacks of
      # its unfinished reads on stderr.
      alone = this_process_alone()
      handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
      misfit = find_misfit(handler.metadata(path).tree, train_state)
      if misfit is not None:
        raise CheckpointError(f"{path} is of another agent than the run's: {misfit}")
      with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        return checkpointer.restore(path, args=ocp.args.StandardRestore(train_state))
    except (ValueError, KeyError, OSError) as error:
      raise CheckpointError(f"{path} cannot be read: {error}") from error
