"""`procplan sweep`: a study over any fields, on this machine, a Ray cluster or Slurm.

Every run is one process and one directory. The same command continues, on whichever engine:
finished runs are skipped, interrupted ones go on from their checkpoint. This process never
loads JAX.
"""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import sys

from rich.console import Console

from experiments.compare import add_grid, count_processes, make_local_engine, make_study, override
from experiments.comparison import claimed, compare, extend
from experiments.engines.interface import Engine
from experiments.engines.ray_cluster import RayEngine
from experiments.engines.slurm_array import (
  SlurmResources,
  forget_requeues,
  make_script,
  queued,
  submit,
  write_script,
)
from experiments.errors import UsageError, unknown
from experiments.options import OptionParser, guarded, parse_own, print_help
from experiments.plan import show_plan
from experiments.run_config import check_config
from experiments.run_task import make_task
from experiments.studies.fields import parse_axis, vary
from experiments.studies.filters import SUBSETS, filter_runs, parse_conditions, subset_conditions
from experiments.studies.record import save_record
from experiments.studies.registry import DEFAULT
from experiments.studies.study import RunSpec, Study

ENGINES = ("local", "ray", "slurm")
# Options that only some engines read.
ENGINE_OPTIONS = {
  "cpus": ("ray", "slurm"),
  "gpus": ("ray", "slurm"),
  "address": ("ray",),
  "sbatch": ("slurm",),
}
EPILOG = (
  "Exit codes: 0 all runs finished (or, with Slurm, were submitted), 1 some failed, 2 wrong "
  "option, 75 stopped by SIGTERM, 130 by Ctrl-C. `procplan status DIRECTORY` says how a study "
  "stands."
)


def main(arguments: Sequence[str]) -> int:
  """Runs a study; returns the exit code."""
  parser = make_parser()
  options, fields, wants_help = parse_own(parser, arguments)
  check_engine_options(options)
  study, runs = make_runs(options, fields, parser)
  if wants_help:
    print_help(parser, next(iter(study.agents.values())))
    return 0
  what = "sweep" if options.study == DEFAULT else options.study
  directory = options.out or Path("runs") / f"{what}_{options.preset}"
  processes = _count_processes(options, study, len(runs))
  for run in runs:
    check_config(run.config, directory / run.name)
  if options.plan:
    show_plan(study, runs, directory=directory, processes=processes, console=Console())
    if options.engine == "slurm":
      print("\n" + make_script(_tasks(runs, directory), directory, _resources(options)), end="")
    return 0
  try:
    save_record(study, runs, directory, name=options.study, preset=options.preset)
  except OSError as error:
    raise UsageError(f"--out {directory}: {error}") from None
  if options.engine == "slurm":
    return submit_array(runs, directory, _resources(options))
  return compare(runs, directory, engine=make_engine(options, processes))


def make_parser() -> OptionParser:
  """Returns the parser of the command's own options."""
  parser = OptionParser(prog="procplan sweep", description=__doc__, epilog=EPILOG, add_help=False)
  add_grid(parser)
  add = parser.add_argument
  add(
    "--set",
    metavar="FIELD=VALUE,VALUE",
    action="append",
    help="a field to vary, for example agent.optimizer.learning_rate=1e-4,5e-4; any number of "
    "times; agent.backbone takes the names of backbones",
  )
  add(
    "--filter",
    metavar="KEY=VALUE|VALUE,KEY!=VALUE",
    action="append",
    help="only these runs: keys are agent, game, levels, seed and any field; * stands for anything",
  )
  add("--subset", metavar="NAME", action="append", help=f"a named filter: {_subsets()}")
  add("--out", metavar="DIRECTORY", type=Path, help="by default runs/sweep_PRESET or STUDY_PRESET")
  add("--engine", metavar="NAME", default="local", help=", ".join(ENGINES))
  add(
    "--processes",
    metavar="INT",
    type=int,
    help="runs side by side; by default what the machine or the cluster has room for",
  )
  add("--cpus", metavar="INT", type=int, help="cores of each run (ray, slurm); by default 1")
  add("--gpus", metavar="INT", type=int, help="GPUs of each run (ray, slurm); by default 0")
  add(
    "--address", metavar="HOST:PORT", help="a running Ray cluster; by default one is started here"
  )
  add(
    "--sbatch",
    metavar="=--OPTION",
    action="append",
    help="a further option of sbatch, such as --sbatch=--partition=gpu; any number of times",
  )
  add(
    "--plan",
    action="store_true",
    help="print the runs, steps and hours, with Slurm the script, too, and start nothing",
  )
  return parser


