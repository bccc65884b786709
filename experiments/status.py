"""`procplan status`: how the runs of a study stand, from the files that they write."""

from collections.abc import Sequence
import json
from pathlib import Path
import sys

from rich.table import Table
from rich.text import Text

from experiments.consoles import make_console
from experiments.errors import UsageError
from experiments.options import OptionParser, guarded
from experiments.plan import seconds_in_all
from experiments.processes import log_tail
from experiments.progress import duration
from experiments.standing import (
  DAMAGED,
  FAILED,
  FINISHED,
  INTERRUPTED,
  RUNNING,
  STATES,
  STOPPED,
  WAITING,
  Standing,
  find_runs,
  read_standing,
)

LOG_LINES = 5
CELLS_WIDTH = 80  # characters of the table beside the names of the runs
STYLES = {
  DAMAGED: "red",
  FAILED: "red",
  STOPPED: "red",
  RUNNING: "bold",
  FINISHED: "dim",
  WAITING: "dim",
}


def main(arguments: Sequence[str]) -> int:
  """Prints how a study stands; returns the exit code."""
  options = make_parser().parse_args(arguments)
  if options.log < 0:
    raise UsageError(f"--log must be at least 0, got {options.log}")
  standings = []
  for directory in options.studies:
    runs = find_runs(directory)
    if not runs:
      raise UsageError(f"there is no run in {directory}")
    standings += [read_standing(name, path, listed) for name, (path, listed) in runs.items()]
  if options.json:
    print(json.dumps([each.as_json() for each in standings], indent=2))
    return 0
  console = make_console(least_width=CELLS_WIDTH + max(len(each.name) for each in standings))
  console.print(make_table(standings))
  for line in summary(standings):
    console.print(line, highlight=False, soft_wrap=True, markup=False)
  for each in standings:
    if each.state == DAMAGED:
      console.print(f"\ndamaged: {each.detail}", highlight=False, soft_wrap=True, markup=False)
    if each.state in (FAILED, STOPPED) and options.log:
      log = each.directory / "log.txt"
      console.print(f"\nend of {log}:", highlight=False, soft_wrap=True, markup=False)
      for line in log_tail(log, options.log):
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
  return 0


def make_parser() -> OptionParser:
  """Returns the command's options."""
  epilog = (
    "States: finished; running; waiting (not begun); interrupted (saved, the same command "
    "continues); failed (says why); stopped (its process is gone and did not say why: killed, or "
    "the machine went down; the same command continues); damaged (its status.json is: says where)."
  )
  parser = OptionParser(prog="procplan status", description=__doc__, epilog=epilog)
  parser.add_argument(
    "studies", metavar="DIRECTORY", nargs="+", type=Path, help="of a comparison, a sweep or a run"
  )
  parser.add_argument(
    "--log",
    metavar="LINES",
    type=int,
    default=LOG_LINES,
    help="lines from the end of the log of every run that failed or was stopped",
  )
  parser.add_argument("--json", action="store_true", help="print everything as JSON instead")
  return parser


def make_table(standings: Sequence[Standing]) -> Table:
  """Returns a row for every run: those that need attention first, then those that go on."""
  table = Table(box=None, pad_edge=False, header_style="bold")
  table.add_column("run", overflow="fold")
  table.add_column("state")
  for name in ("steps", "steps/s", "left", "test return"):
    table.add_column(name, justify="right")
  for each in sorted(standings, key=lambda each: STATES.index(each.state)):
    progress = each.progress
    done, total = progress.environment_steps, progress.total_environment_steps
    is_running = each.state == RUNNING
    left = progress.seconds_left if is_running else None
    speed = progress.steps_per_second if is_running else None
    table.add_row(
      Text(each.name),
      each.state,
      f"{done:,}/{total:,}" if total else f"{done:,}",
      "" if speed is None else f"{speed:,.0f}",
      "" if left is None else duration(left),
      "" if progress.test_return is None else f"{progress.test_return:.2f}",
      style=STYLES.get(each.state),
    )
  return table


def summary(standings: Sequence[Standing]) -> list[str]:
  """Returns the study's counts, speed and time left, in words."""
  counts = [(state, sum(each.state == state for each in standings)) for state in STATES]
  said = ", ".join(f"{count} {state}" for state, count in counts if count)
  running = [each for each in standings if each.state == RUNNING]
  speeds = [each.progress.steps_per_second or 0.0 for each in running]
  done = sum(each.progress.environment_steps for each in standings)
  total = sum(each.progress.total_environment_steps or 0 for each in standings)
  lines = ["", f"{len(standings)} runs: {said}", f"{done:,} of {total:,} environment steps"]
  if running:
    lines[-1] += f", {sum(speeds):,.0f} steps/s"
    lines.append(f"time left: {_time_left(standings)}")
  return lines


def _time_left(standings: Sequence[Standing]) -> str:
  """Says how long the runs that go on and those that wait take, so many at a time as now."""
  running = [each for each in standings if each.state == RUNNING]
  waiting = [each for each in standings if each.state in (WAITING, INTERRUPTED, STOPPED)]
  known = [each.progress for each in standings]
  steps = sum(each.environment_steps for each in known if each.seconds)
  seconds = sum(each.seconds for each in known if each.seconds)
  if not steps or not seconds:
    return "not known yet"
  left = [
    each.progress.seconds_left
    if each.progress.seconds_left is not None and each.state == RUNNING
    else _steps_left(each) * seconds / steps
    for each in [*running, *waiting]
  ]
  return f"about {duration(seconds_in_all(left, len(running)))}, {len(running)} runs at a time"


def _steps_left(standing: Standing) -> int:
  progress = standing.progress
  return max(0, (progress.total_environment_steps or 0) - progress.environment_steps)


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
