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

from agents.model import ModelConfig
from agents.muzero.config import GumbelSearchConfig, MuZeroConfig
from agents.ppo.config import PPOConfig
from agents.sequences import SequenceConfig
from environments.config import EnvironmentConfig
from environments.factory import environment_spec
from experiments import machine, measured_loop, registry, speed
from experiments.benchmark import main, ratio_lines, stage_rows
from experiments.config import ExperimentConfig, from_mapping, save_config
from experiments.measured_loop import Repeat, build_parts, run_loop, samples_per_draw
from experiments.options import guarded
from experiments.registry import make_agent
from experiments.speed import work_rates
from experiments.speed_ratios import measure_ratios
from experiments.stage_clock import OUTSIDE, Measured, Spent, StageClock
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
MUZERO = dataclasses.replace(
  CONFIG,
  agent=MuZeroConfig(
    backbone=CONFIG.agent.backbone,
    model=ModelConfig(dynamics_blocks=0, head_channels=2, hidden=8),
    sequences=SequenceConfig(starts=2, batch_size=8, capacity=1024, min_size=64),
    search=GumbelSearchConfig(num_simulations=2, max_considered_actions=2),
    rollout_length=8,
  ),
  training=TrainingConfig(total_environment_steps=4096, checkpoint_every=4096),
)
SPEC = environment_spec("catch", num_environments=4)
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


def test_rates_of_a_whole_benchmark(measured):
  result, shown = measured
  stages = {row["stage"]: row for row in result["stages"]}
  rates = {row["work"]: row for row in result["rates"]}
  assert set(rates) == {"decisions", "samples", "updates"}
  for repeat in range(2):
    learning = sum(
      stages[f"policy/{what}"]["seconds"][repeat] for what in ("make_targets", "update")
    )
    assert rates["decisions"]["per_second"][repeat] == pytest.approx(
      32 / stages["act"]["seconds"][repeat]
    )
    assert rates["samples"]["per_second"][repeat] == pytest.approx(96 / learning)
  assert "policy/make_targets + policy/update" in shown


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


def test_rates_are_of_the_stages_that_do_the_work():
  """One repeat of 100 steps and 3 draws of 64 samples, whose stages took 2, 4, 6 and 8 s."""
  agent = make_agent(MUZERO.agent, SPEC, total_environment_steps=4096)
  (phase,) = agent.phases
  assert phase.work == {"reanalysed_positions": 4 * 7, "simulations": 4 * 7 * 2}
  # Each stage had half a core.
  seconds = {"act": 2.0, "model/make_targets": 4.0, "model/update": 6.0, "acting": 8.0}
  repeat = Repeat(
    steps=100,
    spent=Spent(20.0, 20.0),
    stages={name: Spent(spent, spent / 2) for name, spent in seconds.items()},
    samples={"model": 3 * 8},
    draws={"model": 3},
    compilations=(),
  )
  rates = work_rates(agent, [repeat])
  assert [row["per_core_second"][0] for row in rates] == [2 * row["per_second"][0] for row in rates]
  rows = [(row["work"], row["stages"], row["per_second"][0]) for row in rates]
  assert rows == [
    ("decisions", ["act"], 100 / 2),
    ("simulations", ["act"], 2 * 100 / 2),
    ("samples", ["model/make_targets", "model/update"], 24 / 10),
    ("updates", ["model/update"], 3 / 6),
    ("reanalysed_positions", ["model/make_targets"], 3 * 28 / 4),
    ("simulations", ["model/make_targets"], 3 * 56 / 4),
  ]


def test_ratios_of_folding_and_of_compression():
  """Folded, 8 samples take 4 sequences of 7 searches; unfolded, 8 of 6; the same frames come."""
  ratios = measure_ratios(MUZERO, repeats=1)
  folding, compression = ratios["folding"], ratios["compression"]
  assert (folding["samples"], folding["starts"]) == (8, 2)
  assert folding["ratio"] == pytest.approx(folding["seconds_unfolded"] / folding["seconds_folded"])
  raw, compressed = (compression[f"samples_per_second_{kind}"] for kind in ("raw", "compressed"))
  assert compression["ratio"] == pytest.approx(raw / compressed)
  lines = ratio_lines(ratios)
  assert f"{folding['ratio']:.2f} times as fast" in lines[0]
  assert f"{compression['ratio']:.2f} times as long" in lines[1]
  assert ratio_lines({}) == []


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
    assert each.draws == {"policy": 3, "auxiliary": 1}
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
    (["--preset", "smoke", "--ratios"], "ppo learns from no replayed sequences"),
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
