"""Comparisons: the grid, the command line, and whole comparisons with short scripts as runs."""

import dataclasses
import fcntl
import itertools
import os
from pathlib import Path
import signal
import sys
import threading
import time

import pytest

from experiments import comparison
from experiments.command_line import run_command
from experiments.compare import make_local_engine
from experiments.comparison import compare
from experiments.config import load_config
from experiments.errors import UsageError
from experiments.options import guarded
from experiments.presets import PRESETS, make_preset
from experiments.registry import AGENTS
from experiments.run_lock import is_locked
from experiments.run_plan import spec_of
from experiments.run_task import make_task
from experiments.studies.comparison import COMPARISONS
from experiments.studies.registry import DEFAULT, make_named_study
from experiments.studies.study import Study, select
from replay.interface import Rollouts


def small_study(**changes):
  grid = {
    "agents": {"a": make_preset("smoke", "ppo"), "b": make_preset("smoke", "ppo")},
    "games": ("leaper", "catch"),
    "levels": ("easy-200", "easy-10@50"),
    "seeds": (0, 7),
  }
  return Study(**{**grid, **changes})


def groups_rollouts(config):
  """Whether a checkpoint could hold a part of what the agent learns from at once."""
  sources = [phase.source for phase in config.agent.workload(spec_of(config)).phases]
  return any(isinstance(each, Rollouts) and each.count > 1 for each in sources)


class TestGrid:
  def test_every_point_is_one_run(self):
    study = small_study()
    runs = study.runs()
    points = [
      (run.agent, run.config.environment.game, run.config.environment.levels, run.config.seed)
      for run in runs
    ]
    expected = itertools.product(("a", "b"), study.games, study.levels, study.seeds)
    assert sorted(points) == sorted(expected)
    assert len({run.name for run in runs}) == len(runs)
    assert all(Path(run.name).name == run.name and " " not in run.name for run in runs)

  def test_the_first_seed_comes_before_the_second(self):
    seeds = [run.config.seed for run in small_study().runs()]
    assert seeds == sorted(seeds)

  def test_only_game_levels_and_seed_are_replaced(self):
    study = small_study()
    for run in study.runs():
      config = run.config
      environment = dataclasses.replace(
        config.environment,
        game=study.agents[run.agent].environment.game,
        levels=study.agents[run.agent].environment.levels,
      )
      back = dataclasses.replace(config, environment=environment, seed=study.agents[run.agent].seed)
      assert back == study.agents[run.agent]

  @pytest.mark.parametrize(
    ("axis", "value"), [("games", ()), ("seeds", (1, 1)), ("levels", ("easy-all",) * 2)]
  )
  def test_an_axis_is_not_empty_and_has_no_repeats(self, axis, value):
    with pytest.raises(ValueError, match=axis):
      small_study(**{axis: value})

  def test_select_replaces_axes(self):
    study = select(small_study(), agents=["b"], seeds=[3])
    assert list(study.agents) == ["b"]
    assert study.seeds == (3,)
    assert study.games == small_study().games

  def test_select_refuses_an_agent_that_is_not_there(self):
    with pytest.raises(UsageError, match="'c'"):
      select(small_study(), agents=["c"])


class TestPresets:
  def test_the_smoke_comparison_has_every_agent(self):
    assert set(make_named_study(DEFAULT, "smoke").agents) == set(AGENTS)

  @pytest.mark.parametrize("preset", COMPARISONS)
  def test_a_preset_compares_level_distributions(self, preset):
    study = COMPARISONS[preset]()
    assert set(study.agents) <= set(PRESETS[preset])
    assert len(study.levels) >= 2
    assert len(study.runs()) == len(study.agents) * len(study.games) * len(study.levels) * len(
      study.seeds
    )

  @pytest.mark.parametrize("preset", COMPARISONS)
  def test_a_preset_says_source_command_cost_and_expectation(self, preset):
    text = COMPARISONS[preset].__doc__
    for part in ("Source: ", "Command: procplan compare --preset " + preset, "Cost: ", "Expected"):
      assert part in text, part

  @pytest.mark.parametrize("preset", COMPARISONS)
  def test_all_agents_are_on_one_protocol(self, preset):
    """Checkpoints included, but those of an agent with groups of rollouts fall between these."""
    configs = COMPARISONS[preset]().agents.values()
    trained = {dataclasses.replace(config.training, checkpoint_every=1) for config in configs}
    assert len(trained) == len({config.evaluation for config in configs}) == 1
    together = {each.training.checkpoint_every for each in configs if not groups_rollouts(each)}
    assert len(together) == 1


