"""How runs stand, read from the files that they write while they go, and shown.

With a terminal a table that is refreshed, without one plain lines.
"""

from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.json_fields import is_number
from experiments.processes import ELSEWHERE, FINISHED, RUNNING, WAITING, Job
from experiments.status_file import read_status

LINE_SECONDS = 30.0  # between two plain lines of a run
TABLE_SECONDS = 1.0  # between two refreshes of the table
TABLE_ROWS = 40


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a run is; what is not known yet is None.

  Attributes:
    environment_steps: done.
    total_environment_steps: asked for.
    steps_per_second: in the last turn, evaluation not included.
    seconds: so far, over all resumes.
    seconds_left: at the run's average speed, evaluation included.
    training_return: mean of the last 100 training episodes.
    test_return: of the latest evaluation on the full distribution.
  """

  environment_steps: int = 0
  total_environment_steps: int | None = None
  steps_per_second: float | None = None
  seconds: float | None = None
  seconds_left: float | None = None
  training_return: float | None = None
  test_return: float | None = None


class ProgressReader:
  """Reads one run directory again and again; of the metrics file only what is new."""

  def __init__(self, directory: Path):
    self._directory = directory
    self._position = 0
    self._test_return: float | None = None
    self.evaluations = 0  # rows seen so far

  def read(self) -> Progress:
    """Returns how far the run is now; a damaged status.json says nothing."""
    self._read_metrics()
    status, _ = read_status(self._directory)
    return Progress(
      environment_steps=status.get("environment_steps", 0),
      total_environment_steps=status.get("total_environment_steps"),
      steps_per_second=status.get("steps_per_second"),
      seconds=status.get("seconds"),
      seconds_left=status.get("seconds_left"),
      training_return=status.get("episode_return"),
      test_return=self._test_return,
    )

  def _read_metrics(self) -> None:
    path = self._directory / "metrics.jsonl"
    try:
      if path.stat().st_size < self._position:  # a resumed run has cut it back
        self._position = 0
      with path.open("rb") as file:
        file.seek(self._position)
        text = file.read()
    except OSError:
      return
    complete = text[: text.rfind(b"\n") + 1]
    self._position += len(complete)
    for line in complete.splitlines():
      if b'"evaluation"' in line:
        self._take(line)

  def _take(self, line: bytes) -> None:
    try:
      row = json.loads(line)
    except ValueError:
      return
    if isinstance(row, dict) and row.get("kind") == "evaluation":
      self.evaluations += 1
      if row.get("split") == "test" and is_number(row.get("episode_return")):
        self._test_return = row["episode_return"]


class PlainDisplay:
  """One line whenever a run's state changes, and one of every running run at an interval."""

  def __init__(self, console: Console):
    self._console = console
    self._next = time.monotonic() + LINE_SECONDS

  def say(self, text: str) -> None:
    """Prints a message with the time."""
    line = f"{time.strftime('%H:%M:%S')}  {text}"
    self._console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)

  def show(self, jobs: Sequence[Job], progress: Sequence[Progress]) -> None:
    """Prints the running runs if it is time to."""
    if time.monotonic() < self._next:
      return
    self._next = time.monotonic() + LINE_SECONDS
    for job, each in zip(jobs, progress, strict=True):
      if job.state in (RUNNING, ELSEWHERE):
        self.say(line_of(job, each))

  def close(self, jobs: Sequence[Job], progress: Sequence[Progress]) -> None:
    """Prints every run once more."""
    for job, each in zip(jobs, progress, strict=True):
      self.say(line_of(job, each))


class TableDisplay:
  """A table that is refreshed in place; messages scroll by above it."""

  def __init__(self, console: Console):
    self._console = console
    self._live = Live(console=console, auto_refresh=False)
    self._live.start()
    self._next = 0.0

  def say(self, text: str) -> None:
    """Prints a message above the table."""
    line = f"{time.strftime('%H:%M:%S')}  {text}"
    self._console.print(line, markup=False, highlight=False, emoji=False)

  def show(self, jobs: Sequence[Job], progress: Sequence[Progress]) -> None:
    """Refreshes the table if it is time to."""
    if time.monotonic() >= self._next:
      self._next = time.monotonic() + TABLE_SECONDS
      self._live.update(table_of(jobs, progress), refresh=True)

  def close(self, jobs: Sequence[Job], progress: Sequence[Progress]) -> None:
    """Leaves the last table on the screen."""
    self._live.update(table_of(jobs, progress, rows=len(jobs)), refresh=True)
    self._live.stop()


def make_display(console: Console) -> PlainDisplay | TableDisplay:
  """Returns the table where there is a terminal, plain lines where not."""
  return TableDisplay(console) if console.is_terminal else PlainDisplay(console)


def line_of(job: Job, progress: Progress) -> str:
  """Returns one run's state as a line of text."""
  cells = _cells(job, progress)
  labels = ("", "", "", "{} steps/s", "{} left", "train {}", "test {}")
  parts = [label.format(cell) if label else cell for label, cell in zip(labels, cells, strict=True)]
  parts[2] += " steps"
  said = [part for part, cell in zip(parts, cells, strict=True) if cell]
  detail = "" if job.state == RUNNING and not job.retries else job.detail
  return "  ".join([*said, *([f"({detail})"] if detail else [])])


def table_of(jobs: Sequence[Job], progress: Sequence[Progress], *, rows: int = TABLE_ROWS) -> Table:
  """Returns all runs as a table; of too many, those that wait or have finished are counted."""
  table = Table(box=None, pad_edge=False, header_style="bold")
  table.add_column("run", overflow="fold")
  table.add_column("state")
  for name in ("steps", "steps/s", "left", "training return", "test return"):
    table.add_column(name, justify="right")
  pairs = list(zip(jobs, progress, strict=True))
  shown = _most_telling(pairs, rows)
  for job, each in pairs:
    if id(job) in shown:
      table.add_row(*map(Text, _cells(job, each)), style="red" if job.state == "failed" else None)
  if len(shown) < len(jobs):
    counts = {state: sum(job.state == state for job in jobs) for state in (WAITING, FINISHED)}
    hidden = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    table.caption = f"{len(jobs)} runs, {len(shown)} shown; in all {hidden}"
  return table


def _most_telling(pairs: Sequence[tuple[Job, Progress]], rows: int) -> set[int]:
  order = {WAITING: 1, FINISHED: 2}
  ranked = sorted((job for job, _ in pairs), key=lambda job: order.get(job.state, 0))
  return {id(job) for job in ranked[:rows]}


def _cells(job: Job, progress: Progress) -> tuple[str, ...]:
  running = job.state in (RUNNING, ELSEWHERE)
  done, total = progress.environment_steps, progress.total_environment_steps
  return (
    job.task.name,
    job.state,
    f"{done:,}/{total:,}" if total else f"{done:,}",
    _number(progress.steps_per_second, ",.0f") if running else "",
    duration(progress.seconds_left) if running and progress.seconds_left is not None else "",
    _number(progress.training_return, ".2f"),
    _number(progress.test_return, ".2f"),
  )


def _number(value: float | None, form: str) -> str:
  return "" if value is None else format(value, form)


def duration(seconds: float) -> str:
  """Returns a length of time in the unit that suits it."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  if seconds < 90 * 60:
    return f"{seconds / 60:.0f} min"
  return f"{seconds / 3600:.1f} h"
