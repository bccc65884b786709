"""One update on 1, 2 and 4 devices, and what its compiled program sends between them."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def found(compile_cache) -> dict:
  """What `updates_on_devices.py` says, of a process with four devices."""
  environment = os.environ | compile_cache | {"PYTHONPATH": str(HERE.parents[1])}
  environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
  command = [sys.executable, str(HERE / "updates_on_devices.py"), "ppo", "muzero"]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.mark.parametrize("agent", ["ppo", "muzero"])
def test_an_update_does_not_depend_on_the_number_of_devices(found, agent):
  for count, result in found[agent]["devices"].items():
    assert result["moved"] > 1e-5, "the update does nothing"
    assert result["difference"] < 1e-4, f"on {count} devices"


@pytest.mark.parametrize("agent", ["ppo", "muzero"])
def test_what_is_sent_does_not_grow_with_the_devices(found, agent):
  """And nothing is sent in making targets, in which MuZero searches."""
  one, two, four = (found[agent]["devices"][count] for count in "124")
  assert one["update"] == {}
  assert two["update"]["all-reduce"] >= 1
  assert two["update"] == four["update"]
  assert [each["targets"] for each in (one, two, four)] == [{}, {}, {}]
