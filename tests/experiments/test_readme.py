"""The README tells the truth: its commands parse, its files and names are there."""

import os
from pathlib import Path
import re
import shlex
import subprocess

import pytest

from environments.levels import NAMED
from experiments.command_line import COMMANDS, run_command
from experiments.comparison import GRACE_SECONDS
from experiments.errors import (
  EXIT_FAILED,
  EXIT_INTERRUPTED,
  EXIT_PREEMPTED,
  EXIT_USAGE,
  UsageError,
)
from experiments.presets import PRESETS
from experiments.registry import AGENTS
from experiments.studies.registry import STUDIES

ROOT = Path(__file__).resolve().parents[2]
WRITTEN_BY_RUNS = ("runs/", "tensorboard/", "checkpoints/")
README = (ROOT / "README.md").read_text()


def commands(program):
  """Every command of `program` in the README's shell blocks, without comments."""
  blocks = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
  lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
  return [line for line in lines if line and line[0] == program]


def rows(heading):
  """The cells of the table under a heading."""
  section = README.split(f" {heading}\n", 1)[1].split("\n#", 1)[0]
  lines = [line for line in section.splitlines() if line.startswith("|")][2:]
  return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_shell_line_is_one_that_is_checked():
  blocks = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
  lines = [line for block in blocks for line in block.splitlines() if line.strip()]
  assert len(lines) == len(commands("make")) + len(commands("procplan"))
  assert len(lines) >= 2 + len(COMMANDS)


@pytest.mark.parametrize("command", commands("make"), ids=" ".join)
def test_make_targets_are_there(command):
  environment = {name: x for name, x in os.environ.items() if not name.startswith("MAKE")}
  done = subprocess.run(
    ["make", "--dry-run", *command[1:]],
    cwd=ROOT,
    env=environment,  # without what a make around the tests says
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", commands("procplan"), ids=" ".join)
def test_commands_parse(command, tmp_path, monkeypatch, capsys):
  """Asked for help, a command checks its options and fields and starts nothing."""
  monkeypatch.chdir(tmp_path)
  arguments = command[1:]
  if "--config" in arguments:
    write_config(Path(arguments[arguments.index("--config") + 1]))
  try:
    code = run_command([*arguments, "--help"])
  except SystemExit as stop:
    code = stop.code
  assert not code
  assert f"usage: procplan {arguments[0]}" in capsys.readouterr().out


def write_config(path):
  from experiments.config import save_config
  from experiments.presets import make_preset

  path.parent.mkdir(parents=True)
  save_config(make_preset("laptop", "ppo"), path)


def test_a_wrong_field_would_be_found():
  with pytest.raises(UsageError):
    run_command(["train", "--environment.gam", "maze", "--help"])


def test_every_command_is_shown():
  assert {command[1] for command in commands("procplan")} == set(COMMANDS)


def test_the_table_of_agents_is_the_registry():
  table = rows("Agents")
  assert {row[0].strip("`") for row in table} == set(AGENTS)


def test_names_are_those_of_the_code():
  for name in (*NAMED, *PRESETS):
    assert f"`{name}`" in README
  assert f"after {GRACE_SECONDS:.0f} seconds" in README


def test_exit_codes_are_those_of_the_code():
  codes = {int(row[0]) for row in rows("Exit codes")}
  assert codes == {0, EXIT_FAILED, EXIT_USAGE, EXIT_PREEMPTED, EXIT_INTERRUPTED}


def test_paths_are_there():
  paths = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.[a-z]+)?)`", README)
  paths += re.findall(r"\]\(((?!http)[^)]+)\)", README)
  paths = [path for path in paths if not path.startswith(WRITTEN_BY_RUNS)]
  assert len(paths) > 15
  assert [path for path in paths if not (ROOT / path).exists()] == []


def test_make_installs_what_setup_says():
  """The two commands need nothing else: the Makefile installs both extras."""
  makefile = (ROOT / "Makefile").read_text()
  assert ".[report,test]" in makefile
  assert "$(INSTALLED): setup.py" in makefile


def test_the_table_of_studies_is_the_registry():
  assert re.findall(r"^\| `([a-z-]+)` \| [^|]*\?", README, re.MULTILINE) == list(STUDIES)
