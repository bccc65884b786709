"""Sweeps: any field as an axis, filters, the command line, and Slurm's script with a stand-in."""

import os
from pathlib import Path
import re
import subprocess

import pytest

from experiments.command_line import run_command
from experiments.config import flatten, to_mapping
from experiments.engines.slurm_array import (
  REQUEUES,
  SECONDS_TO_SAVE,
  SlurmResources,
  make_script,
  queued,
  write_script,
)
from experiments.errors import UsageError
from experiments.options import guarded, override_fields
from experiments.presets import make_preset
from experiments.processes import MAX_RETRIES
from experiments.run_list import read_run_list
from experiments.run_task import make_task
from experiments.studies.fields import Axis, parse_axis, vary
from experiments.studies.filters import (
  SUBSETS,
  Condition,
  filter_runs,
  parse_conditions,
  subset_conditions,
)
from experiments.studies.study import Contrast, Study
from experiments.sweep import make_parser, make_runs


def small_study(**changes):
  grid = {
    "agents": {"a": make_preset("smoke", "ppo"), "b": make_preset("smoke", "ppo")},
    "games": ("leaper", "maze"),
    "levels": ("easy-200", "easy-all"),
    "seeds": (0, 7),
  }
  return Study(**{**grid, **changes})


def runs_of(*arguments):
  """The runs of a command line."""
  parser = make_parser()
  options, fields = parser.parse_known_args(["--preset", "smoke", "--agents", "ppo", *arguments])
  return make_runs(options, fields, parser)[1]


def setting(run, field):
  return flatten(to_mapping(run.config))[field]


class TestFields:
  def test_every_agent_becomes_one_for_each_value(self):
    runs = runs_of("--set", "agent.hidden=16,64", "--set", "agent.optimizer.learning_rate=1e-4")
    assert len(runs) == 2 * len(runs_of())
    assert {setting(run, "agent.hidden") for run in runs} == {16, 64}
    assert {setting(run, "agent.optimizer.learning_rate") for run in runs} == {1e-4}
    assert {run.agent for run in runs} == {
      "ppo+hidden=16+learning_rate=0.0001",
      "ppo+hidden=64+learning_rate=0.0001",
    }

  def test_a_value_is_named_as_it_is_stored(self):
    """Else 1e-4 and 0.0001 would be two directories of one run."""
    names = [[run.name for run in runs_of("--set", f"agent.discount={x}")] for x in ("9e-1", "0.9")]
    assert names[0] == names[1]

  def test_fields_are_set_together(self):
    """One after the other, 32 minibatches of 16 environments would be refused."""
    runs = runs_of("--set", "agent.num_minibatches=32", "--set", "environment.num_environments=64")
    assert {setting(run, "agent.num_minibatches") for run in runs} == {32}

  def test_a_tuple_is_written_with_spaces(self):
    field = "agent.backbone.stem_channels"
    runs = runs_of("--set", f"{field}=8 16,16 32")
    assert {tuple(setting(run, field)) for run in runs} == {(8, 16), (16, 32)}
    assert all(re.fullmatch(r"[A-Za-z0-9._+=-]+", run.name) for run in runs)

  def test_backbones_have_names(self):
    kinds = {
      setting(run, "agent.backbone.kind") for run in runs_of("--set", "agent.backbone=impala")
    }
    assert len(kinds) == 1
    assert "Impala" in kinds.pop()

  def test_without_axes_nothing_changes(self):
    study = small_study()
    assert vary(study, [], override=None) is study

  @pytest.mark.parametrize("text", ["", "agent.hidden", "agent.hidden=", "=3", "a=1,", "a=1 --b 2"])
  def test_what_is_no_axis_is_refused(self, text):
    with pytest.raises(UsageError, match="FIELD=VALUE"):
      parse_axis(text)

  def test_an_axis_is_parsed(self):
    assert parse_axis("--a.b= 1, 2 3") == Axis("a.b", ("1", "2 3"))