def check_engine_options(options: argparse.Namespace) -> None:
  """Checks that the engine is one, and that it reads the options that were given.

  Raises:
    UsageError: it is not, or does not.
  """
  if options.engine not in ENGINES:
    raise unknown("engine", options.engine, ENGINES)
  for name, engines in ENGINE_OPTIONS.items():
    given = getattr(options, name)
    if given is not None and options.engine not in engines:
      raise UsageError(f"--{name} is for --engine {' or '.join(engines)}, not {options.engine}")
  for name, least in (("cpus", 1), ("gpus", 0)):
    given = getattr(options, name)
    if given is not None and given < least:
      raise UsageError(f"--{name} must be at least {least}, got {given}")


def make_runs(
  options: argparse.Namespace, fields: Sequence[str], parser: OptionParser
) -> tuple[Study, tuple[RunSpec, ...]]:
  """Returns the study of a command line and those of its runs that the filters leave.

  Raises:
    UsageError: an unknown name or field, a wrong value, or no run is left.
  """
  study = make_study(options, fields, parser)
  study = vary(
    study,
    [parse_axis(text) for text in options.set or ()],
    override=lambda label, config, pairs: override(label, config, pairs, parser=parser),
  )
  try:
    runs = study.runs()
  except ValueError as error:
    raise UsageError(str(error)) from None
  conditions = [each for name in options.subset or () for each in subset_conditions(name)]
  conditions += [each for text in options.filter or () for each in parse_conditions(text)]
  return study, filter_runs(runs, conditions)


def make_engine(options: argparse.Namespace, processes: int) -> Engine:
  """Returns the engine that the options ask for."""
  if options.engine == "local":
    return make_local_engine(processes)
  return RayEngine(
    processes=processes, cpus=options.cpus or 1, gpus=options.gpus or 0, address=options.address
  )


def submit_array(runs: Sequence[RunSpec], directory: Path, resources: SlurmResources) -> int:
  """Submits what is not finished as one array; returns the exit code.

  Raises:
    UsageError: an array of this study is still in the queue, or Slurm refuses the new one.
  """
  with claimed(runs, directory):
    if waiting := queued(directory):
      raise UsageError(
        f"{len(waiting)} elements of this study are still in Slurm's queue, {waiting[0]} among "
        "them: `procplan status` shows how they stand, scancel ends them"
      )
    extend(runs, directory)
    tasks = [task for task in _tasks(runs, directory) if not task.is_finished()]
    if not tasks:
      print(f"all {len(runs)} runs in {directory} are finished")
      return 0
    try:
      script = write_script(tasks, directory, resources)
      forget_requeues(tasks)
      number = submit(script)
    except OSError as error:
      raise UsageError(f"--out {directory}: {error}") from None
  print(f"submitted {len(tasks)} of {len(runs)} runs as the elements of Slurm job {number}")
  print(f"procplan status {directory}      # how they stand")
  print(f"procplan report {directory} --out {directory / 'report.html'}")
  return 0


def _tasks(runs: Sequence[RunSpec], directory: Path):
  cache = directory / "compilation_cache"
  return [make_task(run, directory / run.name, cache=cache) for run in runs]


def _resources(options: argparse.Namespace) -> SlurmResources:
  return SlurmResources(
    cpus=options.cpus or 1,
    gpus=options.gpus or 0,
    processes=options.processes,
    options=tuple(options.sbatch or ()),
  )


def _count_processes(options: argparse.Namespace, study: Study, runs: int) -> int:
  """Returns how many runs go on side by side, or are handed to the cluster at a time."""
  if options.engine == "local" or options.processes is not None:
    return count_processes(options.processes, study, runs)
  if options.engine == "slurm" or options.address is not None:
    return runs
  return max(1, min(runs, len(os.sched_getaffinity(0)) // (options.cpus or 1)))


def _subsets() -> str:
  return ", ".join(f"{name} ({text})" for name, text in SUBSETS.items())


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
