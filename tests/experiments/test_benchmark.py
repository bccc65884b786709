"""The benchmark: its clock against a hand-made time, its loop on a tiny Catch configuration."""

import contextlib
import dataclasses
import io
import json
from pathlib import Path
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.ppo.config import PPOConfig
from environments.config import EnvironmentConfig
from experiments import machine, measured_loop, registry, speed
from experiments.benchmark import main, stage_rows
from experiments.config import ExperimentConfig, from_mapping, save_config
from experiments.measured_loop import build_parts, run_loop, samples_per_draw
from experiments.options import guarded
from experiments.stage_clock import OUTSIDE, Measured, StageClock
from networks.config import ResNetConfig
from replay.interface import Rollouts, Sequences
from training.config import EvaluationConfig, TrainingConfig
from training.learner import NonFiniteError

CONFIG = ExperimentConfig(
  agent=PPOConfig(
    backbone=ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(8,), blocks=0),
    hidden=16,
    rollout_length=8,
    epochs=3,
    num_minibatches=2,
  ),
  environment=EnvironmentConfig(game="catch", levels="easy-20", num_environments=4),
  training=TrainingConfig(total_environment_steps=64, checkpoint_every=32),
  evaluation=EvaluationConfig(num_environments=4),
)
OUTER = {
  "acting", "postprocess", "sources", "policy/make_targets", "policy/update", "publish", "rest",
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  """Content of the JSON file of a benchmark with two repeats, and what it printed."""
  directory = tmp_path_factory.mktemp("benchmark")
  save_config(CONFIG, directory / "config.yaml")
  path = directory / "speed.json"
  arguments = ["--config", str(directory / "config.yaml"), "--repeats", "2", "--json", str(path)]
  with contextlib.redirect_stdout(io.StringIO()) as out:
    assert main([*arguments, "--seed", "5"]) == 0
  return json.loads(path.read_text()), out.getvalue()


def test_stages_add_up_to_the_whole_loop(measured):
  result, _ = measured
  whole = result["whole_loop"]
  rows = {row["stage"]: row for row in result["stages"]}
  assert {name for name, row in rows.items() if row["inside"] is None} == OUTER
  assert {name for name, row in rows.items() if row["inside"] == "acting"} == {
    "environment", "act", "storing",
  }  # fmt: skip
  for repeat in range(2):
    outer = sum(row["share"][repeat] for name, row in rows.items() if name in OUTER)
    assert outer == pytest.approx(1.0)
    inner = sum(rows[name]["seconds"][repeat] for name in ("environment", "act", "storing"))
    assert inner == pytest.approx(rows["acting"]["seconds"][repeat])
    cores = sum(rows[name]["core_seconds"][repeat] for name in OUTER)
    assert cores == pytest.approx(whole["core_seconds"][repeat])
    # A stage that was counted twice, or one inside another, would leave less than nothing.
    assert rows["rest"]["seconds"][repeat] > 0
    assert rows["storing"]["seconds"][repeat] > 0
    for row in rows.values():
      assert row["steps_per_second"][repeat] == pytest.approx(32 / row["seconds"][repeat])
    assert whole["steps_per_second"][repeat] == pytest.approx(32 / whole["seconds"][repeat])
  assert whole["steps"] == [32, 32]


def test_samples_count_every_epoch(measured):
  result, _ = measured
  (update,) = (row for row in result["stages"] if row["samples_per_second"] is not None)
  assert update["stage"] == "policy/update"
  # 8 steps x 4 environments x 3 epochs.
  for samples, seconds in zip(update["samples_per_second"], update["seconds"], strict=True):
    assert samples == pytest.approx(96 / seconds)


def test_each_function_is_compiled_once_and_its_time_is_told(measured):
  result, _ = measured
  functions = {each["function"]: each for each in result["functions"]}
  once = {"act", "publish", "postprocess", "policy/make_targets", "policy/update"}
  assert {name for name in once if functions[name]["compilations"] == 1} == once
  assert all(functions[name]["seconds"] > 0 for name in (*once, "init"))
  assert result["compiled_while_measuring"] == []


def test_what_was_measured_is_told(measured):
  result, shown = measured
  assert from_mapping(result["config"]) == dataclasses.replace(CONFIG, seed=5)
  assert len(result["environment_alone"]["steps_per_second"]) == 2
  # Not more in a process that was larger before, as that of a whole test run is.
  assert result["memory"]["peak_resident_bytes"] >= result["memory"]["resident_before_bytes"]
  assert result["memory"]["resident_before_bytes"] > 2**20
  assert len(result["machine"]["devices"]) == len(jax.devices())
  assert result["machine"]["cores_used"]["own"] > 0
  for row in result["stages"]:
    assert row["stage"] in shown
  for text in ("random actions", "whole loop", "load average", "cores", "MiB", "samples/s"):
    assert text in shown
  assert re.search(r"policy/update +1 ", shown)


def test_table_has_medians_and_ranges(measured):
  result, _ = measured
  result = json.loads(json.dumps(result))
  result["whole_loop"]["steps_per_second"] = [1000.0, 4000.0, 2000.0]
  result["stages"][0] |= {
    "share": [0.5, 0.25, 0.75],
    "steps_per_second": [30.0, 10.0, None],
    "seconds": [1.0, 3.0, 0.0],
    "core_seconds": [2.0, 3.0, 0.0],
    "peak_resident_bytes": 3 * 2**20,
  }
  rows = stage_rows(result)
  assert rows[1][:3] == ("whole loop", "2,000", "1,000 to 4,000")
  assert rows[2] == ("  acting", "20", "10 to 30", "50.0 %", "1.25", "3", "")


def two_phases(config, spec, *, total_environment_steps):
  """The configured agent with a second phase, over groups of three rollouts."""
  agent = registry.make_agent(config, spec, total_environment_steps=total_environment_steps)
  (phase,) = agent.phases
  auxiliary = dataclasses.replace(phase, name="auxiliary", source=Rollouts(3), epochs=1)
  return dataclasses.replace(agent, phases=(phase, auxiliary))


def test_a_repeat_lasts_until_every_phase_has_learnt(monkeypatch):
  monkeypatch.setattr(measured_loop, "make_agent", two_phases)
  clock = StageClock()
  with contextlib.ExitStack() as stack:
    parts = build_parts(CONFIG, clock, stack)
    repeats = run_loop(CONFIG, parts, clock=clock, repeats=2, stack=stack)
  clock.close()
  for each in repeats:
    assert each.steps == 3 * 32
    assert each.samples == {"policy": 3 * 32 * 3, "auxiliary": 96}
    assert {"auxiliary/make_targets", "auxiliary/update"} <= each.stages.keys()
    assert each.compilations == ()


def test_samples_of_a_draw():
  assert samples_per_draw(Rollouts(4), steps_per_rollout=32) == 128
  request = Sequences(
    length=10, starts=4, batch_size=8, capacity=100, min_size=50, samples_per_insert=2
  )
  assert samples_per_draw(request, steps_per_rollout=32) == 32


class Hand:
  """A time that is moved by hand."""

  def __init__(self):
    self.time = 0.0

  def __call__(self):
    return self.time


def test_clock_adds_nested_stages_to_both():
  now, cores = Hand(), Hand()
  clock = StageClock(now=now, cores=cores)
  with clock.stage("outer"):
    now.time += 1
    for _ in range(2):
      with clock.stage("inner"):
        now.time += 10
        cores.time += 5
    now.time += 100
  with clock.stage("inner"):
    now.time += 1000
  assert clock.take() == {"outer": (121.0, 10.0), "inner": (1020.0, 10.0)}
  assert clock.take() == {}
  with contextlib.suppress(KeyError), clock.stage("failed"):
    now.time += 1
    raise KeyError
  assert clock.take() == {"failed": (1.0, 0.0)}
  assert clock.read() == (1122.0, 10.0)
  clock.close()


def test_clock_hears_each_compilation_in_its_innermost_stage():
  clock = StageClock()

  @jax.jit
  def doubled(x):
    return 2 * jnp.sin(x)

  x, y = np.zeros(3, np.float32), np.zeros(4, np.float32)
  with clock.stage("outer"), clock.stage("inner"):
    doubled(x)
    doubled(x)
  doubled(y)
  clock.close()
  doubled(np.zeros(5, np.float32))
  heard = [each for each in clock.compilations if each.function == "doubled"]
  assert [each.stage for each in heard] == ["inner", OUTSIDE]
  assert all(each.seconds > 0 for each in heard)


def test_measured_object_is_the_object_but_for_its_stages():
  class Counted:
    def __init__(self):
      self.calls = []

    def put(self, name, *, twice):
      self.calls.append((name, twice))
      return len(self.calls)

    def untimed(self):
      return "untimed"

    def __call__(self, x):
      return x + 1

  now = Hand()
  clock = StageClock(now=now)
  counted = Counted()
  stages = {"put": lambda name: f"put/{name}", "__call__": "call"}
  measured = Measured(counted, clock, stages)
  assert measured.put("a", twice=True) == 1
  assert measured.put("b", twice=False) == 2
  assert measured(4) == 5
  assert measured.untimed() == "untimed"
  assert counted.calls == measured.calls == [("a", True), ("b", False)]
  assert clock.take().keys() == {"put/a", "put/b", "call"}
  assert Measured(counted, clock, {})(1) == 2
  clock.close()


ROOT = Path(__file__).resolve().parents[2]
STAGES = """
import numpy as np
from experiments.stage_clock import StageClock
clock = StageClock()
with clock.stage("large"), clock.stage("inner"):
  np.ones(2**25, np.uint8).sum()  # 32 MiB, given back at once
with clock.stage("small"):
  pass
clock.close()
print(clock.peak_resident["large"] - clock.peak_resident["small"], "inner" in clock.peak_resident)
"""


def test_peak_memory_of_a_stage():
  """In a process of its own: one that was large before gives the array memory it has already."""
  if not machine.reset_peak_resident():
    pytest.skip("this system cannot reset the peak")
  command = [sys.executable, "-c", STAGES]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
  more, inner = done.stdout.split()
  assert int(more) > 24 * 2**20
  assert inner == "False"


def test_what_counts_as_quiet():
  assert machine.is_quiet(0.4, 2)
  assert not machine.is_quiet(0.6, 2)


def test_a_wrong_option_is_told_before_a_busy_machine(monkeypatch, capsys):
  monkeypatch.setattr(machine.os, "getloadavg", lambda: (7.5, 3.0, 1.0))
  assert guarded(main, ["--repeats", "0"]) == 2
  assert "not quiet" not in capsys.readouterr().err


def test_a_busy_machine_and_a_loss_that_is_not_finite_are_told(monkeypatch, capsys):
  def fail(config, *, repeats):
    raise NonFiniteError(f"policy/loss is nan in {config.environment.game}, {repeats}")

  monkeypatch.setattr(machine.os, "getloadavg", lambda: (7.5, 3.0, 1.0))
  monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
  monkeypatch.setattr(speed, "measure", fail)
  assert main(["--preset", "smoke", "--repeats", "2"]) == 1
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 2
  assert "not quiet: load average 7.5 on 4 cores" in lines[0]
  assert lines[1] == "error: policy/loss is nan in leaper, 2"


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (["--repeats", "0"], "--repeats"),
    (["--repeats", "many"], "--repeats"),
    (["--json", "/no/such/directory/file.json"], "/no/such/directory"),
    (["--agent", "pppo"], "Did you mean 'ppo'?"),
    (["--preset", "labtop"], "Did you mean 'laptop'?"),
    (["--environment.gam", "leaper"], "environment.game"),
    (["--preset", "smoke", "--environment.num_environments", "15"], "num_environments"),
  ],
)
def test_wrong_options_get_one_line_and_exit_code_2(capsys, arguments, expected):
  assert guarded(main, arguments) == 2
  lines = [each for each in capsys.readouterr().err.splitlines() if "warning" not in each]
  assert len(lines) == 1
  assert lines[0].startswith("error: ")
  assert expected in lines[0]


def test_help_does_not_import_jax():
  code = (
    "import sys\nfrom experiments.benchmark import main\n"
    "try:\n  main(['--help'])\nexcept SystemExit as end:\n  assert end.code == 0\n"
    "assert not {'jax', 'flax', 'orbax', 'procgen'} & set(sys.modules)"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  for option in ("--repeats", "--json", "--backbone", "--environment.game"):
    assert option in done.stdout
