"""Runs of two processes on this machine: they agree, stop together, and continue.

Two real processes of the command with one CPU device each, which speak over gloo. Twice as
many steps as one process alone would take are checked against one with two devices.
"""

import dataclasses
import json
import os
from pathlib import Path
import shutil
import signal
import time

from jax.experimental import multihost_utils
import numpy as np
import pytest
from same_run import assert_same_run, read_arrays, read_rows
from several import ENVIRONMENTS, SELF_SUPERVISED, finish, start, tiny

from environments.factory import make_environment
from environments.joined import JoinedEnvironment
from experiments import runner
from experiments.config import ExperimentConfig
from experiments.errors import UsageError
from experiments.run_shares import check_shares, own_share
from replay import snapshots
from replay.interface import Rollouts
from training.keys import Purpose, derive_seed
from training.processes import DisagreementError, Processes

TURNS, TURN = 24, 32


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run of PPO in two processes that nothing disturbs."""
  directory = tmp_path_factory.mktemp("runs") / "whole"
  ended = finish(start(tiny("ppo", turns=TURNS, turn=TURN), directory))
  assert [code for code, _ in ended] == [0, 0], ended
  return directory


def listing(directory: Path) -> dict:
  """What the second process says of its latest checkpoint."""
  found = (directory / "process-1" / "checkpoints").glob("*.json")
  return json.loads(max(found, key=lambda path: int(path.stem)).read_text())


def part_arrays(directory: Path) -> dict[str, np.ndarray]:
  """What the second process has saved of its own in its latest checkpoint."""
  found = (directory / "process-1" / "checkpoints").glob("*.npz")
  with np.load(max(found, key=lambda path: int(path.stem))) as arrays:
    return {name: arrays[name] for name in arrays.files}


def test_two_processes_do_as_one_with_two_devices(whole, tmp_path, monkeypatch):
  """Bit for bit: the environments side by side, gradients summed over two devices."""
  config = tiny("ppo", turns=TURNS, turn=TURN)
  seed = derive_seed(config.seed, Purpose.ENVIRONMENT)
  seeds = (seed, derive_seed(config.seed, Purpose.ENVIRONMENT, 1))

  def side_by_side(game, *, levels, num_environments, seed):
    if seed not in seeds:  # of an evaluation
      return make_environment(game, levels=levels, num_environments=num_environments, seed=seed)
    half = num_environments // 2
    return JoinedEnvironment(
      [make_environment(game, levels=levels, num_environments=half, seed=each) for each in seeds]
    )

  monkeypatch.setattr(runner, "make_environment", side_by_side)
  assert runner.run(config, tmp_path / "one", command=["test"]) == 0
  expected, found = (read_arrays(each, "train_state") for each in (tmp_path / "one", whole))
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  losses = [
    {name: value for name, value in row.items() if name.startswith("policy/")}
    for row in read_rows(whole)
  ]
  assert losses == [
    {name: value for name, value in row.items() if name.startswith("policy/")}
    for row in read_rows(tmp_path / "one")
  ]


def test_each_has_environments_and_files_of_its_own(whole):
  first, second = read_arrays(whole, "host"), part_arrays(whole)
  for states in (first, second):
    assert sum("environment/" in name for name in states) == ENVIRONMENTS // 2
  one, other = first["['environment/0']"], second["environment/0"]
  assert one.tobytes() != other.tobytes()
  episodes = [each / "episodes.jsonl" for each in (whole, whole / "process-1")]
  assert episodes[0].read_bytes() != episodes[1].read_bytes()
  assert json.loads((whole / "status.json").read_text())["environment_steps"] == TURNS * TURN
  assert not (whole / "process-1" / "result.json").exists()
  kinds = {row["kind"] for row in read_rows(whole / "process-1")}
  assert kinds == {"training"}, "the first alone evaluates"


def test_what_is_stopped_and_killed_continues_as_if_nothing_had_been(whole, tmp_path):
  config, directory = tiny("ppo", turns=TURNS, turn=TURN), tmp_path / "run"
  for which, number in ((1, signal.SIGTERM), (0, signal.SIGKILL)):
    before, running = saved(directory), start(config, directory)
    while saved(directory) == before and all(each.poll() is None for each in running):
      time.sleep(0.02)
    os.kill(running[which].pid, number)
    codes = [code for code, _ in finish(running)]
    if number == signal.SIGTERM:
      assert codes == [75, 75]
      steps = [int(each.stem) for each in (directory / "checkpoints/manifests").iterdir()]
      assert max(steps) == max(saved(directory)) < TURNS * TURN
    else:
      assert 0 not in codes
      assert 75 not in codes
    if max(saved(directory)) >= TURNS * TURN * 2 // 3:
      break  # too near its end for another
  ended = finish(start(config, directory))
  assert [code for code, _ in ended] == [0, 0], ended
  assert_same_run(directory, whole)
  found, expected = part_arrays(directory), part_arrays(whole)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert listing(directory)["train_state"] == listing(whole)["train_state"]


@pytest.mark.parametrize("which", [0, 1])
def test_where_one_is_stopped_at_once_the_others_end_too(which, tmp_path):
  """By a second Ctrl-C: it does not wait for the others, which cannot go on without it."""
  config, directory = tiny("ppo", turns=TURNS, turn=TURN), tmp_path / "run"
  moments = {which: "SIGINT,SIGINT:turn:6"}
  ended = finish(start(config, directory, moments=moments))
  code, said = ended[which]
  assert code == 130, ended
  assert said.splitlines()[-1] == "stopped at once; the last checkpoint stays"
  assert saved(directory) == [4 * TURN]
  own = directory if which == 0 else directory / "process-1"
  assert json.loads((own / "status.json").read_text())["state"] == "interrupted"
  code, said = ended[1 - which]
  # JAX aborts a process that loses the first one, unless a step that fails comes before.
  assert code == 1 or (code == -signal.SIGABRT and which == 0), ended
  if code == 1:
    assert "error: another process of the run has ended or is out of reach" in said


@pytest.mark.parametrize("place", ["checkpoints", "process-1/checkpoints"])
def test_a_process_whose_checkpoints_are_gone_is_told_and_nothing_is_begun_anew(
  whole, tmp_path, place
):
  directory = shutil.copytree(whole, tmp_path / "run")
  (directory / "result.json").unlink()
  shutil.rmtree(directory / place)
  (directory / place).mkdir()
  before = contents(directory)
  ended = finish(start(tiny("ppo", turns=TURNS, turn=TURN), directory))
  assert ended[0][0] == 1, ended
  assert ended[1][0] in (1, -signal.SIGABRT), ended  # by JAX, where the first is gone sooner
  for code, said in ended:
    told = [line for line in said.splitlines() if line.startswith("error: ")]
    if code == 1:
      assert len(told) == 1
      assert f"(none is left in {directory / place}: put them back" in told[0]
  assert contents(directory) == before


def contents(directory: Path) -> dict[str, bytes]:
  """All that is in a run's directory but the record of its starts, by path."""
  return {
    str(path.relative_to(directory)): path.read_bytes()
    for path in directory.rglob("*")
    if path.is_file() and path.name != "run.json"
  }