class TestFilters:
  @pytest.mark.parametrize(
    ("text", "count"),
    [
      ("game=leaper", 8),
      ("game=leaper|maze", 16),
      ("game=leaper,seed=0", 4),
      ("game!=leaper,seed=0,agent=b", 2),
      ("levels=*-all", 8),
      ("agent=*", 16),
      ("environment.num_environments=16", 16),
      ("agent.hidden!=32|64,seed=7|0", 0),
    ],
  )
  def test_all_conditions_hold(self, text, count):
    runs = small_study().runs()
    conditions = parse_conditions(text)
    if count == 0:
      with pytest.raises(UsageError, match="no run is left"):
        filter_runs(runs, conditions)
      return
    kept = filter_runs(runs, conditions)
    assert len(kept) == count
    assert list(kept) == [run for run in runs if run in kept]

  def test_without_conditions_all_runs_stay(self):
    runs = small_study().runs()
    assert filter_runs(runs, []) == runs

  def test_conditions_are_parsed(self):
    assert parse_conditions("a=1|2, b!=3") == [
      Condition("a", ("1", "2"), False),
      Condition("b", ("3",), True),
    ]

  @pytest.mark.parametrize("text", ["", "game", "=x", "game=", "game=a||b", "game=a,,seed=0"])
  def test_what_is_no_filter_is_refused(self, text):
    with pytest.raises(UsageError, match="KEY=VALUE"):
      parse_conditions(text)

  def test_an_unknown_key_is_answered_with_the_nearest(self):
    with pytest.raises(UsageError, match="'levels'"):
      filter_runs(small_study().runs(), parse_conditions("level=easy-200"))

  def test_a_value_that_is_nowhere_is_answered_with_those_that_are(self):
    with pytest.raises(UsageError, match="leaper, maze"):
      filter_runs(small_study().runs(), parse_conditions("game=mase"))

  def test_named_subsets_are_filters(self):
    games = ("maze", "starpilot", "leaper")
    runs = small_study(games=games).runs()
    for name in SUBSETS:
      assert subset_conditions(name)
    kept = filter_runs(runs, subset_conditions("memory"))
    assert {run.config.environment.game for run in kept} == {"maze"}
    kept = filter_runs(runs, subset_conditions("few-levels"))
    assert {run.config.environment.levels for run in kept} == {"easy-200"}


