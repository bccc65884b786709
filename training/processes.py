"""The processes of a run, one on every host, and what they agree on.

All of them go through the same turns in the same order. What they ask one another here is
asked by all at the same place, or they would wait for one another for ever.
"""

from collections.abc import Sequence
import dataclasses

import jax
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp

_MOST_STEPS = 64  # checkpoints of a process that the others are told of, the latest
_WAIT_MILLISECONDS = 24 * 3600 * 1000


class DisagreementError(RuntimeError):
  """The processes of a run hold different train states."""


@dataclasses.dataclass(frozen=True)
class Processes:
  """This process among those of the run; a run of one asks nobody.

  Attributes:
    index: of this process, from 0.
    count: of all.
  """

  index: int = 0
  count: int = 1

  @property
  def is_first(self) -> bool:
    """Whether this is the process that evaluates, prints and writes the run's own files."""
    return self.index == 0

  def any(self, flag: bool) -> bool:
    """Whether `flag` is true in at least one process."""
    return bool(self.which(flag))

  def which(self, flag: bool) -> list[int]:
    """Returns the indices of the processes in which `flag` is true."""
    return np.flatnonzero(self._gather(np.asarray(flag, np.int32))).tolist()

  def common(self, steps: Sequence[int]) -> list[int]:
    """Returns the numbers below 2^31 that every process has given, in order."""
    if self.count == 1:
      return sorted(steps)
    own = sorted(steps)[-_MOST_STEPS:]
    given = self._gather(np.asarray(own + [-1] * (_MOST_STEPS - len(own)), np.int32))
    shared = set.intersection(*(set(row.tolist()) for row in given))
    return sorted(shared - {-1})

  def check_equal(self, checksum: bytes) -> None:
    """Raises DisagreementError unless every process gives the same bytes, of the same length."""
    given = self._gather(np.frombuffer(checksum, np.uint8))
    if (given != given[:1]).any():
      raise DisagreementError(
        "the processes hold different train states: "
        + ", ".join(row.tobytes().hex()[:12] for row in given)
      )

  def wait(self, place: str) -> None:
    """Waits until every process is at `place`, a name that is used once; sends no data."""
    if self.count > 1:
      barrier = ocp.multihost.get_barrier_sync_fn()
      barrier(key=f"procplan-{place}", timeout_ms=_WAIT_MILLISECONDS)

  def _gather(self, value: np.ndarray) -> np.ndarray:
    """Returns `[count, ...]`, what every process has given."""
    if self.count == 1:
      return value[None]
    return np.asarray(multihost_utils.process_allgather(value)).reshape(self.count, *value.shape)


ALONE = Processes()


def here() -> Processes:
  """Returns this process among those that `jax.distributed` has brought together."""
  return Processes(jax.process_index(), jax.process_count())


def this_process_alone() -> ocp.options.MultiprocessingOptions:
  """Returns orbax's setting by which a process of several writes and reads without the others.

  By default every process would have to write the same checkpoint to the same place.
  """
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  index = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process-{index}"
  )
