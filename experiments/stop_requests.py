"""Signals that ask a run to save and stop."""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import signal


@dataclasses.dataclass
class StopRequests:
  """The first SIGTERM or SIGINT; a second SIGINT ends the process at once."""

  signal: int | None = None

  def requested(self) -> bool:
    """Whether there was one."""
    return self.signal is not None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
  """Notes SIGTERM and SIGINT instead of ending; what handled them before does so again after."""
  requests = StopRequests()

  def handle(number, frame):
    del frame
    if requests.signal == signal.SIGINT and number == signal.SIGINT:
      raise KeyboardInterrupt
    requests.signal = number
    # Not print: the signal may have come in the middle of one.
    os.write(2, b"stopping after this turn, with a checkpoint\n")

  previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield requests
  finally:
    for number, handler in previous.items():
      # None: what handled it before, such as the preemption service of JAX, is not Python's.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
