"""What an engine is: it starts commands somewhere and says how they end, and no more.

What is to be run, in which order, and what is tried again is the pool's to decide, so that
a study may begin on one engine and go on on another.
"""

from collections.abc import Callable, Mapping
import dataclasses
from pathlib import Path
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Task:
  """One command and what it leaves behind.

  Attributes:
    name: unique in the pool.
    command: what to run; the same command continues an interrupted run.
    directory: where the command runs.
    environment: variables, on top of those of the place where it runs.
    log: file that takes what the command prints.
    prepare: called before every start; may raise OSError.
    is_finished: whether nothing is left to be done.
    is_elsewhere: whether a process that is not ours is at it.
    progress: a number that grows with what has been saved.
  """

  name: str
  command: tuple[str, ...]
  directory: Path
  environment: Mapping[str, str]
  log: Path
  prepare: Callable[[], None]
  is_finished: Callable[[], bool]
  is_elsewhere: Callable[[], bool]
  progress: Callable[[], int]


class Attempt(Protocol):
  """A command that was started."""

  @property
  def label(self) -> str:
    """Says where it runs, in words; may change while it waits for its place."""

  def poll(self) -> int | None:
    """Returns the exit code, -N where signal N ended it, None while it runs."""

  def send_signal(self, number: int) -> None:
    """Sends the command a signal; nothing happens where it has ended."""

  def kill(self) -> None:
    """Ends the command at once."""


class Engine(Protocol):
  """Where commands run. Entered before the first start; leaving it frees what it holds."""

  def __enter__(self) -> "Engine":
    """Gets hold of the place.

    Raises:
      UsageError: there is no such place, or it has not what was asked for.
    """

  def __exit__(self, *unused) -> None:
    """Lets go of it."""

  def has_room(self) -> bool:
    """Whether another command may be started now."""

  def start(self, task: Task) -> Attempt:
    """Starts a task's command; what it prints is appended to the task's log.

    Raises:
      OSError: it could not be started.
    """
