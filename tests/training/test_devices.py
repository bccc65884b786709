"""One update on 1, 2 and 4 devices, and what its compiled program sends between them."""

import functools
import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

HERE = Path(__file__).resolve().parent
# What an update sends beside its one all-reduce, of gradients and figures.
BESIDE = {
  ("ppo", "policy"): {"all-gather": 1},  # moments of the advantages
  ("ppg", "value"): {},
  ("ppg", "policy"): {},
  ("ppg", "auxiliary"): {},
  ("muzero", "model"): {},
  # Which positions are inside their episode, and the contrastive keys, there and back.
  ("muzero+ssl", "model"): {"all-gather": 2, "reduce-scatter": 1},
  ("q_learning", "model"): {},
  ("dqn", "model"): {},
}


@functools.cache
def found(agent: str) -> dict:
  """What `updates_on_devices.py` says of an agent's phases, in a process with four devices."""
  environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
  # Programs are run once or not at all: they need not be fast.
  flags = ("force_host_platform_device_count=4", "backend_optimization_level=0")
  environment["XLA_FLAGS"] = " ".join(f"--xla_{flag}" for flag in flags)
  command = [sys.executable, str(HERE / "updates_on_devices.py"), agent]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=580)
  assert done.returncode == 0, done.stderr
  phases = json.loads(done.stdout)
  assert phases.keys() == {phase for name, phase in BESIDE if name == agent}
  return phases


@pytest.mark.parametrize(("agent", "phase"), BESIDE)
def test_an_update_does_not_depend_on_the_number_of_devices(agent, phase):
  for count, result in found(agent)[phase]["devices"].items():
    assert result["moved"] > 1e-5, "the update does nothing"
    assert result["difference"] < 1e-4, f"on {count} devices"


@pytest.mark.parametrize(("agent", "phase"), BESIDE)
def test_an_update_is_one_all_reduce(agent, phase):
  one, two, four = (found(agent)[phase]["devices"][count]["update"] for count in "124")
  assert one == {}
  assert two == four == {"all-reduce": 1, **BESIDE[agent, phase]}


@pytest.mark.parametrize(("agent", "phase"), BESIDE)
def test_making_targets_sends_nothing(agent, phase):
  """MuZero searches there."""
  assert found(agent)[phase]["targets"] == {}
