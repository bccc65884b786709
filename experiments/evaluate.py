"""`procplan evaluate`: plays a checkpoint's policy on any levels.

Run directories are read only: nothing in them is made, moved or locked, so that a run
that is going on can be evaluated too. A replay is not needed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from environments.games import BOUNDS
from experiments.config import load_config
from experiments.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError, unknown
from experiments.evaluation_plan import NAMED_SETS, EvaluationPlan, resolve_level_set
from experiments.options import OptionParser, guarded
from experiments.reporting.runs import find_run_directories

if TYPE_CHECKING:
  from training.checkpoint_reader import CheckpointReader

DEFAULT_SETS = ("train", "test")
POLICIES = ("sampled", "greedy")
LARGEST_SEED = 2**31 - 1


def make_parser() -> OptionParser:
  """Returns the command's options."""
  parser = OptionParser(prog="procplan evaluate", description=__doc__)
  parser.add_argument(
    "runs", metavar="RUN", nargs="+", type=Path, help="run directory, or a directory of runs"
  )
  parser.add_argument(
    "--checkpoint",
    metavar="STEP",
    type=int,
    help="environment steps of the checkpoint (default: the latest good one)",
  )
  parser.add_argument(
    "--levels",
    metavar="SET",
    nargs="+",
    help="train, test (every level), held-out (every level past the training range), or any "
    f"level distribution such as easy-500@1000 or hard-all (default: {' '.join(DEFAULT_SETS)})",
  )
  for name, what in (
    ("environments", "environments side by side"),
    ("episodes-per-environment", "quota: episodes that every environment plays"),
  ):
    parser.add_argument(
      f"--{name}", metavar="N", type=int, help=f"{what} (default: as in the run's last evaluation)"
    )
  parser.add_argument(
    "--policy", metavar="NAME", help="sampled or greedy (default: as in the run's evaluations)"
  )
  parser.add_argument(
    "--seed",
    type=int,
    help="of levels, actions and bootstrap (default: the run's, which repeats its last evaluation)",
  )
  parser.add_argument(
    "--bounds",
    metavar="NAME",
    default=BOUNDS[0],
    help=f"returns that count as score 0 and 1: {' or '.join(BOUNDS)}",
  )
  parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to FILE as JSON")
  parser.add_argument("--csv", metavar="FILE", type=Path, help="write every episode to FILE as CSV")
  return parser


def main(arguments: Sequence[str]) -> int:
  """Evaluates; returns the exit code."""
  options = make_parser().parse_args(arguments)
  _check(options)
  plans = [make_plan(directory, options) for directory in find_run_directories(options.runs)]
  from experiments import checkpoint_evaluation, evaluation_output  # here: JAX, rich
  from training.checkpoint import CheckpointError

  readers = [checkpoint_evaluation.open_checkpoints(plan) for plan in plans]
  for plan, reader in zip(plans, readers, strict=True):
    check_step(plan, reader)
  results: list[dict[str, Any]] = []
  try:
    for plan, reader in zip(plans, readers, strict=True):
      results.append(checkpoint_evaluation.evaluate_run(plan, reader))
      evaluation_output.print_run(results[-1])
      if options.json is not None:
        evaluation_output.save_json(results, options.json, command=arguments)
      if options.csv is not None:
        evaluation_output.save_csv(results, options.csv)
  except CheckpointError as error:
    raise UsageError(" ".join(str(error).split())) from error
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_FAILED
  except KeyboardInterrupt:
    print("stopped; the evaluations that were complete are written", file=sys.stderr)
    return EXIT_INTERRUPTED
  return 0


def make_plan(directory: Path, options: argparse.Namespace) -> EvaluationPlan:
  """Settles what to play of the run in `directory`; what was not asked for is the run's own.

  Raises:
    UsageError: there is no run, or a level set is wrong for it.
  """
  if not (directory / "config.yaml").is_file():
    raise UsageError(f"{directory} holds no run: there is no config.yaml")
  config = load_config(directory / "config.yaml")
  training = config.environment.level_distribution
  own = config.evaluation
  quota = options.episodes_per_environment or own.final_episodes_per_environment
  return EvaluationPlan(
    directory=directory,
    config=config,
    checkpoint=options.checkpoint,
    level_sets=tuple(resolve_level_set(name, training) for name in options.levels or DEFAULT_SETS),
    num_environments=options.environments or own.num_environments,
    episodes_per_environment=quota,
    policy=options.policy or own.policy,
    seed=config.seed if options.seed is None else options.seed,
    bounds=options.bounds,
  )


def check_step(plan: EvaluationPlan, reader: "CheckpointReader") -> None:
  """Raises UsageError if the run has no such checkpoint; says which it has."""
  steps = reader.steps()
  if not steps:
    raise UsageError(f"{plan.directory} has no complete checkpoint")
  if plan.checkpoint is not None and plan.checkpoint not in steps:
    there = ", ".join(str(step) for step in steps)
    raise UsageError(f"{plan.directory} has no checkpoint at {plan.checkpoint}; it has: {there}")


def _check(options: argparse.Namespace) -> None:
  """Raises UsageError for a value that no run allows."""
  for name in ("environments", "episodes_per_environment"):
    value = getattr(options, name)
    if value is not None and value < 1:
      raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
  if options.seed is not None and not 0 <= options.seed <= LARGEST_SEED:
    raise UsageError(f"--seed must be from 0 to {LARGEST_SEED}, got {options.seed}")
  if options.policy not in (None, *POLICIES):
    raise unknown("policy", options.policy, POLICIES)
  if options.bounds not in BOUNDS:
    raise unknown("score bounds", options.bounds, BOUNDS)
  names = options.levels or ()
  if len(set(names)) < len(names):
    raise UsageError(f"--levels names a set twice: {' '.join(names)}")
  for name in names:
    if name not in NAMED_SETS and Path(name).is_dir():
      raise UsageError(f"--levels: {name!r} is a directory; runs stand before --levels")
  for path in (options.json, options.csv):
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
      raise UsageError(f"cannot write {path}: it must be a file in a directory that is there")


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
