"""`procplan compare`: a grid of runs, each in its own process and directory, and a report.

The same command continues: finished runs are skipped, interrupted ones go on from their
checkpoint. Runs share out the cores; this process never loads JAX.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import os
from pathlib import Path
import sys

from rich.console import Console

from experiments.comparison import GRACE_SECONDS, compare
from experiments.config import ExperimentConfig
from experiments.engines.local import LocalEngine, share_out, usable_gpus
from experiments.errors import UsageError
from experiments.options import OptionParser, guarded, override_fields, parse_own, print_help
from experiments.plan import show_plan
from experiments.registry import AGENTS
from experiments.run_config import check_config
from experiments.studies.record import save_record
from experiments.studies.registry import DEFAULT, STUDIES, make_named_study
from experiments.studies.study import Study, check_contrasts, select

GRID_FIELDS = {
  "--environment.game": "--games",
  "--environment.levels": "--levels",
  "--seed": "--seeds",
}
EPILOG = (
  f"Ctrl-C or SIGTERM: every run ends its present turn, saves and stops, within "
  f"{GRACE_SECONDS:.0f} s or it is killed; the same command continues. "
  "Exit codes: 0 all runs finished, 1 some failed, 2 wrong option, 75 stopped by SIGTERM, "
  "130 by Ctrl-C."
)


def main(arguments: Sequence[str]) -> int:
  """Compares; returns the exit code."""
  parser = make_parser()
  options, fields, wants_help = parse_own(parser, arguments)
  study = make_study(options, fields, parser)
  if wants_help:
    print_help(parser, next(iter(study.agents.values())))
    return 0
  what = "compare" if options.study == DEFAULT else options.study
  directory = options.out or Path("runs") / f"{what}_{options.preset}"
  try:
    runs = study.runs()
  except ValueError as error:
    raise UsageError(str(error)) from None
  processes = count_processes(options.processes, study, len(runs))
  for run in runs:
    check_config(run.config, directory / run.name)
  if options.plan:
    show_plan(study, runs, directory=directory, processes=processes, console=Console())
    return 0
  try:
    save_record(study, runs, directory, name=options.study, preset=options.preset)
  except OSError as error:
    raise UsageError(f"--out {directory}: {error}") from None
  return compare(runs, directory, engine=make_local_engine(processes))


def make_parser() -> OptionParser:
  """Returns the parser of the command's own options."""
  parser = OptionParser(prog="procplan compare", description=__doc__, epilog=EPILOG, add_help=False)
  add_grid(parser)
  parser.add_argument(
    "--out", metavar="DIRECTORY", type=Path, help="by default runs/compare_PRESET or STUDY_PRESET"
  )
  parser.add_argument(
    "--processes",
    metavar="INT",
    type=int,
    help="runs side by side, which share out the cores and GPUs; by default what the preset "
    "says, or one per GPU, or one per core",
  )
  parser.add_argument(
    "--plan", action="store_true", help="print the runs, steps and hours, and start nothing"
  )
  return parser


def add_grid(parser: OptionParser) -> None:
  """Adds the options that choose a study and the values of its axes."""
  parser.add_argument("--study", metavar="NAME", default=DEFAULT, help=", ".join(STUDIES))
  presets = ", ".join(STUDIES[DEFAULT])
  parser.add_argument("--preset", metavar="NAME", default="laptop", help=presets)
  replaced = "; in place of the preset's"
  parser.add_argument(
    "--agents",
    metavar="NAME",
    nargs="+",
    help=f"of the study's agents ({', '.join(AGENTS)} and their variants){replaced}",
  )
  parser.add_argument("--games", metavar="NAME", nargs="+", help=f"games{replaced}")
  parser.add_argument(
    "--levels", metavar="NAME", nargs="+", help=f"training level distributions{replaced}"
  )
  parser.add_argument("--seeds", metavar="INT", nargs="+", type=int, help=f"seeds{replaced}")


def make_study(options: argparse.Namespace, fields: Sequence[str], parser: OptionParser) -> Study:
  """Returns the preset's study with the options and fields of the command line applied.

  Raises:
    UsageError: an unknown name or field, a wrong value, or a field in which agents must differ.
  """
  study = make_named_study(options.study, options.preset)
  study = select(
    study, agents=options.agents, games=options.games, levels=options.levels, seeds=options.seeds
  )
  agents = {
    label: override(label, config, fields, parser=parser) for label, config in study.agents.items()
  }
  check_contrasts(study, agents)
  return dataclasses.replace(study, agents=agents)


def count_processes(asked: int | None, study: Study, runs: int) -> int:
  """Returns how many runs go on side by side on this machine.

  Raises:
    UsageError: `asked` is below 1.
  """
  if asked is not None and asked < 1:
    raise UsageError(f"--processes must be at least 1, got {asked}")
  return min(runs, asked or study.processes or len(usable_gpus()) or len(os.sched_getaffinity(0)))


def make_local_engine(processes: int) -> LocalEngine:
  """Returns an engine that shares this machine's cores and GPUs out to `processes` runs."""
  return LocalEngine(
    share_out(processes, cores=sorted(os.sched_getaffinity(0)), gpus=usable_gpus())
  )


def override(
  label: str, config: ExperimentConfig, fields: Sequence[str], *, parser: OptionParser
) -> ExperimentConfig:
  """Returns an agent's configuration with `--field value` pairs applied.

  Raises:
    UsageError: an unknown field or a wrong value; names the agent.
  """
  for field in fields:
    name = field.partition("=")[0]
    if name in GRID_FIELDS:
      raise UsageError(f"{name} is set by the grid: use {GRID_FIELDS[name]}")
  try:
    return override_fields(config, fields, parser=parser)
  except UsageError as error:
    raise UsageError(f"agent {label}: {error}") from None


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
