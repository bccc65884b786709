"""2N steps equal N + kill -9 + resume + N, bit for bit, on Procgen; faults lose nothing saved."""

import dataclasses
import fcntl
import itertools
import json
import os
from pathlib import Path
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from same_run import assert_same_run, read_arrays, read_rows

from environments.catch import CatchEnvironment
from environments.config import EnvironmentConfig
from experiments.config import load_config, save_config
from experiments.options import guarded
from experiments.presets import make_preset
from experiments.train import main
from networks.config import ResNetConfig
from training.config import EvaluationConfig, TrainingConfig
from training.loop import Loop
from training.turn import Turn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TURN = 16 * 8  # environment steps: a rollout of 16 in 8 environments
TURNS = 12
CHECKPOINT_TURNS = 4


def tiny(game: str):
  """A run of 12 turns with checkpoints after the turns 4, 8 and 12 and evaluations between."""
  preset = make_preset("smoke", "ppo")
  backbone = ResNetConfig(stem_kernels=(8,), stem_strides=(8,), stem_channels=(4,), blocks=0)
  agent = dataclasses.replace(
    preset.agent, backbone=backbone, hidden=8, rollout_length=16, num_minibatches=2, epochs=2
  )
  return dataclasses.replace(
    preset,
    agent=dataclasses.replace(agent, gradient_chunk=0),
    environment=EnvironmentConfig(game, "easy-200", num_environments=8),
    training=TrainingConfig(TURNS * TURN, CHECKPOINT_TURNS * TURN, keep_checkpoints=2),
    evaluation=EvaluationConfig(
      every=5 * TURN,
      num_environments=2,
      episodes_per_environment=1,
      final_episodes_per_environment=2,
    ),
  )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
  return tmp_path_factory.mktemp("runs")


def procgen_train(workplace, name: str, moment: str = "none"):
  """Runs the command in a process of its own, on one device, in the directory `name`."""
  config = workplace / "config.yaml"
  save_config(tiny("leaper"), config)
  environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
  environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
  return subprocess.run(
    [
      *(sys.executable, str(HERE / "faulty_train.py"), moment),
      *("--config", str(config), "--out", str(workplace / name)),
    ],
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
  )


def steps_of(directory: Path) -> list[int]:
  return sorted(int(path.stem) for path in (directory / "checkpoints" / "manifests").iterdir())


@pytest.fixture(scope="module")
def reference(workplace) -> Path:
  """The run on Procgen that is never disturbed."""
  done = procgen_train(workplace, "reference")
  assert done.returncode == 0, done.stderr
  return workplace / "reference"


def test_the_reference_did_something(reference):
  rows = read_rows(reference)
  training = [row for row in rows if row["kind"] == "training"]
  assert [row["environment_steps"] for row in training] == [TURN * n for n in range(1, TURNS + 1)]
  evaluations = [row["environment_steps"] for row in rows if row["kind"] == "evaluation"]
  assert evaluations == [TURN * n for n in (0, 0, 5, 5, 10, 10, 12, 12)]
  assert steps_of(reference) == [8 * TURN, 12 * TURN]
  episodes = (reference / "episodes.jsonl").read_text().splitlines()
  assert 3 <= len(episodes) == training[-1]["training/episodes"]
  assert len({row["policy/loss"] for row in training}) == TURNS
  status = json.loads((reference / "status.json").read_text())
  assert (status["state"], status["environment_steps"]) == ("finished", TURNS * TURN)


def test_killed_again_and_again_it_ends_as_if_it_never_was(reference, workplace):
  """One run, struck five times in the ways in which runs are struck."""
  directory = workplace / "struck"

  def train(moment):
    return procgen_train(workplace, "struck", moment)

  # kill -9 before the first checkpoint: it begins anew.
  assert train("SIGKILL:turn:2").returncode == -signal.SIGKILL
  assert steps_of(directory) == []
  # kill -9 in turn 7, in the middle of its rows: it continues from turn 4.
  assert train("SIGKILL:row:11").returncode == -signal.SIGKILL
  rows = read_rows(directory)
  assert rows[-1]["environment_steps"] == 6 * TURN
  assert steps_of(directory) == [4 * TURN]
  # kill -9 after the checkpoint of turn 8 has been written and before it counts.
  assert train("SIGKILL:manifest:1").returncode == -signal.SIGKILL
  assert (directory / "checkpoints" / "steps" / str(8 * TURN)).exists()
  assert steps_of(directory) == [4 * TURN]
  # SIGTERM in turn 6, counted from turn 4: saved there, exit code 75.
  done = train("SIGTERM:turn:2")
  assert done.returncode == 75, done.stderr
  assert f"{8 * TURN} was cut short" in done.stderr
  assert f"stopped at {6 * TURN} environment steps, saved" in done.stderr
  assert steps_of(directory) == [4 * TURN, 6 * TURN]
  assert json.loads((directory / "status.json").read_text())["state"] == "interrupted"
  # SIGTERM in turn 9, and the disk flips a bit in what was saved: it continues from turn 8.
  assert train("SIGTERM:turn:3").returncode == 75
  assert steps_of(directory) == [8 * TURN, 9 * TURN]
  data = directory / "checkpoints" / "steps" / str(9 * TURN) / "train_state" / "_METADATA"
  data.write_bytes(data.read_bytes().replace(b"0", b"1", 1))
  done = train("none")
  assert done.returncode == 0, done.stderr
  assert f"checkpoint {9 * TURN} is not used: file {data} is damaged" in done.stderr
  assert (directory / "checkpoints" / "set-aside" / str(9 * TURN)).exists()
  assert_same_run(directory, reference)
  starts = json.loads((directory / "run.json").read_text())["starts"]
  assert len(starts) == 6