class TestCommandLine:
  @pytest.fixture(autouse=True)
  def _elsewhere(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

  def test_the_plan_lists_the_runs_and_starts_nothing(self, tmp_path, capsys):
    arguments = ["--preset", "smoke", "--set", "agent.hidden=16,32", "--agents", "ppo"]
    assert run_command(["sweep", *arguments, "--filter", "levels=easy-all", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "hidden=16" in said
    assert "2 runs in" in said
    assert list(tmp_path.iterdir()) == []

  @pytest.mark.parametrize(
    ("arguments", "said"),
    [
      (["--engine", "slrum"], "'slurm'"),
      (["--address", "a:1"], "--address is for --engine ray"),
      (["--engine", "ray", "--sbatch=--x"], "--sbatch is for --engine slurm"),
      (["--cpus", "2"], "--cpus is for --engine ray or slurm"),
      (["--engine", "ray", "--cpus", "0"], "at least 1"),
      (["--engine", "ray", "--gpus", "-1"], "at least 0"),
      (["--engine", "ray", "--processes", "0"], "--processes must be at least 1"),
      (["--set", "agent.hiden=3"], "'--agent.hidden'"),
      (["--set", "agent.hidden=x"], "must be an integer"),
      (["--set", "agent.hidden=3,3"], "more than once"),
      (["--set", "agent.hidden=3", "--set", "agent.hidden=4"], "join values by commas"),
      (["--set", "environment.game=maze"], "--games"),
      (["--set", "agent.backbone=resnet"], "backbone 'resnet'"),
      (["--set", "agent.hidden"], "FIELD=VALUE"),
      (["--filter", "game:maze"], "KEY=VALUE"),
      (["--filter", "game=mase"], "game is one of coinrun"),
      (["--subset", "memry"], "'memory'"),
      (["--preset", "smok"], "'smoke'"),
    ],
  )
  def test_a_mistake_is_one_line_and_exit_code_2(self, arguments, said, capsys):
    code = guarded(run_command, ["sweep", "--plan", "--agents", "ppo", *arguments])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert captured.out == ""

  def test_where_there_is_no_slurm_it_is_told(self, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    arguments = ["sweep", "--preset", "smoke", "--agents", "ppo", "--engine", "slurm"]
    assert guarded(run_command, arguments) == 2
    assert "there is no sbatch here" in capsys.readouterr().err

  def test_where_there_is_no_ray_it_is_told(self, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)  # an import of it fails
    arguments = ["sweep", "--preset", "smoke", "--agents", "ppo", "--engine", "ray"]
    assert guarded(run_command, arguments) == 2
    assert "procplan[sweep]" in capsys.readouterr().err


# Programs of Slurm, as far as the script uses them. The run does what the file `behaviour` says.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
echo "$@" >> "$STAND_IN/commands"
while [[ $1 != --out ]]; do shift; done
eval "$(cat "$STAND_IN/behaviour")"
"""
SCONTROL = '#!/bin/sh\necho "$@" >> "$STAND_IN/requeued"\n'
SBATCH = '#!/bin/sh\necho "$@" >> "$STAND_IN/submitted"\necho "42;cluster"\n'
SQUEUE = '#!/bin/sh\ncat "$STAND_IN/queue"\n'


@pytest.fixture
def slurm(tmp_path, monkeypatch):
  """A folder with stand-ins of Slurm's programs in the search path."""
  folder = tmp_path / "slurm"
  folder.mkdir()
  for name, text in (
    ("srun", SRUN), ("scontrol", SCONTROL), ("sbatch", SBATCH), ("squeue", SQUEUE)
  ):  # fmt: skip
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
  (folder / "queue").write_text("")
  monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
  monkeypatch.setenv("STAND_IN", str(folder))
  return folder


def tasks_in(directory):
  runs = runs_of("--seeds", "0", "1", "--levels", "easy-200")
  return [make_task(run, directory / run.name, cache=directory / "cache") for run in runs]


class TestSlurm:
  def test_the_header_asks_for_what_a_run_needs(self, tmp_path):
    resources = SlurmResources(cpus=3, gpus=2, processes=5, options=("--partition=long",))
    script = make_script(tasks_in(tmp_path), tmp_path, resources)
    header = re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE)
    for option in (
      "--array=0-1%5",
      "--cpus-per-task=3",
      "--gres=gpu:2",
      "--requeue",
      f"--signal=TERM@{SECONDS_TO_SAVE}",
      "--partition=long",
    ):
      assert option in header
    # sbatch reads options up to the first line that is no comment.
    assert script.index("#SBATCH --partition") < re.search(r"^[^#\n]", script, re.MULTILINE).start()

  def test_without_gpus_and_limit_none_is_asked_for(self, tmp_path):
    resources = SlurmResources(cpus=1, gpus=0, processes=None)
    script = make_script(tasks_in(tmp_path), tmp_path, resources)
    assert "gres" not in script
    assert "--array=0-1\n" in script

  @pytest.mark.parametrize("name", ["plain", "with space", "qu'ote$x"])
  def test_an_element_trains_its_own_run(self, tmp_path, slurm, name):
    directory = tmp_path / name
    tasks = tasks_in(directory)
    (slurm / "behaviour").write_text('touch "$2/result.json"')
    for number, task in enumerate(tasks):
      done = self.element(directory, tasks, number=number)
      assert (done.returncode, done.stderr) == (0, "")
      assert (task.log.parent / "result.json").exists()
      assert (task.log.parent / "config.yaml").exists()
    commands = (slurm / "commands").read_text().splitlines()
    assert commands == [" ".join(task.command) for task in tasks]

  @pytest.mark.parametrize(
    ("behaviour", "code", "requeued"),
    [
      ("exit 75", 0, 1),  # stopped by SIGTERM, saved
      ("exit 137", 0, 1),  # killed
      ("exit 1", 1, 0),
      ("exit 2", 2, 0),
      ('touch "$2/result.json"; exit 137', 0, 0),  # killed after its last word
    ],
  )
  def test_what_was_interrupted_is_queued_again(self, tmp_path, slurm, behaviour, code, requeued):
    (slurm / "behaviour").write_text(behaviour)
    done = self.element(tmp_path, tasks_in(tmp_path))
    assert done.returncode == code
    calls = (slurm / "requeued").read_text() if (slurm / "requeued").exists() else ""
    assert calls == "requeue 7\n" * requeued

  def test_without_progress_it_is_given_up(self, tmp_path, slurm):
    tasks = tasks_in(tmp_path)
    manifests = tasks[0].log.parent / "checkpoints" / "manifests"
    (slurm / "behaviour").write_text("exit 137")
    codes = [self.element(tmp_path, tasks).returncode for _ in range(MAX_RETRIES)]
    manifests.mkdir(parents=True)
    (manifests / "512.json").touch()  # progress: the count begins anew
    codes += [self.element(tmp_path, tasks).returncode for _ in range(MAX_RETRIES)]
    (manifests / "1024.json").touch()
    codes += [self.element(tmp_path, tasks).returncode for _ in range(MAX_RETRIES + 1)]
    assert codes == [0] * (3 * MAX_RETRIES) + [137]
    assert "given up" in tasks[0].log.read_text()

  def test_the_command_submits_what_is_not_finished(self, tmp_path, slurm, capsys):
    directory = tmp_path / "study"
    arguments = ["sweep", "--preset", "smoke", "--agents", "ppo", "--engine", "slurm"]
    arguments += ["--seeds", "0", "1", "--levels", "easy-200", "--out", str(directory)]
    first, second = runs_of("--seeds", "0", "1", "--levels", "easy-200")
    for run in (first, second):
      (directory / run.name).mkdir(parents=True)
    given_up = directory / second.name / REQUEUES
    given_up.write_text("none\n" * (MAX_RETRIES + 1))
    (directory / first.name / "result.json").write_text("{}")
    assert run_command(arguments) == 0
    assert not given_up.exists()  # or its first preemption would be its last
    assert "submitted 1 of 2 runs as the elements of Slurm job 42" in capsys.readouterr().out
    script = directory / "slurm" / "sweep.sbatch"
    assert (slurm / "submitted").read_text() == f"--parsable {script}\n"
    assert second.name in script.read_text()
    assert f"  {first.name}" not in script.read_text()
    assert set(read_run_list(directory)) == {first.name, second.name}
    # While elements are in the queue, no second array is made of them.
    (slurm / "queue").write_text("41 41_0\n42 42_1\n")
    assert queued(directory) == ["42_1"]
    assert guarded(run_command, arguments) == 2
    assert "42_1" in capsys.readouterr().err
    (slurm / "queue").write_text("41 41_0\n")
    (directory / second.name / "result.json").write_text("{}")
    assert run_command(arguments) == 0
    assert "all 2 runs" in capsys.readouterr().out

  def element(self, directory: Path, tasks, *, number: int = 0):
    """Carries out one element as Slurm would."""
    script = write_script(tasks, directory, SlurmResources(cpus=2, gpus=0, processes=None))
    variables = {
      "SLURM_ARRAY_TASK_ID": str(number),
      "SLURM_ARRAY_JOB_ID": "6",
      "SLURM_JOB_ID": "7",
      "SLURM_CPUS_PER_TASK": "2",
    }
    return subprocess.run(
      ["bash", str(script)], env=os.environ | variables, capture_output=True, text=True, timeout=60
    )


def test_what_a_study_sets_against_one_another_is_multiplied_too():
  contrast = Contrast("all", "change", before="a", after="b", note="")
  gone = Contrast("all", "other", before="a", after="c", note="")
  study = small_study(contrasts=(contrast, gone), figures={"both": ("a", "b", "c")})
  varied = vary(
    study,
    [Axis("agent.hidden", ("8", "16"))],
    override=lambda label, config, pairs: override_fields(config, pairs, parser=make_parser()),
  )
  pairs = [(each.before, each.after) for each in varied.contrasts]
  assert pairs == [("a+hidden=8", "b+hidden=8"), ("a+hidden=16", "b+hidden=16")]
  assert set(varied.figures["both"]) == set(varied.agents)


LADDER = ["sweep", "--study", "dqn-ladder", "--preset", "smoke", "--plan"]


@pytest.mark.parametrize(
  ("axes", "field"),
  [
    (["agent.sequences.batch_size=32,64"], "agent.sequences.batch_size"),
    (["agent.discount=0.9", "agent.target_interval=100"], "agent.target_interval"),
    (["agent.backbone=laptop,impala"], "agent.backbone.kind"),
  ],
)
def test_a_field_that_agents_are_compared_for_is_left_to_the_study(axes, field, capsys):
  axes = [part for axis in axes for part in ("--set", axis)]
  assert guarded(run_command, [*LADDER, *axes]) == 2
  said = capsys.readouterr()
  assert said.err.startswith(f"error: {field} belongs to the change ")
  assert (said.err.count("\n"), said.out) == (1, "")


@pytest.mark.parametrize(
  "arguments",
  [
    [*LADDER, "--set", "agent.discount=0.9,0.99"],
    [*LADDER, "--set", "agent.sequences.batch_size=32,64", "--agents", "dqn", "dqn+network"],
    ["sweep", "--preset", "smoke", "--set", "agent.discount=0.9,0.99", "--plan"],
  ],
  ids=["equal in all", "the rungs are not there", "no contrast"],
)
def test_other_fields_and_agents_are_free(arguments, capsys):
  assert run_command(arguments) == 0
  assert "environment steps" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_where_nothing_can_be_written_it_is_one_line(tmp_path, capsys, engine, slurm):
  """A directory stands where a file of the study has to be made."""
  (tmp_path / "study").mkdir()
  arguments = ["sweep", "--preset", "smoke", "--agents", "ppo", "--engine", engine, "--out"]
  (tmp_path / "study" / "runs.json").mkdir()
  for directory in ("/dev/full/study", str(tmp_path / "study")):
    assert guarded(run_command, [*arguments, directory]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --out {directory}: ")
    assert error.count("\n") == 1
  assert not (slurm / "submitted").exists()
