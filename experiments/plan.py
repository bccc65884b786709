"""What a comparison will take: runs, environment steps, hours. Starts nothing."""

from collections.abc import Mapping, Sequence
import heapq
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.progress import Progress, ProgressReader, duration
from experiments.studies.study import RunSpec, Study


def show_plan(
  study: Study, runs: Sequence[RunSpec], *, directory: Path, processes: int, console: Console
) -> None:
  """Prints every run with its steps, and how long all of them take.

  Speeds are those that the runs in `directory` have had; for an agent that has none
  there, what the study says was measured.

  Args:
    study: says measured speeds.
    runs: of the study.
    directory: of the comparison; need not be there.
    processes: runs side by side.
    console: to print on.
  """
  progress = [ProgressReader(directory / run.name).read() for run in runs]
  speeds = dict(study.steps_per_second) | measured_speeds(runs, progress)
  left = [steps_left(run, each) for run, each in zip(runs, progress, strict=True)]
  table = Table(box=None, pad_edge=False, header_style="bold")
  table.add_column("run", overflow="fold")
  for name in ("environment steps", "left", "time"):
    table.add_column(name, justify="right")
  for run, steps in zip(runs, left, strict=True):
    speed = speeds.get(run.agent)
    total = run.config.training.total_environment_steps
    time = duration(steps / speed) if speed else "not measured"
    table.add_row(run.name, f"{total:,}", f"{steps:,}", time)
  console.print(table)
  cores = len(os.sched_getaffinity(0))
  console.print(
    f"\n{len(runs)} runs in {directory}, {processes} side by side on {cores} cores; "
    f"{sum(left):,} environment steps left",
    highlight=False,
    soft_wrap=True,
  )
  console.print(_time_text(runs, left, speeds, processes), highlight=False, soft_wrap=True)


def steps_left(run: RunSpec, progress: Progress) -> int:
  """Returns the environment steps that a run still has to make."""
  return max(0, run.config.training.total_environment_steps - progress.environment_steps)


def measured_speeds(runs: Sequence[RunSpec], progress: Sequence[Progress]) -> dict[str, float]:
  """Returns agent -> environment steps per second over all its runs that have begun."""
  totals: dict[str, tuple[float, float]] = {}
  for run, each in zip(runs, progress, strict=True):
    if each.seconds and each.environment_steps:
      steps, seconds = totals.get(run.agent, (0, 0.0))
      totals[run.agent] = steps + each.environment_steps, seconds + each.seconds
  return {agent: steps / seconds for agent, (steps, seconds) in totals.items()}


def seconds_in_all(seconds: Sequence[float], processes: int) -> float:
  """Returns when the last run ends if each is started as soon as a process is free."""
  ends = [0.0] * processes
  for each in seconds:
    heapq.heapreplace(ends, ends[0] + each)
  return max(ends)


def _time_text(
  runs: Sequence[RunSpec], left: Sequence[int], speeds: Mapping[str, float], processes: int
) -> str:
  unknown = sorted({run.agent for run, steps in zip(runs, left, strict=True) if steps} - {*speeds})
  if unknown:
    return f"hours not known: no speed has been measured for {', '.join(unknown)}"
  times = [
    steps / speeds[run.agent] if steps else 0.0 for run, steps in zip(runs, left, strict=True)
  ]
  used = sorted({run.agent for run in runs} & {*speeds})
  said = ", ".join(f"{agent} {speeds[agent]:,.0f}" for agent in used)
  hours = seconds_in_all(times, processes) / 3600
  return f"about {hours:.2f} hours (steps/s of one run: {said}), and a minute to compile and report"
