"""What a study will take: runs, steps, updates, searches, bytes, hours. Starts nothing."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import heapq
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.config import ExperimentConfig
from experiments.errors import UsageError
from experiments.progress import Progress, ProgressReader, duration
from experiments.reporting.wording import steps_in_words
from experiments.run_memory import gib
from experiments.run_plan import RunPlan, plan_run
from experiments.run_plan_text import open_rollouts
from experiments.studies.study import RunSpec, Study

MOST_LISTED = 100  # runs that are named one by one


def show_plan(
  study: Study, runs: Sequence[RunSpec], *, directory: Path, processes: int, console: Console
) -> None:
  """Prints every run with its steps, what every agent does, and how long all of it takes.

  More than `MOST_LISTED` runs are summed up by agent alone. Speeds are those that the runs
  in `directory` have had; for an agent that has none there, what the study says was measured.

  Args:
    study: says measured speeds.
    runs: of the study.
    directory: of the comparison; need not be there.
    processes: runs side by side.
    console: to print on.

  Raises:
    UsageError: the replay of a run cannot be made, or it would not learn; names the run.
  """
  work = [_plan_of(run) for run in runs]
  progress = [ProgressReader(directory / run.name).read() for run in runs]
  speeds = dict(study.steps_per_second) | measured_speeds(runs, progress)
  left = [steps_left(run, each) for run, each in zip(runs, progress, strict=True)]
  if len(runs) <= MOST_LISTED:
    console.print(_run_table(runs, left, speeds))
    console.print()
  console.print(_agent_table(runs, work, left, speeds=speeds))
  cores = len(os.sched_getaffinity(0))
  console.print(
    f"\n{len(runs)} runs in {directory}, {processes} side by side on {cores} cores; "
    f"{sum(left):,} environment steps left",
    highlight=False,
    soft_wrap=True,
  )
  for text in (*total_lines(work, processes), _time_text(runs, left, speeds, processes)):
    console.print(text, highlight=False, soft_wrap=True)


def total_lines(work: Sequence[RunPlan], processes: int) -> list[str]:
  """Returns what all runs do from beginning to end, and the memory that they need."""
  lines = [
    f"from beginning to end: {sum(each.environment_steps for each in work):,} environment steps, "
    f"{sum(each.updates for each in work):,} updates on {sum(each.samples for each in work):,} "
    "samples"
  ]
  searches = sum(map(_searches, work))
  if searches:
    simulations = sum(each.simulations for each in work)
    lines[0] += f", {searches:,} searches = {simulations:,} model steps"
  largest = sorted(map(_bytes, work), reverse=True)
  lines.append(
    f"memory: at most {gib(largest[0])} a run, host and devices together, and "
    f"{gib(sum(largest[:processes]))} for the largest {len(largest[:processes])} side by side; "
    "activations, environments and libraries come on top"
  )
  if any(each.open_rollouts_if_stopped for each in work):
    lines.append(f"checkpoints: {open_rollouts(work)}")
  return lines


def plan_once(config: ExperimentConfig) -> RunPlan:
  """Works out a run's plan; seeds and training levels make no difference, and cost nothing."""
  return _plan(
    dataclasses.replace(
      config, seed=0, environment=dataclasses.replace(config.environment, levels="easy-all")
    )
  )


def _plan_of(run: RunSpec) -> RunPlan:
  try:
    return plan_once(run.config)
  except UsageError as error:
    raise UsageError(f"{run.name}: {error}") from None


@functools.cache
def _plan(config: ExperimentConfig) -> RunPlan:
  return plan_run(config)


def _searches(plan: RunPlan) -> int:
  return plan.acting_searches + plan.reanalysing_searches


def _run_table(runs: Sequence[RunSpec], left: Sequence[int], speeds: Mapping[str, float]) -> Table:
  table = Table(box=None, pad_edge=False, header_style="bold")
  table.add_column("run", overflow="fold")
  for name in ("environment steps", "left", "time"):
    table.add_column(name, justify="right", no_wrap=True)
  for run, steps in zip(runs, left, strict=True):
    total = run.config.training.total_environment_steps
    table.add_row(run.name, f"{total:,}", f"{steps:,}", _time(steps, speeds.get(run.agent)))
  return table


def _agent_table(
  runs: Sequence[RunSpec],
  work: Sequence[RunPlan],
  left: Sequence[int],
  *,
  speeds: Mapping[str, float],
) -> Table:
  """What the runs of every agent do, summed, and the memory of one of them."""
  table = Table(box=None, pad_edge=False, header_style="bold")
  table.add_column("agent", overflow="fold")
  for name in ("runs", "steps", "updates", "searches", "memory a run", "time left"):
    table.add_column(name, justify="right", no_wrap=True)
  for agent in dict.fromkeys(run.agent for run in runs):
    own = [i for i, run in enumerate(runs) if run.agent == agent]
    plans = [work[i] for i in own]
    table.add_row(
      agent,
      f"{len(own):,}",
      steps_in_words(sum(plan.environment_steps for plan in plans)),
      steps_in_words(sum(plan.updates for plan in plans)),
      steps_in_words(sum(map(_searches, plans))),
      gib(max(map(_bytes, plans))),
      _time(sum(left[i] for i in own), speeds.get(agent)),
    )
  return table


def _bytes(plan: RunPlan) -> int:
  return plan.host_bytes + plan.device_bytes


def _time(steps: int, speed: float | None) -> str:
  return duration(steps / speed) if speed else "not measured"


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
