"""`procplan import`: a run that starts from the parameters in a dm-haiku tree.

Makes a run directory with a checkpoint at step 0, which `procplan train` continues and
`procplan evaluate` plays. The configuration is the one that FILE was exported with, unless
an agent, preset or configuration is chosen; any field goes on top. A file that does not fit
is refused with every mismatch named, and nothing is made.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

from experiments.config import ExperimentConfig, from_mapping
from experiments.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError
from experiments.haiku_file import read_header
from experiments.options import (
  OptionParser,
  add_selection,
  guarded,
  override_fields,
  parse_own,
  print_help,
  select_config,
)

SELECTION = ("agent", "preset", "config", "backbone", "search")


def make_parser() -> OptionParser:
  """Returns the command's own options."""
  parser = OptionParser(prog="procplan import", description=__doc__, add_help=False)
  parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="of `procplan export`")
  parser.add_argument("--out", metavar="DIRECTORY", type=Path, help="run directory to make")
  add_selection(parser)
  parser.set_defaults(agent=None, preset=None)
  return parser


def main(arguments: Sequence[str]) -> int:
  """Imports; returns the exit code."""
  parser = make_parser()
  options, fields, wants_help = parse_own(parser, arguments)
  if wants_help:
    print_help(parser, override_fields(_chosen_config(options), fields, parser=parser))
    return 0
  for option in ("file", "out"):
    if getattr(options, option) is None:
      raise UsageError("needs a file and --out: procplan import FILE --out DIRECTORY")
  _check_free(options.out)
  header = read_header(options.file)
  chosen = any(getattr(options, name) is not None for name in SELECTION)
  config = _chosen_config(options) if chosen else _recorded_config(options.file, header)
  config = override_fields(config, fields, parser=parser)
  from experiments.haiku_exchange import import_run  # here, because it imports JAX
  from training.checkpoint import CheckpointError

  try:
    import_run(options.file, config, options.out, header=header)
  except (CheckpointError, OSError) as error:
    print(f"error: {options.out}: {error}", file=sys.stderr)
    return EXIT_FAILED
  except KeyboardInterrupt:
    print("stopped; nothing was made", file=sys.stderr)
    return EXIT_INTERRUPTED
  print(f"{options.out} starts from the parameters in {options.file}; to train it:")
  print(f"procplan train --config {options.out / 'config.yaml'} --out {options.out}")
  return 0


def _chosen_config(options: argparse.Namespace) -> ExperimentConfig:
  """Returns the configuration that the options choose, with `train`'s defaults."""
  chosen = argparse.Namespace(**vars(options))
  chosen.agent, chosen.preset = options.agent or "ppo", options.preset or "laptop"
  return select_config(chosen)


def _recorded_config(path: Path, header: dict | None) -> ExperimentConfig:
  """Returns the configuration that a file was exported with.

  Raises:
    UsageError: it does not say, or what it says is no valid configuration.
  """
  recorded = (header or {}).get("config")
  if not isinstance(recorded, dict):
    raise UsageError(f"{path} does not say its configuration: choose --agent or --config")
  try:
    return from_mapping(recorded)
  except ValueError as error:
    raise UsageError(f"{path}: its configuration: {error}; choose --agent or --config") from error


def _check_free(directory: Path) -> None:
  """Raises UsageError unless a directory can be made there."""
  if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
    raise UsageError(f"{directory} is there already; --out must be new, or an empty directory")


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
