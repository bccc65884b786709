"""Signals that ask a run, or a pool of processes, to stop."""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import signal

from experiments.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED


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


class StopSignals:
  """Takes signals, SIGINT and SIGTERM unless others are given, while it is entered.

  Attributes:
    number: the first signal that came, or None.
  """

  def __init__(self, *numbers: int):
    self._numbers = numbers or (signal.SIGINT, signal.SIGTERM)
    self.number: int | None = None
    self._new: list[int] = []
    self._previous: dict[int, object] = {}

  def take(self) -> list[int]:
    """Returns the signals that came since the last call."""
    new, self._new = self._new, []
    return new

  def __enter__(self) -> "StopSignals":
    for number in self._numbers:
      self._previous[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *unused) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _handle(self, number: int, frame) -> None:
    del frame
    self.number = self.number or number
    self._new.append(number)


class Stopped(BaseException):
  """A signal, of this `number`, has stopped what was going on; not an error that is handled."""

  def __init__(self, number: int):
    super().__init__(f"stopped by {signal.Signals(number).name}")
    self.number = number


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
  """Raises Stopped, wherever the process is, when SIGTERM or SIGINT comes."""

  def handle(number, frame):
    del frame
    raise Stopped(number)

  previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


def exit_code_of(number: int) -> int:
  """Returns the exit code of a command that signal `number` has stopped."""
  return EXIT_PREEMPTED if number == signal.SIGTERM else EXIT_INTERRUPTED