def run_here(config, directory: Path) -> int:
  """Runs the command in this process, on two devices."""
  path = directory.parent / f"{directory.name}.yaml"
  save_config(config, path)
  return guarded(main, ["--config", str(path), "--out", str(directory)])


@pytest.fixture(scope="module")
def catch_reference(workplace) -> Path:
  """An undisturbed run on Catch, on two devices."""
  assert run_here(tiny("catch"), workplace / "catch") == 0
  return workplace / "catch"


class Killed(BaseException):
  """Stands for kill -9 inside this process: nobody catches it."""


def strike_before(monkeypatch, name: str, number: int, strike) -> None:
  """Calls `strike` before the n-th call of a method of the loop or of its turns.

  The n-th `_learn` is that of turn n: a rollout has been collected and not learnt from.
  """
  owner = Turn if name == "_learn" else Loop
  count, original = itertools.count(1), getattr(owner, name)

  def struck(*arguments):
    if next(count) == number:
      strike()
    return original(*arguments)

  monkeypatch.setattr(owner, name, struck)


def test_two_devices_resume_bit_for_bit(catch_reference, tmp_path, monkeypatch):
  def kill():
    raise Killed

  with monkeypatch.context() as context:
    strike_before(context, "_learn", 7, kill)
    with pytest.raises(Killed):
      run_here(tiny("catch"), tmp_path / "run")
  assert run_here(tiny("catch"), tmp_path / "run") == 0
  assert_same_run(tmp_path / "run", catch_reference)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_saves_and_a_second_one_does_not_wait(tmp_path, monkeypatch, capfd, times):
  def interrupt():
    for _ in range(times):
      os.kill(os.getpid(), signal.SIGINT)

  handler = signal.getsignal(signal.SIGINT)
  strike_before(monkeypatch, "_learn", 6, interrupt)
  assert run_here(tiny("catch"), tmp_path / "run") == 130
  assert signal.getsignal(signal.SIGINT) is handler
  saved = [4 * TURN, 6 * TURN] if times == 1 else [4 * TURN]
  assert steps_of(tmp_path / "run") == saved
  message = {1: "stopped at 768 environment steps, saved; the same command continues", 2: "stays"}
  assert message[times] in capfd.readouterr().err
  assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, capfd):
  """Rewards of NaN from turn 7 on; what turn 4 saved stays."""

  def spoil():
    observe = CatchEnvironment.observe
    monkeypatch.setattr(
      CatchEnvironment,
      "observe",
      lambda self: observe(self)._replace(reward=observe(self).reward * np.float32("nan")),
    )

  strike_before(monkeypatch, "_learn", 6, spoil)
  assert run_here(tiny("catch"), tmp_path / "run") == 1
  error = capfd.readouterr().err.strip().splitlines()[-1]
  assert f"at environment step {7 * TURN}: policy/" in error
  assert " is nan in update 0" in error
  assert steps_of(tmp_path / "run") == [4 * TURN]
  status = json.loads((tmp_path / "run" / "status.json").read_text())
  assert status["state"] == "failed"
  assert f"at environment step {7 * TURN}" in status["error"]


def test_a_learning_rate_that_explodes_is_told(tmp_path, capfd):
  config = tiny("catch")
  optimizer = dataclasses.replace(config.agent.optimizer, learning_rate=1e30)
  config = dataclasses.replace(config, agent=dataclasses.replace(config.agent, optimizer=optimizer))
  assert run_here(config, tmp_path / "run") == 1
  assert f"at environment step {TURN}: policy/" in capfd.readouterr().err
  assert steps_of(tmp_path / "run") == []


