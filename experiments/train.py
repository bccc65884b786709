"""`procplan train`: one run, in one directory."""

from collections.abc import Sequence
from pathlib import Path
import shutil
import sys

from experiments.config import ExperimentConfig
from experiments.errors import EXIT_FAILED, UsageError
from experiments.options import OptionParser, add_selection, guarded, parse_with_fields
from experiments.registry import agent_name
from experiments.several_processes import run_together


def main(arguments: Sequence[str]) -> int:
  """Trains; returns the exit code."""
  parser = OptionParser(prog="procplan train", description=__doc__, add_help=False)
  add_selection(parser)
  parser.add_argument(
    "--out", metavar="DIRECTORY", type=Path, help="run directory; by default under runs/"
  )
  parser.add_argument(
    "--resume",
    choices=("auto", "never"),
    default="auto",
    help="auto continues from the latest checkpoint; never refuses a directory with a run in it",
  )
  parser.add_argument(
    "--plan",
    action="store_true",
    help="print steps, updates, searches and memory, refuse what does not fit, start nothing",
  )
  parser.add_argument(
    "--calibrate",
    action="store_true",
    help="with --plan: measure the speed in a few turns, which are thrown away, and print hours",
  )
  parser.add_argument(
    "--distributed",
    action="store_true",
    help="this is one of several processes, one on each host; they find one another through "
    "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or through Slurm",
  )
  options, config = parse_with_fields(parser, arguments)
  if options.calibrate and not options.plan:
    raise UsageError("--calibrate goes with --plan: it measures and starts no run")
  if options.distributed and options.plan:
    raise UsageError("--distributed goes without --plan, which looks at this machine alone")
  if options.plan:
    return show_plan(config, calibrate=options.calibrate)
  directory = options.out or Path("runs") / run_name(config)
  if options.resume == "never" and (directory / "config.yaml").exists():
    raise UsageError(f"--resume never, but {directory} holds a run already")
  command = ["procplan", "train", *arguments]
  try:
    if options.distributed:
      return run_together(lambda: train(config, directory, command=command))
    return train(config, directory, command=command)
  except KeyboardInterrupt:
    print(f"error: {directory}: stopped at once; the last checkpoint stays", file=sys.stderr)
    return EXIT_FAILED


def show_plan(config: ExperimentConfig, *, calibrate: bool) -> int:
  """Prints what a run takes; returns the exit code.

  Raises:
    UsageError: the run cannot be made here; the message has the arithmetic.
  """
  from experiments import run_plan_text, runner  # here, because the first imports JAX
  from experiments.consoles import make_console
  from experiments.run_speed import measure_speed
  from training.learner import NonFiniteError

  plan, room = runner.plan_here(config)
  try:
    speed = measure_speed(config) if calibrate else None
  except NonFiniteError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_FAILED
  run_plan_text.show_run_plan(plan, room, speed=speed, console=make_console(least_width=140))
  return 0


def train(config: ExperimentConfig, directory: Path, *, command: Sequence[str]) -> int:
  """Imports JAX and runs; an expected failure becomes one line and exit code 1."""
  from experiments import runner  # here, because it imports JAX
  from training.checkpoint import CheckpointError
  from training.learner import NonFiniteError
  from training.processes import DisagreementError, here

  try:
    return runner.run(config, directory, command=command, processes=here())
  except (NonFiniteError, CheckpointError, DisagreementError) as error:
    print(f"error: {directory}: {error}", file=sys.stderr)
  except OSError as error:
    free = shutil.disk_usage(directory.parent if not directory.exists() else directory).free
    print(f"error: {directory}: {error} ({free / 2**20:.0f} MiB free)", file=sys.stderr)
  return EXIT_FAILED


def run_name(config: ExperimentConfig) -> str:
  """Returns a directory name for a run."""
  environment = config.environment
  name = f"{agent_name(config.agent)}_{environment.game}_{environment.levels}_seed-{config.seed}"
  return name.replace("@", "-from-")


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