class TestCommandLine:
  @pytest.fixture(autouse=True)
  def _elsewhere(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

  def test_plan_tells_runs_and_steps_and_starts_nothing(self, tmp_path, capsys):
    arguments = ["--preset", "smoke", "--seeds", "0", "1", "--plan", "--out", str(tmp_path / "c")]
    assert run_command(["compare", *arguments]) == 0
    said = capsys.readouterr().out
    study = select(make_named_study(DEFAULT, "smoke"), seeds=[0, 1])
    for run in study.runs():
      assert run.name in said
    total = sum(run.config.training.total_environment_steps for run in study.runs())
    assert f"{total:,} environment steps" in said
    assert not (tmp_path / "c").exists()

  def test_fields_apply_to_every_run(self, capsys):
    field = ["--training.total_environment_steps", "2000"]
    assert run_command(["compare", "--preset", "smoke", "--plan", *field]) == 0
    count = len(make_named_study(DEFAULT, "smoke").runs())
    assert f"{2000 * count:,} environment steps" in capsys.readouterr().out

  @pytest.mark.parametrize(
    ("arguments", "said"),
    [
      (["--preset", "smok"], "'smoke'"),
      (["--agents", "pop"], "'ppo'"),
      (["--games", "starpilto"], "'starpilot'"),
      (["--levels", "esy-200"], "'easy-200'"),
      (["--seeds", "one"], "'one'"),
      (["--seeds", "-1"], "-1"),
      (["--seeds", "1", "1"], "more than once"),
      (["--processes", "0"], "--processes"),
      (["--seed", "3"], "--seeds"),
      (["--environment.game", "maze"], "--games"),
      (["--environment.levels=easy-all"], "--levels"),
      (["--training.total_steps", "5"], "--training.total_environment_steps"),
      (["--procesess", "2"], "'--processes'"),
    ],
  )
  def test_a_mistake_is_one_line_and_exit_code_2(self, arguments, said, capsys):
    code = guarded(run_command, ["compare", "--plan", *arguments])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert captured.out == ""

  def test_a_directory_with_other_runs_is_refused(self, tmp_path, capsys):
    study = make_named_study(DEFAULT, "smoke")
    run = study.runs()[0]
    make_task(run, tmp_path / "c" / run.name, cache=tmp_path).prepare()
    arguments = ["compare", "--preset", "smoke", "--out", "c", "--evaluation.every", "77"]
    assert guarded(run_command, arguments) == 2
    assert "evaluation.every" in capsys.readouterr().err
    assert guarded(run_command, [*arguments, "--plan"]) == 2


# In place of training: a run that writes what a run writes, and does what its seed says.
STAND_IN = """
import json, os, pathlib, signal, sys, time
directory, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
evaluation = {"kind": "evaluation", "split": "test", "environment_steps": 0, "episode_return": 1.5}
with (directory / "metrics.jsonl").open("a") as file:
  file.write(json.dumps(evaluation) + "\\n")
with (directory / "starts").open("a") as file:
  file.write("x")
starts = len((directory / "starts").read_text())
if seed == 1 and starts == 1:
  os.kill(os.getpid(), signal.SIGKILL)
if seed == 2:
  sys.exit("loss is not finite")
if seed == 3 and starts == 1:
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
  signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
  (directory / "ready").touch()
  while True:
    time.sleep(0.01)
if seed == 6:
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  (directory / "ready").touch()
  while True:
    time.sleep(0.01)
if seed == 7:
  signal.signal(signal.SIGINT, lambda *_: (directory / "interrupted").touch())
  (directory / "ready").touch()
  while True:
    time.sleep(0.01)
(directory / "status.json").write_text(json.dumps({"environment_steps": 10, "seconds": 1.0}))
(directory / "result.json").write_text("{}")
"""


@pytest.fixture
def stand_in(monkeypatch):
  """Comparisons start the stand-in, and a report that is written at once."""

  def make(run, directory, *, cache):
    task = make_task(run, directory, cache=cache)
    own = str(directory.absolute())
    command = (sys.executable, "-S", "-E", "-c", STAND_IN, own, str(run.config.seed))
    return dataclasses.replace(task, command=command)

  monkeypatch.setattr(comparison, "make_task", make)
  monkeypatch.setattr("experiments.live_report.WRITE", "import sys; open(sys.argv[1], 'w')")


def runs_of_seeds(*seeds):
  study = select(
    make_named_study(DEFAULT, "smoke"), agents=["ppo"], levels=["easy-200"], seeds=seeds
  )
  return study.runs()


def compare_locally(runs, directory, *, processes):
  return compare(runs, directory, engine=make_local_engine(processes))


def send_when_ready(ready, number):
  """Sends this process a signal, from a thread, when the file `ready` is there."""

  def send():
    while not ready.exists():
      time.sleep(0.01)
    os.kill(os.getpid(), number)

  thread = threading.Thread(target=send)
  thread.start()
  return thread


def starts_of(directory, run):
  path = directory / run.name / "starts"
  return len(path.read_text()) if path.exists() else 0


@pytest.mark.usefixtures("stand_in")
class TestComparison:
  def test_runs_finish_and_the_same_command_does_nothing(self, tmp_path, capsys):
    runs = runs_of_seeds(0, 4, 5)
    assert compare_locally(runs, tmp_path / "c", processes=2) == 0
    assert [starts_of(tmp_path / "c", run) for run in runs] == [1, 1, 1]
    assert (tmp_path / "c" / "report.html").exists()
    assert load_config(tmp_path / "c" / runs[0].name / "config.yaml") == runs[0].config
    said = capsys.readouterr().out
    assert f"{runs[0].name}  finished" in said
    assert "test 1.50" in said
    assert compare_locally(runs, tmp_path / "c", processes=2) == 0
    assert [starts_of(tmp_path / "c", run) for run in runs] == [1, 1, 1]
    assert "was finished already" in capsys.readouterr().out

  def test_finished_runs_are_extended_to_more_environment_steps(self, tmp_path, capsys):
    runs = runs_of_seeds(0, 4)
    assert compare_locally(runs, tmp_path, processes=1) == 0
    total = runs[0].config.training.total_environment_steps
    longer = [
      dataclasses.replace(
        run,
        config=dataclasses.replace(
          run.config,
          training=dataclasses.replace(run.config.training, total_environment_steps=total * 2),
        ),
      )
      for run in runs
    ]
    with (tmp_path / runs[1].name / "run.lock").open("w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      with pytest.raises(UsageError, match="another process is running in"):
        compare_locally(longer, tmp_path, processes=1)
    assert load_config(tmp_path / runs[0].name / "config.yaml") == runs[0].config  # all or none
    assert (tmp_path / runs[0].name / "result.json").exists()
    capsys.readouterr()
    assert compare_locally(longer, tmp_path, processes=1) == 0
    assert [starts_of(tmp_path, run) for run in runs] == [2, 2]
    assert load_config(tmp_path / runs[1].name / "config.yaml") == longer[1].config
    assert f"from {total:,} to {2 * total:,} environment steps" in capsys.readouterr().out
    assert len(list((tmp_path / runs[0].name).glob("result*.json"))) == 2
    with pytest.raises(UsageError, match="more environment steps extend a run"):
      compare_locally(runs, tmp_path, processes=1)

  def test_a_killed_run_is_started_again(self, tmp_path, capsys):
    runs = runs_of_seeds(0, 1)
    assert compare_locally(runs, tmp_path, processes=1) == 0
    assert [starts_of(tmp_path, run) for run in runs] == [1, 2]
    assert "SIGKILL" in capsys.readouterr().out

  def test_a_failed_run_is_told_and_tried_again_by_the_same_command(self, tmp_path, capsys):
    runs = runs_of_seeds(2, 0)
    assert compare_locally(runs, tmp_path, processes=1) == 1
    assert [starts_of(tmp_path, run) for run in runs] == [1, 1]
    said = capsys.readouterr().out
    assert "loss is not finite" in said
    assert "1 of 2 runs failed" in said
    assert compare_locally(runs, tmp_path, processes=1) == 1
    assert [starts_of(tmp_path, run) for run in runs] == [2, 1]

  @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
  def test_a_signal_reaches_the_runs_and_the_same_command_goes_on(
    self, tmp_path, capsys, number, code
  ):
    runs = runs_of_seeds(3, 0)
    thread = send_when_ready(tmp_path / runs[0].name / "ready", number)
    assert compare_locally(runs, tmp_path, processes=1) == code
    thread.join()
    assert [starts_of(tmp_path, run) for run in runs] == [1, 0]
    assert "the same command continues" in capsys.readouterr().out
    assert compare_locally(runs, tmp_path, processes=1) == 0
    assert [starts_of(tmp_path, run) for run in runs] == [2, 1]

  def test_what_does_not_stop_is_killed_after_the_grace_period(self, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "GRACE_SECONDS", 0.1)
    (run,) = runs_of_seeds(6)
    thread = send_when_ready(tmp_path / run.name / "ready", signal.SIGTERM)
    assert compare_locally([run], tmp_path, processes=1) == 75
    thread.join()
    said = capsys.readouterr().out
    assert "not stopped within" in said
    assert "interrupted: killed by SIGKILL" in said

  def test_a_second_ctrl_c_kills_what_has_not_stopped(self, tmp_path, capsys):
    (run,) = runs_of_seeds(7)
    threads = [
      send_when_ready(tmp_path / run.name / name, signal.SIGINT)
      for name in ("ready", "interrupted")
    ]
    assert compare_locally([run], tmp_path, processes=1) == 130
    for thread in threads:
      thread.join()
    said = capsys.readouterr().out
    assert "a second Ctrl-C kills them" in said
    assert "SIGINT again: killed; what was saved stays" in said
    assert "interrupted: killed by SIGKILL" in said

  def test_a_report_that_fails_stops_no_run(self, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.live_report.WRITE", "raise SystemExit('no such figure')")
    runs = runs_of_seeds(0)
    assert compare_locally(runs, tmp_path, processes=1) == 0
    assert "no such figure" in capsys.readouterr().out

  def test_two_comparisons_in_one_directory_are_refused(self, tmp_path):
    runs = runs_of_seeds(0)
    with (
      comparison.claimed(runs, tmp_path),
      pytest.raises(UsageError, match="another comparison or sweep"),
    ):
      compare_locally(runs, tmp_path, processes=1)

  def test_a_run_that_another_process_is_at_is_waited_for(self, tmp_path, capsys, monkeypatch):
    (run,) = runs_of_seeds(0)
    path = tmp_path / run.name / "run.lock"
    path.parent.mkdir()
    asked = []

    def ask(asked_path):
      asked.append(asked_path)
      assert starts_of(tmp_path, run) == 0
      if len(asked) == 3:
        lock.close()
      return is_locked(asked_path)

    monkeypatch.setattr("experiments.run_task.is_locked", ask)
    with path.open("w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      assert compare_locally([run], tmp_path, processes=1) == 0
    assert asked == [path] * 3
    assert starts_of(tmp_path, run) == 1
    assert "another process" in capsys.readouterr().out
