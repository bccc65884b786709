"""The README tells the truth: its commands parse, its files and names are there."""

import os
from pathlib import Path
import re
import shlex
import shutil
import subprocess

from planning_run import make_run as make_planning_run
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


# What makes a command small enough to be run here: fields and options that go on top.
SMALL_RUN = shlex.split(
  "--environment.game catch --environment.num_environments 4 --agent.rollout_length 16 "
  "--agent.num_minibatches 1 --agent.gradient_chunk 0"
)
SMALL_TRAINING = shlex.split(
  "--agent.epochs 1 --training.total_environment_steps 128 --evaluation.num_environments 2 "
  "--evaluation.episodes_per_environment 1 --evaluation.final_episodes_per_environment 1"
)
SMALL_IMAGINATION = shlex.split(
  "--decoder-updates 2 --decoder-batch 4 --environments 2 --steps 20 --horizon 3 --rollouts 1"
)
NOT_RUN = shlex.split("--plan")  # starts nothing, but works everything out
TRAINED = "runs/impala"  # by a command of the README, and continued or evaluated by others


def small(command):
  """Returns the arguments of a README command, and what is added to run it within seconds."""
  name, *words = command[1:]
  if name in ("train", "compare", "sweep"):
    if any(word.startswith(TRAINED) for word in words):
      if "--config" in words:
        return [name, *words], []
      return [name, *words], [*SMALL_RUN, *SMALL_TRAINING, "--agent.backbone.blocks_per_stack", "0"]
    return [name, *(word for word in words if word not in ("--plan", "--calibrate"))], NOT_RUN
  added = {
    "benchmark": [*SMALL_RUN, "--repeats", "1", "--agent.backbone.blocks", "0"],
    "imagine": SMALL_IMAGINATION,
    "report": ["--resamples", "100"],
  }
  return [name, *words], added.get(name, [])


@pytest.mark.slow
def test_every_command_runs(tmp_path, monkeypatch, capsys):
  """One after the other in one folder, as a user would; the small runs are of Catch.

  Training at full size, comparisons and sweeps are planned and not started. The smoke
  comparison of `.ci/run` starts one.
  """
  monkeypatch.chdir(tmp_path)
  make_planning_run(Path("runs/muzero"))
  for command in commands("procplan"):
    words, added = small(command)
    if "runs/gpu" in words or "runs/compare_laptop" in words:
      make_study(Path("runs/gpu"))
      make_study(Path("runs/compare_laptop"))
    assert run_command([*words, *added]) in (0, None), (
      f"{shlex.join(command)}: {capsys.readouterr()}"
    )
  written = "episodes.csv levels.csv films planning.svg imagined impala.npz runs/from_impala"
  assert [name for name in written.split() if not Path(name).exists()] == []
  assert Path("report.html").stat().st_size > 10_000
  assert Path("curves.svg").stat().st_size > 1_000


def make_study(directory):
  """A directory of runs with the one that the README's commands have trained."""
  if not directory.exists():
    shutil.copytree(TRAINED, directory / "ppo_impala")


OPTIONS_FIRST = [command for command in commands("procplan") if command[1] != "import"]


@pytest.mark.parametrize("command", OPTIONS_FIRST, ids=" ".join)
def test_a_wrong_option_would_be_found(command, tmp_path, monkeypatch, capsys):
  """Also of commands that read runs, before they look for them; `import` reads its file first."""
  monkeypatch.chdir(tmp_path)
  if "--config" in command:
    write_config(Path(command[command.index("--config") + 1]))
  with pytest.raises((UsageError, SystemExit)) as refused:
    run_command([*command[1:], "--bogus", "1"])
  assert getattr(refused.value, "code", EXIT_USAGE) == EXIT_USAGE
  assert "bogus" in f"{refused.value} {capsys.readouterr().err}"


def write_config(path):
  from experiments.config import save_config
  from experiments.presets import make_preset

  path.parent.mkdir(parents=True)
  save_config(make_preset("laptop", "ppo"), path)


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
