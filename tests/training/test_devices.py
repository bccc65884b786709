"""One update on 1, 2 and 4 devices, and what its compiled program sends between them."""

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
  ("q_learning+model+ssl", "model"): {"all-gather": 2, "reduce-scatter": 1},
  ("dqn", "model"): {},
}


@pytest.fixture(scope="module")
def found(compile_cache) -> dict:
  """What `updates_on_devices.py` says, of a process with four devices."""
  environment = os.environ | compile_cache | {"PYTHONPATH": str(HERE.parents[1])}
  # Programs are run once or not at all: they need not be fast.
  flags = ("force_host_platform_device_count=4", "backend_optimization_level=0")
  environment["XLA_FLAGS"] = " ".join(f"--xla_{flag}" for flag in flags)
  agents = dict.fromkeys(agent for agent, _ in BESIDE)
  command = [sys.executable, str(HERE / "updates_on_devices.py"), *agents]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  return {
    (agent, phase): result
    for agent, phases in json.loads(done.stdout).items()
    for phase, result in phases.items()
  }


def test_every_phase_is_here(found):
  assert found.keys() == BESIDE.keys()


@pytest.mark.parametrize("case", BESIDE, ids="/".join)
def test_an_update_does_not_depend_on_the_number_of_devices(found, case):
  for count, result in found[case]["devices"].items():
    assert result["moved"] > 1e-5, "the update does nothing"
    assert result["difference"] < 1e-4, f"on {count} devices"


@pytest.mark.parametrize("case", BESIDE, ids="/".join)
def test_an_update_is_one_all_reduce(found, case):
  one, two, four = (found[case]["devices"][count]["update"] for count in "124")
  assert one == {}
  assert two == four == {"all-reduce": 1, **BESIDE[case]}


@pytest.mark.parametrize("case", BESIDE, ids="/".join)
def test_making_targets_sends_nothing(found, case):
  """MuZero searches there."""
  assert found[case]["targets"] == {}
