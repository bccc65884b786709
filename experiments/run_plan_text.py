"""The plan of a run in words and tables."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from experiments.memory_items import gib
from experiments.progress import duration
from experiments.run_memory import Room
from experiments.run_plan import RunPlan
from experiments.run_speed import Speed


def show_run_plan(plan: RunPlan, room: Room, *, speed: Speed | None, console: Console) -> None:
  """Prints what a run takes.

  Args:
    plan: of the run.
    room: memory that there is.
    speed: as measured, or None.
    console: to print on.
  """
  for line in count_lines(plan):
    console.print(line, highlight=False, soft_wrap=True)
  console.print()
  console.print(_phases(plan))
  console.print()
  console.print(_memory(plan))
  for line in memory_lines(plan, room):
    console.print(line, highlight=False, soft_wrap=True)
  console.print()
  for line in time_lines(plan, speed):
    console.print(line, highlight=False, soft_wrap=True)


def count_lines(plan: RunPlan) -> list[str]:
  """Returns what is counted over the whole run."""
  lines = [
    f"{plan.environment_steps:,} environment steps (frames) in {plan.turns:,} turns of "
    f"{plan.steps_per_turn:,}; {plan.updates:,} updates on {plan.samples:,} samples"
  ]
  if plan.simulations_per_search:
    searches = plan.acting_searches + plan.reanalysing_searches
    lines.append(
      f"{searches:,} searches ({plan.acting_searches:,} acting, {plan.reanalysing_searches:,} "
      f"reanalysing) x {plan.simulations_per_search} simulations = {plan.simulations:,} model steps"
    )
  lines.append(
    f"{plan.evaluations} evaluations of {plan.evaluation_episodes:,} episodes in all, at most "
    f"{plan.evaluation_steps_at_most:,} steps; not counted above"
  )
  if plan.parameters is not None:
    lines.append(f"{plan.parameters:,} parameters")
  return lines


def memory_lines(plan: RunPlan, room: Room) -> list[str]:
  """Returns what is needed and what there is."""
  host, devices = ("not told" if size is None else gib(size) for size in (room.host, room.devices))
  lines = []
  if plan.replay_frames:
    lines.append(
      f"replay: {plan.replay_frames:,} frames, raw {gib(plan.replay_raw)}, compressed about "
      f"{gib(plan.replay_compressed_estimate)}"
    )
  total = f"{gib(plan.host_bytes)} on the host and {gib(plan.device_bytes)} on devices"
  if room.shared:
    both = gib(plan.host_bytes + plan.device_bytes)
    lines.append(f"memory: {total} = {both}, of {host} that {room.owner} available")
  else:
    lines.append(f"memory: {total}, of {host} and {devices}")
  if plan.open_rollouts_if_stopped:
    lines.append(
      f"checkpoints: {open_rollouts([plan])}; one of a run that is stopped up to "
      f"{gib(plan.open_rollouts_if_stopped)}"
    )
  lines.append("activations of an update, the environments and the libraries come on top")
  return lines


def open_rollouts(plans: Sequence[RunPlan]) -> str:
  """Says what checkpoints hold beside the train state, of agents that group their rollouts.

  Args:
    plans: of one run, or of several, of which the largest are told.
  """
  before = max(plan.open_rollouts for plan in plans)
  last = max(plan.open_rollouts_at_end for plan in plans)
  at_end = f"the last up to {gib(last)}" if last else "the last none"
  if before:
    return f"one holds up to {gib(before)} of rollouts of an open group; {at_end}"
  if last:
    return f"none but the last holds rollouts of an open group; {at_end}"
  return "between two groups of rollouts, none of which they hold"


def time_lines(plan: RunPlan, speed: Speed | None) -> list[str]:
  """Returns the expected hours."""
  if speed is None:
    return ["hours: not measured; --plan --calibrate measures the speed and says"]
  training = plan.environment_steps / speed.steps_per_second
  others = speed.cores_of_others
  evaluating = plan.evaluation_steps_at_most / speed.acting_steps_per_second
  return [
    f"measured: {speed.steps_per_second:,.0f} environment steps/s in training, "
    f"{speed.acting_steps_per_second:,.0f} when only acting",
    f"expected: {duration(training)} of training; evaluations at most {duration(evaluating)}, if "
    "every episode times out",
    f"other processes used {'?' if others is None else f'{others:g}'} cores meanwhile: alone, the "
    "run may be faster",
  ]


def _phases(plan: RunPlan) -> Table:
  table = Table(box=None, pad_edge=False, header_style="bold")
  table.add_column("phase")
  for name in ("draws", "updates", "samples", "uses of a step", "searches"):
    table.add_column(name, justify="right")
  for phase in plan.phases:
    counts = (phase.draws, phase.updates, phase.samples)
    table.add_row(
      phase.name,
      *(f"{count:,}" for count in counts),
      f"{phase.uses_per_sample:.2f}",
      f"{phase.searches:,}",
    )
  return table


def _memory(plan: RunPlan) -> Table:
  table = Table(box=None, pad_edge=False, header_style="bold")
  for name in ("memory", "on", "size", "how it comes about"):
    table.add_column(name, justify="right" if name == "size" else "left")
  for item in plan.memory:
    table.add_row(item.name, item.place, gib(item.size), item.arithmetic)
  return table
