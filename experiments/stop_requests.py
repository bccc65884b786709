"""Signals that ask a run, or a pool of processes, to stop."""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import signal
import threading
import time

from experiments.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED

IMPATIENCE_SECONDS = 2.0  # from a second SIGINT to the end of a process that does not handle it


@dataclasses.dataclass
class StopRequests:
  """SIGTERM and SIGINT that came; a second SIGINT ends the process at once.

  Attributes:
    signal: the first one; None before it.
    interrupts: how often SIGINT was handled.
  """

  signal: int | None = None
  interrupts: int = 0

  def requested(self) -> bool:
    """Whether there was one."""
    return self.signal is not None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
  """Notes SIGTERM and SIGINT instead of ending; what handled them before does so again after.

  A second SIGINT raises KeyboardInterrupt. Python handles no signal within a call such as an
  update, which can take minutes: where it has not in `IMPATIENCE_SECONDS`, the process ends.
  """
  requests = StopRequests()

  def handle(number, frame):
    del frame
    requests.signal = requests.signal or number
    requests.interrupts += number == signal.SIGINT
    if requests.interrupts > 1:
      raise KeyboardInterrupt
    _say("stopping after this turn, with a checkpoint")

  previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    with _ended_by_second_interrupt(requests):
      yield requests
  finally:
    for number, handler in previous.items():
      # None: what handled it before, such as the preemption service of JAX, is not Python's.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _ended_by_second_interrupt(requests: StopRequests) -> Iterator[None]:
  """Ends the process with 130, from a thread, when SIGINT came twice or more and is not handled."""
  reader, writer = os.pipe()
  os.set_blocking(writer, False)  # as set_wakeup_fd demands
  previous = signal.set_wakeup_fd(writer)  # a byte for every signal as it comes, handled or not
  left = False

  def watch():
    interrupts = 0
    while numbers := os.read(reader, 16):
      interrupts += numbers.count(signal.SIGINT)
      deadline = time.monotonic() + IMPATIENCE_SECONDS
      while interrupts > max(1, requests.interrupts) and not left:
        if time.monotonic() > deadline:
          _say("ended at once; the last checkpoint stays")
          os._exit(EXIT_INTERRUPTED)
        time.sleep(0.05)

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield
  finally:
    left = True
    signal.set_wakeup_fd(previous)
    os.close(writer)  # the thread reads the end of the pipe
    thread.join()
    os.close(reader)


def _say(text: str) -> None:
  """Writes a line to stderr; not by print, in the middle of which a signal may have come."""
  with contextlib.suppress(OSError):  # what read it may have ended by the same Ctrl-C
    os.write(2, f"{text}\n".encode())


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
