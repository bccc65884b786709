"""The local engine: every task is one subprocess, a few of them side by side.

It knows commands, exit codes and signals, and neither agents nor configurations. A task
that a signal killed, or that exited 75, is started again; its command must continue by
itself from what it has saved.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import datetime
import os
from pathlib import Path
import shlex
import signal
import subprocess

from experiments.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED

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


@dataclasses.dataclass(frozen=True)
class Task:
  """One command and what it leaves behind.

  Attributes:
    name: unique in the pool.
    command: what to run; the same command continues an interrupted run.
    directory: where the command runs.
    environment: variables, on top of this process's.
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
    process: while running.
    slot: index of the cores it runs on, while running.
  """

  task: Task
  state: str = WAITING
  detail: str = ""
  retries: int = 0
  saved: int = -1
  log_start: int = 0
  process: subprocess.Popen | None = None
  slot: int | None = None

  def log_tail(self) -> list[str]:
    """Returns the last lines that the latest attempt printed."""
    try:
      with self.task.log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(self.log_start, size - LOG_TAIL_BYTES))
        text = file.read().decode(errors="replace")
    except OSError:
      return []
    return text.splitlines()[-LOG_TAIL_LINES:]


def share_cores(cores: Sequence[int], processes: int) -> list[tuple[int, ...]]:
  """Deals `cores` out to `processes` slots, evenly; with fewer cores, several share one."""
  slots = [tuple(cores[i::processes]) for i in range(processes)]
  return [slot or (cores[i % len(cores)],) for i, slot in enumerate(slots)]


class ProcessPool:
  """Runs tasks in as many processes as there are slots of cores."""

  def __init__(self, tasks: Sequence[Task], *, slots: Sequence[Sequence[int]]):
    self.jobs = [Job(task) for task in tasks]
    self._slots = slots
    self._stopping = False

  def is_active(self) -> bool:
    """Whether anything is running or is going to."""
    if self._stopping:
      return any(job.state == RUNNING for job in self.jobs)
    return any(job.state not in ENDED for job in self.jobs)

  def advance(self) -> list[Job]:
    """Takes note of what has ended, or else starts what can be; returns the jobs that changed."""
    ended = [job for job in self.jobs if job.state == RUNNING and self._reap(job)]
    if ended or self._stopping:
      return ended
    return [job for job in self.jobs if job.state in (WAITING, ELSEWHERE) and self._try(job)]

  def stop(self, number: int) -> None:
    """Sends signal `number` to every process; nothing is started any more."""
    self._stopping = True
    for job in self.jobs:
      if job.state == RUNNING:
        with contextlib.suppress(ProcessLookupError):
          job.process.send_signal(number)
      elif job.state not in ENDED:
        job.state = INTERRUPTED

  def close(self) -> None:
    """Kills what is still running."""
    for job in self.jobs:
      if job.state == RUNNING:
        job.process.kill()
        job.process.wait()

  def _try(self, job: Job) -> bool:
    """Starts a job if it needs to run and can; returns whether its state changed."""
    before = job.state, job.detail
    if job.task.is_finished():
      job.state, job.detail = FINISHED, "was finished already" if job.saved < 0 else ""
    elif job.task.is_elsewhere():
      job.state, job.detail = ELSEWHERE, "another process is at it; waiting for that"
    else:
      used = {other.slot for other in self.jobs if other.state == RUNNING}
      free = [slot for slot in range(len(self._slots)) if slot not in used]
      if free:
        self._start(job, free[0])
      elif job.state == ELSEWHERE:
        job.state, job.detail = WAITING, ""
    return (job.state, job.detail) != before

  def _start(self, job: Job, slot: int) -> None:
    task = job.task
    try:
      task.prepare()
      job.saved = max(job.saved, task.progress())
      with task.log.open("ab") as log:
        log.write(_log_heading(task))
        log.flush()
        job.log_start = log.tell()
        with _on_cores(self._slots[slot]):
          job.process = subprocess.Popen(
            task.command,
            cwd=task.directory,
            env={**os.environ, **task.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C comes through this process only
          )
    except OSError as error:
      job.state, job.detail = FAILED, f"could not be started: {error}"
      return
    job.state, job.slot = RUNNING, slot
    job.detail = f"process {job.process.pid}" + (f", retry {job.retries}" if job.retries else "")

  def _reap(self, job: Job) -> bool:
    """Takes note of the end of a job's process; returns whether it has ended."""
    code = job.process.poll()
    if code is None:
      return False
    job.process = job.slot = None
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
    if job.retries > MAX_RETRIES:
      job.state = FAILED
      job.detail = f"{ending}, for the {job.retries}th time without progress"
    else:
      job.state = WAITING
      job.detail = f"{ending}; retry {job.retries}, at most {MAX_RETRIES} without progress"


def _ending(code: int) -> str:
  if code < 0:
    with contextlib.suppress(ValueError):
      return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
  return "preempted (exit code 75)" if code == EXIT_PREEMPTED else f"exit code {code}"


def _log_heading(task: Task) -> bytes:
  now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
  return f"--- {now} {shlex.join(task.command)}\n".encode()


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]):
  """What this thread starts meanwhile may use `cores` only: XLA sizes its threads by that."""
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, cores)
  try:
    yield
  finally:
    os.sched_setaffinity(0, before)
