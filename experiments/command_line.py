"""The `procplan` command: finds the command's module and hands over.

Also run as `python -m experiments.train` and so on.
"""

from collections.abc import Sequence
import importlib
import sys

from experiments.errors import unknown
from experiments.options import guarded

COMMANDS = {
  "train": "one run, in one directory",
  "compare": "a comparison of agents and level distributions, with a report",
  "sweep": "a study over any fields, on this machine, a Ray cluster or Slurm",
  "status": "how the runs of a study stand",
  "evaluate": "evaluate a checkpoint",
  "imagine": "show what a checkpoint's world model imagines, beside what came",
  "export": "write a checkpoint's parameters as a dm-haiku tree",
  "import": "make a run that starts from the parameters in a dm-haiku tree",
  "report": "write the report page of finished or unfinished runs",
  "benchmark": "speed and memory of each stage of a run",
}

# Modules that are not called like their command: `import` is no name in Python.
MODULES = {"export": "haiku_export", "import": "haiku_import"}

USAGE = "usage: procplan COMMAND [OPTIONS]\n\n" + "\n".join(
  f"  {name:<10} {text}" for name, text in COMMANDS.items()
)


def run_command(arguments: Sequence[str]) -> int:
  """Runs the command that `arguments` names; returns the exit code."""
  if not arguments or arguments[0] in ("--help", "-h"):
    print(f"{USAGE}\n\n`procplan COMMAND --help` explains every option.")
    return 0
  if arguments[0] not in COMMANDS:
    raise unknown("command", arguments[0], COMMANDS)
  module = MODULES.get(arguments[0], arguments[0])
  return importlib.import_module(f"experiments.{module}").main(arguments[1:])


def main() -> None:
  """Entry point of the installed command."""
  sys.exit(guarded(run_command, sys.argv[1:]))


if __name__ == "__main__":
  main()
