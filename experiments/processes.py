"""The tasks of a study: what is started next, what is tried again, what has failed.

It knows exit codes and signals, and neither agents nor configurations; where a command
runs is its engine's to know. A task that a signal killed, or that exited 75, is started
again; its command must continue by itself from what it has saved.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import datetime
import os
from pathlib import Path
import shlex
import signal
import time

from experiments.engines.interface import Attempt, Engine, Task
from experiments.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED
from experiments.stop_requests import StopSignals

MAX_RETRIES = 3  # in a row, without progress in between
LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 16_384

WAITING = "waiting"
RUNNING = "running"
ELSEWHERE = "elsewhere"
FINISHED = "finished"
FAILED = "failed"
INTERRUPTED = "interrupted"
ENDED = (FINISHED, FAILED, INTERRUPTED)


@dataclasses.dataclass
class Job:
  """How a task stands.

  Attributes:
    task: what is run.
    state: WAITING, RUNNING, ELSEWHERE, or one of `ENDED`.
    detail: what happened last, in words.
    retries: starts after a kill or preemption, since there was progress.
    saved: progress at the last such start.
    log_start: size of the log when the present attempt began, bytes.
    attempt: while running.
    code: exit code of the latest attempt, -N where signal N ended it; None before its end.
  """

  task: Task
  state: str = WAITING
  detail: str = ""
  retries: int = 0
  saved: int = -1
  log_start: int = 0
  attempt: Attempt | None = None
  code: int | None = None

  def log_tail(self) -> list[str]:
    """Returns the last lines that the latest attempt printed."""
    return log_tail(self.task.log, LOG_TAIL_LINES, start=self.log_start)


class ProcessPool:
  """Runs tasks, as many at a time as the engine has room for."""

  def __init__(self, tasks: Sequence[Task], *, engine: Engine, max_retries: int = MAX_RETRIES):
    self.jobs = [Job(task) for task in tasks]
    self._engine = engine
    self._max_retries = max_retries
    self._stopping = False

  def is_active(self) -> bool:
    """Whether anything is running or is going to."""
    if self._stopping:
      return any(job.state == RUNNING for job in self.jobs)
    return any(job.state not in ENDED for job in self.jobs)

  def advance(self) -> list[Job]:
    """Takes note of what has ended, or else starts what can be; returns the jobs that changed."""
    changed = [job for job in self.jobs if job.state == RUNNING and self._watch(job)]
    if changed or self._stopping:
      return changed
    return [job for job in self.jobs if job.state in (WAITING, ELSEWHERE) and self._try(job)]

  def stop(self, number: int) -> None:
    """Sends signal `number` to every process; nothing is started any more."""
    self._stopping = True
    for job in self.jobs:
      if job.state == RUNNING:
        job.attempt.send_signal(number)
      elif job.state not in ENDED:
        job.state = INTERRUPTED

  def close(self) -> None:
    """Kills what is still running."""
    for job in self.jobs:
      if job.state == RUNNING:
        job.attempt.kill()

  def _try(self, job: Job) -> bool:
    """Starts a job if it needs to run and can; returns whether its state changed."""
    before = job.state, job.detail
    if job.task.is_finished():
      job.state, job.detail = FINISHED, "was finished already" if job.saved < 0 else ""
    elif job.task.is_elsewhere():
      job.state, job.detail = ELSEWHERE, "another process is at it; waiting for that"
    elif self._engine.has_room():
      self._start(job)
    elif job.state == ELSEWHERE:
      job.state, job.detail = WAITING, ""
    return (job.state, job.detail) != before

  def _start(self, job: Job) -> None:
    task = job.task
    try:
      task.prepare()
      job.saved = max(job.saved, task.progress())
      with task.log.open("ab") as log:
        log.write(_log_heading(task))
        log.flush()
        job.log_start = log.tell()
      job.attempt = self._engine.start(task)
    except OSError as error:
      job.state, job.detail = FAILED, f"could not be started: {error}"
      return
    job.state, job.detail = RUNNING, _running(job)

  def _watch(self, job: Job) -> bool:
    """Takes note of how a running job stands; returns whether there is anything new."""
    code = job.attempt.poll()
    if code is None:
      before, job.detail = job.detail, _running(job)
      return job.detail != before
    job.attempt, job.code = None, code
    if code == 0 and job.task.is_finished():
      job.state, job.detail = FINISHED, ""
    elif self._stopping and (code < 0 or code in (EXIT_PREEMPTED, EXIT_INTERRUPTED)):
      job.state, job.detail = INTERRUPTED, _ending(code)
    elif code < 0 or code == EXIT_PREEMPTED:
      self._retry(job, _ending(code))
    elif code == 0:
      job.state, job.detail = FAILED, "exited 0, but has no result"
    else:
      job.state, job.detail = FAILED, _ending(code)
    return True

  def _retry(self, job: Job, ending: str) -> None:
    saved = job.task.progress()
    job.retries = 1 if saved > job.saved else job.retries + 1
    job.saved = max(job.saved, saved)
    if job.retries <= self._max_retries:
      job.state = WAITING
      job.detail = f"{ending}; retry {job.retries}, at most {self._max_retries} without progress"
    else:
      job.state, job.detail = FAILED, ending
      if self._max_retries:
        job.detail += f", for the {job.retries}th time without progress"


class Stopping:
  """Passes signals on to a pool's processes; a second SIGINT, or the end of a time, kills them."""

  def __init__(self, pool: ProcessPool, signals: StopSignals, *, seconds: float):
    """Begins with none.

    Args:
      pool: of the processes.
      signals: that come.
      seconds: from the first signal to the kill.
    """
    self._pool = pool
    self._signals = signals
    self._seconds = seconds
    self._deadline: float | None = None
    self._interrupted = False

  def advance(self) -> list[str]:
    """Does what is due; returns a line on everything that was done."""
    said = []
    for number in self._signals.take():
      name = signal.Signals(number).name
      if number == signal.SIGINT and self._interrupted:
        self._pool.close()
        said.append(f"{name} again: killed; what was saved stays")
        continue
      self._interrupted |= number == signal.SIGINT
      self._deadline = self._deadline or time.monotonic() + self._seconds
      self._pool.stop(number)
      again = ", a second Ctrl-C kills them" if number == signal.SIGINT else ""
      said.append(f"{name}: waiting for all to stop, at most {self._seconds:.0f} s{again}")
    if self._deadline and time.monotonic() > self._deadline:
      self._pool.close()
      said.append(f"not stopped within {self._seconds:.0f} s: killed; what was saved stays")
    return said


def log_tail(path: Path, lines: int, *, start: int = 0) -> list[str]:
  """Returns the last lines of a log, of what stands from byte `start` on; none without a log."""
  try:
    with path.open("rb") as file:
      size = file.seek(0, os.SEEK_END)
      file.seek(max(start, size - LOG_TAIL_BYTES))
      text = file.read().decode(errors="replace")
  except OSError:
    return []
  return text.splitlines()[-lines:]


def _running(job: Job) -> str:
  return job.attempt.label + (f", retry {job.retries}" if job.retries else "")


def _ending(code: int) -> str:
  if code < 0:
    with contextlib.suppress(ValueError):
      return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
  return "preempted (exit code 75)" if code == EXIT_PREEMPTED else f"exit code {code}"


def _log_heading(task: Task) -> bytes:
  now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
  return f"--- {now} {shlex.join(task.command)}\n".encode()