# Orbax's threads end with the error too, and leave files open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("place", "number"), [("_learn", 5), ("save", 2)])
def test_a_full_disk_is_told_and_loses_nothing(
  catch_reference, tmp_path, monkeypatch, capsys, place, number
):
  """No file may grow from turn 5 on, or from the second checkpoint on, that of turn 8."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

  def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))

  try:
    with monkeypatch.context() as context:
      strike_before(context, place, number, fill)
      assert run_here(tiny("catch"), tmp_path / "run") == 1
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert error.startswith(f"error: {tmp_path / 'run'}: ")
  assert "File too large" in error
  assert ("could not write the checkpoint" in error) == (place == "save")
  assert steps_of(tmp_path / "run") == [4 * TURN]
  assert run_here(tiny("catch"), tmp_path / "run") == 0
  assert_same_run(tmp_path / "run", catch_reference)


def one_line(capfd) -> str:
  """Returns the one line of an error that is the user's to mend."""
  lines = capfd.readouterr().err.strip().splitlines()
  assert len(lines) == 1, lines
  return lines[0]


def test_missing_rows_are_told(catch_reference, tmp_path, capfd):
  directory = shutil.copytree(catch_reference, tmp_path / "run")
  (directory / "result.json").unlink()
  metrics = directory / "metrics.jsonl"
  metrics.write_text("\n".join(metrics.read_text().splitlines()[:5]))
  assert run_here(tiny("catch"), directory) == 1
  assert "metrics.jsonl has" in (error := one_line(capfd))
  assert "rows are missing" in error


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl"])
def test_damaged_rows_are_told(catch_reference, tmp_path, capfd, name):
  directory = shutil.copytree(catch_reference, tmp_path / "run")
  (directory / "result.json").unlink()
  damaged = bytearray((directory / name).read_bytes())
  damaged[len(damaged) // 2] ^= 1
  (directory / name).write_bytes(bytes(damaged))
  assert run_here(tiny("catch"), directory) == 1
  assert f"{directory / name} is damaged" in one_line(capfd)
  assert (directory / name).read_bytes() == bytes(damaged)
  assert steps_of(directory) == steps_of(catch_reference)


def test_damage_to_all_checkpoints_is_told_and_nothing_is_begun_anew(
  catch_reference, tmp_path, capfd
):
  directory = shutil.copytree(catch_reference, tmp_path / "run")
  (directory / "result.json").unlink()
  before = (directory / "metrics.jsonl").read_bytes()
  for step in (directory / "checkpoints" / "steps").iterdir():
    (step / "counters" / "metadata").write_text("{}")
  assert run_here(tiny("catch"), directory) == 1
  assert "no usable checkpoint" in capfd.readouterr().err
  assert (directory / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("lost", ["checkpoints", "checkpoints/steps", "checkpoints/manifests"])
def test_checkpoints_that_are_gone_are_told_and_nothing_is_begun_anew(
  tmp_path, monkeypatch, capfd, lost
):
  """Struck right after the first: what the run says of itself must tell of it already."""

  def kill():
    raise Killed

  directory = tmp_path / "run"
  with monkeypatch.context() as context:
    strike_before(context, "_learn", 5, kill)
    with pytest.raises(Killed):
      run_here(tiny("catch"), directory)
  shutil.rmtree(directory / lost)
  before = (directory / "metrics.jsonl").read_bytes()
  capfd.readouterr()
  for _ in range(2):
    assert run_here(tiny("catch"), directory) == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert f"no usable checkpoint in {directory / 'checkpoints'} (none is left in it" in last
  assert (directory / "metrics.jsonl").read_bytes() == before


def test_a_directory_of_another_configuration_is_refused(catch_reference, capfd):
  before = sorted((path, path.stat().st_mtime_ns) for path in catch_reference.rglob("*.*"))
  config = dataclasses.replace(tiny("catch"), seed=7)
  agent = dataclasses.replace(config.agent, discount=0.5)
  config = dataclasses.replace(config, agent=agent)
  path = catch_reference.parent / "other.yaml"
  save_config(config, path)
  assert guarded(main, ["--config", str(path), "--out", str(catch_reference)]) == 2
  error = one_line(capfd)
  assert "agent.discount: 0.999, 0.5" in error
  assert "seed: 0, 7" in error
  after = sorted((path, path.stat().st_mtime_ns) for path in catch_reference.rglob("*.*"))
  changed = {path.name for path, _ in set(before) ^ set(after)}
  assert changed <= {"run.lock"}


def with_total(config, total: int, **optimizer):
  """Returns the configuration with another length, and other fields of the optimiser."""
  changed = dataclasses.replace(config.agent.optimizer, **optimizer)
  return dataclasses.replace(
    config,
    agent=dataclasses.replace(config.agent, optimizer=changed),
    training=dataclasses.replace(config.training, total_environment_steps=total),
  )


def test_a_finished_run_is_extended_as_if_it_had_been_planned_so(catch_reference, tmp_path, capfd):
  directory = tmp_path / "extended"
  assert run_here(with_total(tiny("catch"), 7 * TURN - 5), directory) == 0
  ended = read_rows(directory)
  # To the end of the same rollout: nothing is left to learn, and nothing is there twice.
  assert run_here(with_total(tiny("catch"), 7 * TURN), directory) == 0
  assert read_rows(directory) == ended
  first = (directory / "result.json").read_bytes()
  capfd.readouterr()
  assert run_here(tiny("catch"), directory) == 0
  extended = f"{directory} is extended from {7 * TURN} to {12 * TURN:,} environment steps"
  assert extended in capfd.readouterr().out
  assert (directory / f"result_{7 * TURN}.json").read_bytes() == first
  for item in ("train_state", "host"):
    found, expected = read_arrays(directory, item), read_arrays(catch_reference, item)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
      assert found[name].tobytes() == value.tobytes(), f"{item}{name} differs"
  # All rows are there, and besides those of the evaluation with which it first ended.
  rows = read_rows(directory)
  assert rows[: len(ended)] == ended
  between = [row for row in rows if row["environment_steps"] == 7 * TURN and "split" in row]
  assert between == ended[-2:]
  assert [row for row in rows if row not in between] == read_rows(catch_reference)
  episodes = [(each / "episodes.jsonl").read_bytes() for each in (directory, catch_reference)]
  assert episodes[0] == episodes[1]
  assert load_config(directory / "config.yaml") == tiny("catch")
  assert run_here(tiny("catch"), directory) == 0
  assert "is finished; nothing to do" in capfd.readouterr().out


@pytest.mark.parametrize(
  ("there", "asked", "message"),
  [
    (
      with_total(tiny("catch"), 4 * TURN, schedule="cosine"),
      with_total(tiny("catch"), 8 * TURN, schedule="cosine"),
      "a constant learning rate, and agent.optimizer.schedule is 'cosine'",
    ),
    (
      with_total(tiny("catch"), 8 * TURN),
      with_total(tiny("catch"), 4 * TURN),
      "more environment steps extend",
    ),
    (
      with_total(tiny("catch"), 4 * TURN),
      with_total(tiny("catch"), 8 * TURN, learning_rate=1e-3),
      "agent.optimizer.learning_rate: 0.0005, 0.001",
    ),
  ],
)
def test_a_run_that_cannot_become_a_longer_one_stays_as_it_is(
  tmp_path, capfd, there, asked, message
):
  directory = tmp_path / "run"
  directory.mkdir()
  save_config(there, directory / "config.yaml")
  (directory / "result.json").write_text("{}")
  before = (directory / "config.yaml").read_bytes()
  assert run_here(asked, directory) == 2
  error = one_line(capfd)
  assert message in error
  lengths = f"{there.training.total_environment_steps}, {asked.training.total_environment_steps}"
  assert f"training.total_environment_steps: {lengths}" in error
  assert (directory / "config.yaml").read_bytes() == before
  assert (directory / "result.json").read_text() == "{}"


def test_two_processes_do_not_share_a_directory(catch_reference, capfd):
  with (catch_reference / "run.lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # another open file is another holder
    assert run_here(tiny("catch"), catch_reference) == 2
  assert "another process is running in" in one_line(capfd)


def test_a_finished_run_is_not_run_again(catch_reference, capfd):
  before = {path: path.stat().st_mtime_ns for path in catch_reference.rglob("*.json*")}
  assert run_here(tiny("catch"), catch_reference) == 0
  assert "is finished; nothing to do" in capfd.readouterr().out
  assert {path: path.stat().st_mtime_ns for path in catch_reference.rglob("*.json*")} == before


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"environment": {"num_environments": 9}}, "environment.num_environments must be a multiple"),
    ({"evaluation": {"num_environments": 3}}, "evaluation.num_environments must be a multiple"),
    (
      {"environment": {"num_environments": 2}, "agent": {"num_minibatches": 32}},
      "on each of 2 devices: agent.num_minibatches must be a divisor",
    ),
  ],
)
def test_what_does_not_divide_over_the_devices_is_refused_before_the_start(
  tmp_path, capfd, changes, message
):
  config = tiny("catch")
  for section, fields in changes.items():
    part = dataclasses.replace(getattr(config, section), **fields)
    config = dataclasses.replace(config, **{section: part})
  assert run_here(config, tmp_path / "run") == 2
  assert message in one_line(capfd)
  assert not (tmp_path / "run").exists()
