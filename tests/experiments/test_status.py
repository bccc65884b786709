"""How runs stand, from directories in every state that a run can leave behind."""

import fcntl
import json

import pytest

from experiments.command_line import run_command
from experiments.options import guarded
from experiments.run_list import read_run_list, write_run_list
from experiments.standing import (
  DAMAGED,
  FAILED,
  FINISHED,
  INTERRUPTED,
  RUNNING,
  STOPPED,
  WAITING,
  find_runs,
  read_standing,
)
from experiments.studies.registry import DEFAULT, make_named_study
from experiments.studies.study import select


def leave(directory, *, status=None, log=None, result=False, locked=False):
  """Makes a run directory in some state; returns the open lock, if any."""
  directory.mkdir(parents=True)
  (directory / "config.yaml").write_text("seed: 0\n")
  if status is not None:
    (directory / "run.lock").touch()
    (directory / "status.json").write_text(json.dumps(status))
  if log is not None:
    (directory / "log.txt").write_text(log)
  if result:
    (directory / "result.json").write_text("{}")
  if not locked:
    return None
  lock = (directory / "run.lock").open("w")
  fcntl.flock(lock, fcntl.LOCK_EX)
  return lock


def status(state, steps=500, **more):
  return {"state": state, "environment_steps": steps, "total_environment_steps": 1000, **more}


@pytest.fixture
def study(tmp_path):
  """One run in each state; the one that goes on is locked as long as the test runs."""
  leave(tmp_path / "failed", status=status("failed", error="no disk"), log="a\nb\nwhy it failed\n")
  leave(tmp_path / "killed", status=status("running"), log="last words\n")
  leave(tmp_path / "refused", log="error: no such field\n")
  leave(tmp_path / "interrupted", status=status("interrupted"))
  leave(tmp_path / "waiting")
  leave(tmp_path / "finished", status=status("finished", 1000, seconds=100.0), result=True)
  speed = {"steps_per_second": 12.0, "seconds": 50.0, "seconds_left": 40.0}
  lock = leave(tmp_path / "running", status=status("running", **speed), locked=True)
  yield tmp_path
  lock.close()


def state_of(directory):
  return read_standing("x", directory, {}).state


def test_states(study):
  expected = {
    "failed": FAILED,
    "killed": STOPPED,  # it says running, but no process holds its lock
    "refused": STOPPED,
    "interrupted": INTERRUPTED,
    "waiting": WAITING,
    "finished": FINISHED,
    "running": RUNNING,
  }
  assert {name: state_of(study / name) for name in expected} == expected
  assert state_of(study / "not there") == WAITING


def test_a_run_that_starts_and_has_said_nothing_is_running(tmp_path):
  lock = leave(tmp_path / "run", locked=True)
  assert state_of(tmp_path / "run") == RUNNING
  lock.close()
  assert state_of(tmp_path / "run") == STOPPED


def test_another_who_asks_is_not_taken_for_a_run(tmp_path, monkeypatch):
  """Two look at the same moment; and NFS refuses exclusive locks on what is open for reading."""
  leave(tmp_path / "run", status=status("interrupted"))
  asked, held = [], []

  def flock(lock, operation, *, own=fcntl.flock):
    asked.append(operation)
    own(lock, operation)
    if len(asked) == 1:  # the first still asks when the second comes
      held.append(state_of(tmp_path / "run"))

  monkeypatch.setattr(fcntl, "flock", flock)
  assert state_of(tmp_path / "run") == INTERRUPTED
  assert held == [INTERRUPTED]
  assert not any(operation & fcntl.LOCK_EX for operation in asked)


def test_the_list_names_runs_that_have_not_begun(tmp_path):
  runs = select(make_named_study(DEFAULT, "smoke"), agents=["ppo"]).runs()
  write_run_list(runs, tmp_path)
  leave(tmp_path / "another", status=status("interrupted"))
  found = find_runs(tmp_path)
  assert list(found) == [*(run.name for run in runs), "another"]
  name, (directory, listed) = next(iter(found.items()))
  standing = read_standing(name, directory, listed)
  assert standing.state == WAITING
  total = runs[0].config.training.total_environment_steps
  assert standing.progress.total_environment_steps == total


def test_a_single_run_is_a_study_of_one(tmp_path):
  leave(tmp_path / "run", status=status("interrupted"))
  assert list(find_runs(tmp_path / "run")) == ["run"]


def test_the_command_says_it_at_a_glance(study, capsys):
  assert run_command(["status", str(study)]) == 0
  said = capsys.readouterr().out
  words = "7 runs: 1 failed, 2 stopped, 1 running, 1 interrupted, 1 waiting, 1 finished"
  assert words in said
  assert "3,000 of 5,000 environment steps, 12 steps/s" in said
  # 1,500 steps in 150 s of known runs; one at a time: 40 s, then 50 s for each of interrupted
  # and killed; what waits and what was refused do not say how long they are.
  assert "time left: about 2 min, 1 runs at a time" in said
  lines = [line.split()[0] for line in said.splitlines() if line]
  assert lines.index("failed") < lines.index("running") < lines.index("finished")
  assert "why it failed" in said
  assert "last words" in said
  assert "error: no such field" in said


def test_the_end_of_the_log_is_as_long_as_asked_for(study, capsys):
  assert run_command(["status", str(study), "--log", "1"]) == 0
  said = capsys.readouterr().out
  assert "why it failed" in said
  assert "  b\n" not in said


def test_json_has_everything(study, capsys):
  assert run_command(["status", str(study), "--json"]) == 0
  rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
  assert rows["failed"]["detail"] == "no disk"
  assert rows["running"]["steps_per_second"] == 12.0
  assert len(rows) == 7


