"""`procplan evaluate`: plays a checkpoint's policy on any levels.

Run directories are read only: nothing in them is made, moved or locked, so that a run
that is going on can be evaluated too. A replay is not needed.
"""

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import functools
from pathlib import Path
import sys
import traceback
from typing import TYPE_CHECKING, Any

from experiments.errors import EXIT_FAILED, UsageError
from experiments.evaluation_failure import Failure, exit_code
from experiments.evaluation_options import check, check_together, make_parser, make_plan
from experiments.evaluation_plan import EvaluationPlan
from experiments.options import guarded
from experiments.reporting.runs import find_run_directories

if TYPE_CHECKING:
  from training.checkpoint_reader import CheckpointReader


def main(arguments: Sequence[str]) -> int:
  """Evaluates; returns the exit code."""
  options = make_parser(__doc__).parse_args(arguments)
  check(options)
  plans = [make_plan(directory, options) for directory in find_run_directories(options.runs)]
  from experiments import evaluation_output  # here: JAX, rich
  from experiments.stop_requests import Stopped, exit_code_of, stopping_at_once

  plans = _with_checkpoint(plans, named=options.runs)
  check_together(plans, options)
  results: list[dict[str, Any]] = []
  failures: list[Failure] = []
  is_written, stopped = True, None
  try:
    with stopping_at_once(), contextlib.closing(_evaluate(plans, options)) as evaluated:
      for outcome in evaluated:
        if isinstance(outcome, Failure):
          failures.append(outcome)
          print(f"error: {outcome.reason}", file=sys.stderr, flush=True)
          continue
        results.append(outcome)
        is_written = False  # a signal may come before it is
        evaluation_output.print_run(outcome)
        is_written = _save(results, options, command=arguments)
  except Stopped as error:
    stopped = error
  is_written = is_written or _save(results, options, command=arguments)  # the disk may have room
  are = "written" if is_written else "not all written"
  counted = f"of {len(plans)} evaluations"
  if stopped is not None:
    print(f"{stopped}: {len(results)} {counted} were complete and are {are}", file=sys.stderr)
    return exit_code_of(stopped.number)
  if results and failures:
    print(f"{len(failures)} {counted} failed; the others are complete and {are}", file=sys.stderr)
  return exit_code(failures, evaluations=len(plans)) or (0 if is_written else EXIT_FAILED)


def _with_checkpoint(plans: list[EvaluationPlan], *, named: list[Path]) -> list[EvaluationPlan]:
  """Leaves out runs that a directory of runs holds and that have no such checkpoint; says so.

  Args:
    plans: of all runs.
    named: runs and directories of runs on the command line.

  Raises:
    UsageError: a run that was named by itself has none, or no run is left.
  """
  from experiments import checkpoint_evaluation

  kept = []
  for plan in plans:
    try:
      check_step(plan, checkpoint_evaluation.open_checkpoints(plan))
      kept.append(plan)
    except UsageError as error:
      if plan.directory in named:
        raise
      print(f"left out: {error}", file=sys.stderr)
  if not kept:
    raise UsageError(f"no run in {', '.join(map(str, named))} is left to evaluate")
  return kept


def _evaluate(
  plans: list[EvaluationPlan], options: argparse.Namespace
) -> Iterator[dict[str, Any] | Failure]:
  """Yields what became of the runs in their order, each when it and those before have ended."""
  if options.processes == 1 or len(plans) == 1:
    yield from map(_evaluate_here, plans)
  else:
    from experiments import evaluation_processes

    directories = [plan.directory for plan in plans]
    yield from evaluation_processes.evaluate_side_by_side(directories, options)


def _evaluate_here(plan: EvaluationPlan) -> dict[str, Any] | Failure:
  """Returns the result of one run, or why there is none; the next runs are played all the same."""
  from experiments import checkpoint_evaluation
  from training.checkpoint import CheckpointError

  try:
    return checkpoint_evaluation.evaluate_run(plan, checkpoint_evaluation.open_checkpoints(plan))
  except (CheckpointError, UsageError) as error:
    return Failure(_one_line(error), is_refusal=True)
  except Exception as error:
    if not isinstance(error, OSError):  # not foreseen: where it came from matters
      traceback.print_exc()
    reason = f"{type(error).__name__}: {_one_line(error)}"
    return Failure(f"the evaluation of {plan.directory} failed: {reason}", is_refusal=False)


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())


def _save(
  results: list[dict[str, Any]], options: argparse.Namespace, *, command: Sequence[str]
) -> bool:
  """Writes what was asked for, after every run, so that nothing is lost.

  Returns:
    Whether all of it is written. A file that the system refuses is named; the others are.
  """
  from experiments import evaluation_output

  def save_plot(results, path):
    from experiments import planning_plot  # here: matplotlib

    planning_plot.save_plot(results, path)

  save_json = functools.partial(evaluation_output.save_json, command=command)
  is_written = True
  for path, save in (
    (options.json, save_json),
    (options.csv, evaluation_output.save_episodes),
    (options.levels_csv, evaluation_output.save_levels),
    (options.plot, save_plot),
  ):
    try:
      if path is not None:
        save(results, path)
    except OSError as error:
      is_written = False
      line = f"error: {path} could not be written: {_one_line(error)}"
      print(line, file=sys.stderr, flush=True)
  return is_written


def check_step(plan: EvaluationPlan, reader: "CheckpointReader") -> None:
  """Raises UsageError if the run has no such checkpoint; says which it has."""
  steps = reader.steps()
  if not steps:
    raise UsageError(f"{plan.directory} has no complete checkpoint")
  if plan.checkpoint is not None and plan.checkpoint not in steps:
    there = ", ".join(str(step) for step in steps)
    raise UsageError(f"{plan.directory} has no checkpoint at {plan.checkpoint}; it has: {there}")


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