def saved(directory: Path) -> list[int]:
  """The steps of which the second process has a checkpoint."""
  found = (directory / "process-1" / "checkpoints").glob("*.json")
  return sorted(int(path.stem) for path in found)


def prioritised(config: ExperimentConfig, **changes) -> ExperimentConfig:
  """Draws by priorities and weighs by importance."""
  sequences = dataclasses.replace(
    config.agent.sequences, priority_exponent=1.0, importance_exponent=1.0
  )
  agent = dataclasses.replace(config.agent, sequences=sequences, **changes)
  return dataclasses.replace(config, agent=agent)


def priority_weights(directory: Path) -> np.ndarray:
  """Priorities of all frames in a process's latest replay snapshot."""
  replay = directory / "replay/model"
  index = json.loads(max(replay.glob("*.json"), key=lambda path: int(path.stem)).read_text())
  counters = snapshots._decode((replay / index["counters"]["file"]).read_bytes())
  return counters["priorities/weights"]


def test_ppgs_phases_learn_the_same_in_both(tmp_path):
  """Every save compares the train states, bit for bit; here two saves with learning between."""
  directory = tmp_path / "run"
  running = start(tiny("ppg", turns=8, turn=TURN), directory)
  ended = finish(running)
  assert [code for code, _ in ended] == [0, 0], ended
  for each in (directory, directory / "process-1"):
    learnt = [{name for name in row if name.endswith("/loss")} for row in read_rows(each)]
    assert {"value/loss", "policy/loss", "auxiliary/loss"} in learnt
  losses = [
    [row["auxiliary/loss"] for row in read_rows(each) if "auxiliary/loss" in row]
    for each in (directory, directory / "process-1")
  ]
  assert losses[0] == losses[1], "figures are of all devices"
  assert len(losses[0]) == 4