@pytest.mark.parametrize(
  ("content", "said"),
  [(None, "there is no run in"), ("{", "no list of runs"), ('{"runs": 3}', "no list of runs")],
)
def test_what_is_no_study_is_refused(tmp_path, capsys, content, said):
  if content is not None:
    (tmp_path / "runs.json").write_text(content)
  assert guarded(run_command, ["status", str(tmp_path)]) == 2
  error = capsys.readouterr().err
  assert said in error
  assert error.count("\n") == 1


@pytest.mark.parametrize(
  ("content", "said"),
  [
    ({"runs": {"a": 5}}, "runs.a must be an object, got 5"),
    ({"runs": {"a": None}}, "runs.a must be an object, got None"),
    ({"runs": [["a", "b"]]}, "runs must be an object of runs by name, got [['a', 'b']]"),
    ({"runs": None}, "runs must be an object of runs by name, got None"),
    ([], "must be an object with a field runs, got []"),
    ({}, "must be an object with a field runs, got {}"),
    ({"runs": {"": {}}}, "printable characters, got ''"),
    ({"runs": {"a\0": {}}}, "printable characters, got 'a\\x00'"),
    *(
      (
        {"runs": {"a": {}, "b": {"total_environment_steps": value}}},
        f"runs.b.total_environment_steps must be a whole number from 0 to {2**63 - 1}, got {said}",
      )
      for value, said in [
        ("x", "'x'"),
        (None, "None"),
        (-1, "-1"),
        (1.5, "1.5"),
        (True, "True"),
        (float("nan"), "nan"),
        (2**63, str(2**63)),
        ("x" * 99, f"'{'x' * 59}..."),
      ]
    ),
  ],
)
def test_a_damaged_list_is_refused_in_one_line(tmp_path, capsys, content, said):
  (tmp_path / "runs.json").write_text(json.dumps(content))
  assert guarded(run_command, ["status", str(tmp_path)]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f"error: {tmp_path / 'runs.json'} is no list of runs: ")
  assert line.endswith(said)


NUMBER_FIELDS = ("steps_per_second", "seconds", "seconds_left", "episode_return")


@pytest.mark.parametrize(
  ("content", "said"),
  [
    *(
      ({field: value}, f"{field} must be a whole number from 0 to {2**63 - 1}, got {value!r}")
      for field in ("environment_steps", "total_environment_steps")
      for value in (None, "x", -1, 0.5, True, [1], 10**400)
    ),
    *(
      ({field: value}, f"{field} must be a finite number or null, got {value!r}")
      for field in NUMBER_FIELDS
      for value in ("x", {"a": 1}, False, float("inf"), 10**400)
    ),
    ({"state": 3}, "state must be a string, got 3"),
    ({"state": "failed", "error": None}, "error must be a string, got None"),
    ([1], "must be an object, got [1]"),
  ],
)
def test_a_damaged_status_is_shown_and_stops_no_other(tmp_path, capsys, content, said):
  leave(tmp_path / "bad", status=content)
  leave(tmp_path / "good", status=status("interrupted"))
  assert run_command(["status", str(tmp_path)]) == 0
  shown = capsys.readouterr().out
  assert [line.split()[:2] for line in shown.splitlines()[1:3]] == [
    ["bad", "damaged"],
    ["good", "interrupted"],
  ]
  assert "2 runs: 1 damaged, 1 interrupted" in shown
  (line,) = [line for line in shown.splitlines() if line.startswith("damaged: ")]
  assert str(tmp_path / "bad" / "status.json") in line
  assert said[:90] in line


@pytest.mark.parametrize("content", ["", "{", "\xff"])
def test_a_status_that_is_no_json_is_damaged(tmp_path, content):
  leave(tmp_path / "run", status={})
  (tmp_path / "run" / "status.json").write_bytes(content.encode("latin-1"))
  standing = read_standing("run", tmp_path / "run", {"total_environment_steps": 7})
  assert standing.state == DAMAGED
  assert f"{tmp_path / 'run' / 'status.json'} cannot be read" in standing.detail
  assert standing.progress.total_environment_steps == 7


def test_what_may_be_unknown_is_not_damaged(tmp_path):
  leave(tmp_path / "run", status=status("interrupted", **dict.fromkeys(NUMBER_FIELDS)))
  assert state_of(tmp_path / "run") == INTERRUPTED


def test_without_a_terminal_no_name_is_folded_or_taken_for_markup(tmp_path, capsys):
  names = ["muzero_starpilot_easy-200_" + "x" * 150, "[bold]"]
  for name in names:
    leave(tmp_path / name, status=status("failed"), log="why\n")
  (tmp_path / "runs.json").write_text(json.dumps({"runs": {"[/x]": {}}}))
  assert run_command(["status", str(tmp_path)]) == 0
  shown = capsys.readouterr().out
  firsts = [line.split()[:2] for line in shown.splitlines() if line]
  assert all([name, "failed"] in firsts for name in names)
  assert ["[/x]", "waiting"] in firsts
  assert f"end of {tmp_path / '[bold]' / 'log.txt'}:" in shown


def test_a_list_is_read_as_it_was_written(tmp_path):
  runs = select(make_named_study(DEFAULT, "smoke"), agents=["ppo"]).runs()
  assert read_run_list(tmp_path) == {}
  write_run_list(runs, tmp_path)
  listed = read_run_list(tmp_path)
  assert list(listed) == [run.name for run in runs]
  assert [row["levels"] for row in listed.values()] == [
    run.config.environment.levels for run in runs
  ]
