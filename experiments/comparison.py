"""A study that goes on: its runs, what they have written, what is shown.

Every run is a process with its own directory, wherever the engine puts it; the report page
is written from the first evaluation on. Nothing here loads JAX.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import fcntl
from pathlib import Path
import time

from rich.console import Console

from experiments.engines.interface import Engine
from experiments.errors import EXIT_FAILED, UsageError
from experiments.live_report import LiveReport
from experiments.processes import ELSEWHERE, FAILED, FINISHED, RUNNING, ProcessPool, Stopping
from experiments.progress import Progress, ProgressReader, make_display
from experiments.run_config import check_config, claim_config
from experiments.run_list import write_run_list
from experiments.run_lock import locked
from experiments.run_task import make_task
from experiments.stop_requests import StopSignals, exit_code_of
from experiments.studies.study import RunSpec

GRACE_SECONDS = 120.0  # from a signal to the kill: a run ends its present turn and saves
POLL_SECONDS = 0.2
READ_SECONDS = 1.0


def compare(runs: Sequence[RunSpec], directory: Path, *, engine: Engine) -> int:
  """Runs everything that is not finished, and reports; returns the exit code.

  Args:
    runs: each gets a directory of its name in `directory`.
    directory: of the study.
    engine: where the runs' commands are carried out.

  Raises:
    UsageError: another process is at this study, a run directory holds a run of another
      configuration, or the engine cannot be had.
  """
  with contextlib.ExitStack() as stack:
    stack.enter_context(claimed(runs, directory))
    extend(runs, directory)
    cache = directory / "compilation_cache"
    tasks = [make_task(run, directory / run.name, cache=cache) for run in runs]
    pool = ProcessPool(tasks, engine=stack.enter_context(engine))
    stack.callback(pool.close)
    report = LiveReport([directory / run.name for run in runs], directory / "report.html")
    stack.callback(report.close)
    stop = stack.enter_context(StopSignals())
    return _Comparison(runs, directory, pool, report).run(stop)


class _Comparison:
  """A comparison that goes on: the processes, what they have written, what is shown."""

  def __init__(
    self, runs: Sequence[RunSpec], directory: Path, pool: ProcessPool, report: LiveReport
  ):
    self._pool = pool
    self._report = report
    self._totals = [run.config.training.total_environment_steps for run in runs]
    self._readers = [ProgressReader(directory / run.name) for run in runs]
    self._progress = [Progress()] * len(runs)
    self._read_all(range(len(runs)))
    self._next_read = 0.0
    self._display = make_display(Console())

  def run(self, stop: StopSignals) -> int:
    """Goes on until everything has ended; returns the exit code."""
    try:
      self._loop(stop)
      said = "stopped; the same command continues" if stop.number else self._report.finish()
    finally:
      self._read_all(range(len(self._readers)))
      self._display.close(self._pool.jobs, self._progress)
    self._say(said)
    if stop.number is not None:
      return exit_code_of(stop.number)
    failed = sum(job.state == FAILED for job in self._pool.jobs)
    if failed:
      self._say(
        f"{failed} of {len(self._pool.jobs)} runs failed; the same command tries them again"
      )
    return EXIT_FAILED if failed else 0

  def _loop(self, stop: StopSignals) -> None:
    stopping = Stopping(self._pool, stop, seconds=GRACE_SECONDS)
    while self._pool.is_active():
      for said in stopping.advance():
        self._say(said)
      self._turn()
      time.sleep(POLL_SECONDS)

  def _turn(self) -> None:
    """Takes note of what has happened since, and shows it."""
    for job in self._pool.advance():
      self._say(f"{job.task.name}  {job.state}" + (f": {job.detail}" if job.detail else ""))
      if job.state == FAILED:
        self._say("\n".join([f"end of {job.task.log}:", *job.log_tail()]))
      if job.state == FINISHED:
        self._report.request()
    if time.monotonic() >= self._next_read:
      self._next_read = time.monotonic() + READ_SECONDS
      before = sum(reader.evaluations for reader in self._readers)
      jobs = self._pool.jobs
      self._read_all([i for i, job in enumerate(jobs) if job.state in (RUNNING, ELSEWHERE)])
      if sum(reader.evaluations for reader in self._readers) > before:
        self._report.request()
    self._say(self._report.advance())
    self._display.show(self._pool.jobs, self._progress)

  def _read_all(self, indices: Sequence[int]) -> None:
    for i in indices:
      progress = self._readers[i].read()
      self._progress[i] = dataclasses.replace(progress, total_environment_steps=self._totals[i])

  def _say(self, text: str | None) -> None:
    if text:
      self._display.say(text)


@contextlib.contextmanager
def claimed(runs: Sequence[RunSpec], directory: Path):
  """Holds a study's directory for this process alone, and lists its runs there.

  Raises:
    UsageError: it cannot be made, another process is at it, or a run directory holds a run
      of another configuration.
  """
  try:
    directory.mkdir(parents=True, exist_ok=True)
    lock = (directory / "compare.lock").open("w")
  except OSError as error:
    raise UsageError(f"--out {directory}: {error}") from None
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UsageError(f"another comparison or sweep is running in {directory}") from None
    for run in runs:
      check_config(run.config, directory / run.name)
    try:
      write_run_list(runs, directory)
    except OSError as error:
      raise UsageError(f"--out {directory}: {error}") from None
    yield


def extend(runs: Sequence[RunSpec], directory: Path) -> None:
  """Extends the runs that are there with fewer environment steps: all of them or none.

  Raises:
    UsageError: another process is at one of them, or one is of another configuration.
  """
  extended = [run for run in runs if check_config(run.config, directory / run.name) is not None]
  with contextlib.ExitStack() as held:
    for run in extended:
      held.enter_context(locked(directory / run.name))
    for run in extended:
      claim_config(run.config, directory / run.name)
