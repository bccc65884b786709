"""The lock of a run's directory: one process at a time is at a run. Imports no JAX."""

from collections.abc import Iterator
import contextlib
import fcntl
from pathlib import Path
import time

from experiments.errors import UsageError

LOCK_ATTEMPTS = 5
LOCK_SECONDS = 0.1  # between them


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
  """Holds the run directory for this process alone.

  Raises:
    UsageError: another process holds it, for longer than it takes to ask whether it is held.
  """
  with (directory / "run.lock").open("w") as lock:
    for attempt in range(LOCK_ATTEMPTS):
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      except BlockingIOError:
        if attempt == LOCK_ATTEMPTS - 1:
          raise UsageError(f"another process is running in {directory}") from None
        time.sleep(LOCK_SECONDS)
    yield


def is_locked(path: Path) -> bool:
  """Whether a process holds the lock, on any machine that shares the disk.

  Asks for a shared lock: those who ask at the same time do not take one another for a run, and
  NFS gives a file that is open for reading no other.
  """
  try:
    with path.open("rb") as lock:
      fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except FileNotFoundError:
    return False
  except BlockingIOError:
    return True
  return False