@pytest.mark.parametrize("agent", ["muzero", "q_learning"])
def test_replay_is_split_and_the_parameters_agree(agent, tmp_path):
  """By priorities, MuZero with keys to contrast with from the other process too."""
  changes = {"self_supervision": SELF_SUPERVISED} if agent == "muzero" else {}
  config = prioritised(tiny(agent, turns=8, turn=TURN), **changes)
  directory = tmp_path / "run"
  ended = finish(start(config, directory))
  assert [code for code, _ in ended] == [0, 0], ended
  for each in (directory, directory / "process-1"):
    last = [row for row in read_rows(each) if row["kind"] == "training"][-1]
    assert last["model/replay_frames"] == config.agent.sequences.capacity // 2
    assert "model/loss" in last
  frames = [
    next((each / "replay/model").glob("frames-*")) for each in (directory, directory / "process-1")
  ]
  assert frames[0].read_bytes() != frames[1].read_bytes()
  weights = [priority_weights(each) for each in (directory, directory / "process-1")]
  assert all(np.min(x) < 0.1 for x in weights), "no priority was set: all were 1 at first"
  assert not np.array_equal(*weights)


def test_a_run_of_another_number_of_processes_is_refused(whole):
  config = tiny("ppo", turns=TURNS, turn=TURN)
  with pytest.raises(UsageError, match="holds a run of 2 processes and this is one of 1"):
    runner.run(config, whole, command=["test"])


def test_shares():
  config = tiny("muzero", turns=8, turn=TURN)
  (phase,) = config.agent.workload(runner.spec_of(config)).phases
  share = own_share(phase.source, Processes(1, 2))
  for inserted in range(0, 2000, 4):
    assert share.draws_earned(inserted // 2) == phase.source.draws_earned(inserted)
  assert share.batch_size * 2 == phase.source.batch_size
  assert own_share(Rollouts(3), Processes(1, 2)) == Rollouts(3)
  check_shares(config, num_processes=2)
  with pytest.raises(UsageError, match=r"agent\.sequences\.batch_size must be a multiple of the 3"):
    check_shares(config, num_processes=3)


def test_processes_agree_on_steps_flags_and_states(monkeypatch):
  """Against what the other is made to say, without starting it."""
  both = Processes(0, 2)

  def other_says(value):
    monkeypatch.setattr(
      multihost_utils,
      "process_allgather",
      lambda own: np.stack([own, np.asarray(value, own.dtype)]),
    )

  for flag in (False, True):
    other_says(flag)
    assert both.any(False) == flag
    assert both.any(True)
    assert both.which(True) == [0, 1][: 1 + flag]
    assert both.which(False) == [0, 1][2 - flag :]
  other_says([8, 4, 2, *[-1] * 61])
  assert both.common([2, 8, 16]) == [2, 8]
  assert both.common([]) == []
  other_says([1, 2, 3])
  both.check_equal(bytes([1, 2, 3]))
  with pytest.raises(DisagreementError, match="010204, 010203"):
    both.check_equal(bytes([1, 2, 4]))
