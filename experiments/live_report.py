"""Keeps a report page up to date while runs go on.

Every page is written by a subprocess of low priority: one that is slow or fails takes
nothing from the runs, and the page before it stays.
"""

from collections.abc import Sequence
import os
from pathlib import Path
import subprocess
import sys
import time

from experiments.run_task import PACKAGE_ROOT

NICENESS = 5  # the runs go first
REFRESH_SECONDS = 60.0  # at least, from the end of one page to the start of the next
LAST_PAGE_SECONDS = 600.0  # that the last page may take

WRITE = (
  "import sys\n"
  "from experiments.report import write_report\n"
  "write_report(sys.argv[2:], sys.argv[1])\n"
)


class LiveReport:
  """Writes the page anew when it is asked to, one at a time and not too often."""

  def __init__(self, run_directories: Sequence[Path], page: Path):
    self.page = page
    self._run_directories = run_directories
    self._process: subprocess.Popen | None = None
    self._log = page.with_suffix(".log")
    self._wanted = False
    self._not_before = 0.0
    self._told: str | None = None

  def request(self) -> None:
    """Asks for a page that shows what is there now."""
    self._wanted = True

  def advance(self) -> str | None:
    """Starts a page that is due; returns what is new to say, or None."""
    said = self._reap()
    if self._process is None and self._wanted and time.monotonic() >= self._not_before:
      said = self._start() or said
    return said

  def finish(self) -> str:
    """Writes a last page and waits for it; says where it is or why there is none."""
    try:
      if self._process is not None:
        self._process.wait(LAST_PAGE_SECONDS)
        self._reap()
      self._told = None
      said = self._start()
      if said is None:
        self._process.wait(LAST_PAGE_SECONDS)
        said = self._reap()
      return said
    except subprocess.TimeoutExpired:
      return f"the report was not finished within {LAST_PAGE_SECONDS:.0f} s"

  def close(self) -> None:
    """Ends a page that is being written."""
    if self._process is not None:
      self._process.kill()
      self._process.wait()
      self._process = None

  def _start(self) -> str | None:
    self._wanted = False
    directories = [str(each.absolute()) for each in self._run_directories]
    try:
      with self._log.open("wb") as log:
        self._process = subprocess.Popen(
          [sys.executable, "-c", WRITE, str(self.page.absolute()), *directories],
          cwd=PACKAGE_ROOT,
          stdin=subprocess.DEVNULL,
          stdout=log,
          stderr=subprocess.STDOUT,
          start_new_session=True,
        )
      os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)
    except OSError as error:
      return self._once(f"the report cannot be written: {error}")
    return None

  def _reap(self) -> str | None:
    """Takes note of the end of a page; returns what is new about it."""
    if self._process is None or self._process.poll() is None:
      return None
    code, self._process = self._process.returncode, None
    self._not_before = time.monotonic() + REFRESH_SECONDS
    if code == 0:
      return self._once(f"the report is {self.page}")
    lines = self._log.read_text(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit code {code}"
    return self._once(f"the report could not be written: {reason} (more in {self._log})")

  def _once(self, text: str) -> str | None:
    """Returns `text` unless it was said last."""
    if text == self._told:
      return None
    self._told = text
    return text
