"""`procplan evaluate`: plays a checkpoint's policy on any levels.

Run directories are read only: nothing in them is made, moved or locked, so that a run
that is going on can be evaluated too. A replay is not needed.
"""

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from experiments.errors import EXIT_FAILED, UsageError
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
  check_together(plans)
  from experiments import evaluation_output  # here: JAX, rich
  from experiments.stop_requests import Stopped, exit_code_of, stopping_at_once
  from training.checkpoint import CheckpointError

  results: list[dict[str, Any]] = []
  try:
    with stopping_at_once(), contextlib.closing(_evaluate(plans, options)) as evaluated:
      for result in evaluated:
        results.append(result)
        evaluation_output.print_run(result)
        _save(results, options, command=arguments)
  except CheckpointError as error:
    raise UsageError(" ".join(str(error).split())) from error
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_FAILED
  except Stopped as stopped:
    print(
      f"{stopped}: {len(results)} of {len(plans)} evaluations were complete and are written",
      file=sys.stderr,
    )
    return exit_code_of(stopped.number)
  return 0


def _evaluate(plans: list[EvaluationPlan], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Yields the results in the order of the runs, each when it and those before are there."""
  from experiments import checkpoint_evaluation, evaluation_processes

  readers = [checkpoint_evaluation.open_checkpoints(plan) for plan in plans]
  for plan, reader in zip(plans, readers, strict=True):
    check_step(plan, reader)
  if options.processes == 1 or len(plans) == 1:
    for plan, reader in zip(plans, readers, strict=True):
      yield checkpoint_evaluation.evaluate_run(plan, reader)
  else:
    directories = [plan.directory for plan in plans]
    yield from evaluation_processes.evaluate_side_by_side(directories, options)


def _save(
  results: list[dict[str, Any]], options: argparse.Namespace, *, command: Sequence[str]
) -> None:
  """Writes what was asked for, after every run, so that nothing is lost."""
  from experiments import evaluation_output

  if options.json is not None:
    evaluation_output.save_json(results, options.json, command=command)
  if options.csv is not None:
    evaluation_output.save_episodes(results, options.csv)
  if options.levels_csv is not None:
    evaluation_output.save_levels(results, options.levels_csv)
  if options.plot is not None:
    from experiments.planning_plot import save_plot  # here: matplotlib

    save_plot(results, options.plot)


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
