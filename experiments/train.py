"""`procplan train`: one run, in one directory."""

from collections.abc import Sequence
from pathlib import Path
import shutil
import sys

from experiments.config import ExperimentConfig
from experiments.errors import EXIT_FAILED, UsageError
from experiments.options import OptionParser, add_selection, guarded, parse_with_fields
from experiments.registry import agent_name


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
  options, config = parse_with_fields(parser, arguments)
  directory = options.out or Path("runs") / run_name(config)
  if options.resume == "never" and (directory / "config.yaml").exists():
    raise UsageError(f"--resume never, but {directory} holds a run already")
  return train(config, directory, command=["procplan", "train", *arguments])


def train(config: ExperimentConfig, directory: Path, *, command: Sequence[str]) -> int:
  """Imports JAX and runs; an expected failure becomes one line and exit code 1."""
  from experiments import runner  # here, because it imports JAX
  from training.checkpoint import CheckpointError
  from training.learner import NonFiniteError

  try:
    return runner.run(config, directory, command=command)
  except (NonFiniteError, CheckpointError) as error:
    print(f"error: {directory}: {error}", file=sys.stderr)
  except OSError as error:
    free = shutil.disk_usage(directory.parent if not directory.exists() else directory).free
    print(f"error: {directory}: {error} ({free / 2**20:.0f} MiB free)", file=sys.stderr)
  except KeyboardInterrupt:
    print(f"error: {directory}: stopped at once; the last checkpoint stays", file=sys.stderr)
  return EXIT_FAILED


def run_name(config: ExperimentConfig) -> str:
  """Returns a directory name for a run."""
  environment = config.environment
  name = f"{agent_name(config.agent)}_{environment.game}_{environment.levels}_seed-{config.seed}"
  return name.replace("@", "-from-")


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
