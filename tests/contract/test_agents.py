"""What every agent with a preset must do. A new one is picked up by having a `smoke` preset.

The preset says how small it can be; it is run on Catch, whose frames are small.
"""

import dataclasses
import json
import os
from pathlib import Path
import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import OptimizerConfig
from agents.interface import WHOLE
from agents.model import ModelConfig
from agents.muzero.config import GumbelSearchConfig
from agents.q_learning.config import ExplorationConfig, QNetworkConfig
from environments.factory import make_environment
from experiments import runner
from experiments.config import save_config
from experiments.presets import PRESETS, make_preset
from experiments.registry import AGENTS, agent_name, make_agent
from networks.config import NatureCNNConfig, ResNetConfig
from replay.interface import Trajectory
from training import sharding
from training.checkpoint import Checkpoints, Snapshot
from training.learner import Learner

ROOT = Path(__file__).resolve().parents[2]
KEY = jax.random.key(0)


def smoke(name):
  """Returns the agent's smoke preset, on Catch."""
  preset = make_preset("smoke", name)
  environment = dataclasses.replace(preset.environment, game="catch", levels="easy-all")
  return dataclasses.replace(preset, environment=environment)


def one_device():
  return sharding.make_mesh(jax.devices()[:1])


def two_devices():
  return sharding.make_mesh(jax.devices()[:2])


class Case:
  """An agent with its smoke run's configuration, and frames to act on."""

  def __init__(self, name):
    self.config = smoke(name)
    environment = make_environment(
      "catch",
      levels=self.config.environment.level_distribution,
      num_environments=self.config.environment.num_environments,
      seed=0,
    )
    self.spec = environment.spec
    self.observation = environment.observe().observation
    self.agent = make_agent(self.config.agent, self.spec, total_environment_steps=1_000_000)
    self.act = jax.jit(self.agent.act)
    self.act_greedy = jax.jit(self.agent.act_greedy)


@dataclasses.dataclass
class SmokeRun:
  """A run of the real loop, and the first of everything that came by, as numpy."""

  directory: Path
  trajectory: Trajectory  # the first
  state: Any  # when it arrived
  batches: dict  # by phase: the state and the batch of its first draw


def watched(monkeypatch, run: SmokeRun) -> None:
  """Makes the learner keep what it is first given."""
  postprocess, update = Learner.postprocess, Learner.update

  def watched_postprocess(learner, trajectory):
    if run.trajectory is None:
      run.trajectory, run.state = trajectory, jax.tree.map(np.array, learner.state)
    return postprocess(learner, trajectory)

  def watched_update(learner, index, batch, *, draw):
    if index not in run.batches:
      run.batches[index] = jax.tree.map(np.array, (learner.state, batch))
    return update(learner, index, batch, draw=draw)

  monkeypatch.setattr(Learner, "postprocess", watched_postprocess)
  monkeypatch.setattr(Learner, "update", watched_update)


@pytest.fixture(scope="module", params=sorted(PRESETS["smoke"]))
def case(request):
  return Case(request.param)


@pytest.fixture(scope="module")
def state(case):
  return jax.jit(case.agent.init)(KEY)


@pytest.fixture(scope="module")
def finished(case, tmp_path_factory):
  """The agent's smoke run, made by the real loop on two devices."""
  directory = tmp_path_factory.mktemp("runs") / agent_name(case.config.agent)
  run = SmokeRun(directory, None, None, {})
  with pytest.MonkeyPatch.context() as monkeypatch:
    watched(monkeypatch, run)
    assert runner.run(case.config, directory, command=["test"]) == 0
  names = [phase.name for phase in case.agent.phases]
  assert len(run.batches) == len(names), f"of {names} only {sorted(run.batches)} have learnt"
  return run


@pytest.fixture(scope="module")
def learner(case):
  return Learner(case.agent, mesh=two_devices(), seed=0)


@pytest.fixture(scope="module")
def updates(case, finished):
  """Every phase's update of the first minibatch: state before, then (after, metrics) twice.

  Once on one device and once on two.
  """
  results = []
  for index, phase in enumerate(case.agent.phases):
    state, batch = finished.batches[index]
    size = jax.tree.leaves(batch)[0].shape[0]
    assert {x.shape[0] for x in jax.tree.leaves(batch)} == {size}
    minibatch = jax.tree.map(lambda x, n=size // phase.num_minibatches: x[:n], batch)
    made = []
    for mesh in (one_device(), two_devices()):
      update = sharding.on_shards_together(phase.update, mesh)
      placed = sharding.place(minibatch, mesh, sharding.BATCH_FIRST)
      made.append(update(sharding.place(state, mesh, sharding.REPLICATED), placed, KEY))
    results.append((state, *made))
  return results


def shapes(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), a, b)


def test_every_registered_agent_is_a_case():
  assert set(AGENTS) <= set(PRESETS["smoke"])


def test_the_state_can_be_made_abstractly(case, state):
  abstract = jax.eval_shape(case.agent.init, KEY)
  assert shapes(abstract) == shapes(state)
  for path, x in jax.tree_util.tree_leaves_with_path(abstract):
    allowed = (jnp.float32, jnp.int32, jnp.uint32, jnp.bool_)
    assert x.dtype in allowed, f"{jax.tree_util.keystr(path)} is {x.dtype}"


def test_different_keys_give_different_networks(case, state, finished):
  params = case.agent.policy_params
  pairs = zip(jax.tree.leaves(params(state)), jax.tree.leaves(params(finished.state)), strict=True)
  assert any(not np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", ["act", "act_greedy"])
def test_acting(case, state, name):
  output = getattr(case, name)(case.agent.policy_params(state), case.observation, KEY)
  b = case.spec.num_environments
  assert (output.action.shape, output.action.dtype) == ((b,), jnp.int32)
  assert output.action.min() >= 0
  assert output.action.max() < case.spec.num_actions
  for name, x in output.extras.items():
    assert x.shape[:1] == (b,), name
    assert np.all(np.isfinite(x)), name


def test_greedy_acting_does_not_depend_on_the_key(case, state):
  params = case.agent.policy_params(state)
  actions = [
    case.act_greedy(params, case.observation, jax.random.key(seed)).action for seed in range(5)
  ]
  for action in actions[1:]:
    np.testing.assert_array_equal(action, actions[0])


def test_acting_explores(case, state):
  params = case.agent.policy_params(state)
  actions = [case.act(params, case.observation, jax.random.key(seed)).action for seed in range(20)]
  assert len({tuple(np.asarray(action).tolist()) for action in actions}) > 1


def test_environments_are_independent_of_one_another(case, state):
  """So that each device can act on its part alone: what the others see changes nothing."""
  params, half = case.agent.policy_params(state), case.spec.num_environments // 2
  others = case.observation.copy()
  others[half:] = 255 - others[half:]
  for act in (case.act, case.act_greedy):
    before, after = (act(params, each, KEY) for each in (case.observation, others))
    np.testing.assert_array_equal(before.action[:half], after.action[:half])
    for name, x in before.extras.items():
      np.testing.assert_allclose(x[:half], after.extras[name][:half], rtol=1e-5, atol=1e-6)


def test_the_values_that_it_reports_can_be_read(case, state):
  extras = case.act_greedy(case.agent.policy_params(state), case.observation, KEY).extras
  reported = case.agent.reported_value
  assert (reported is not None) == ("value" in extras)
  if reported is not None:
    assert 0 <= reported.discount <= 1
    scale = reported.scale(state)
    assert scale.shape == ()
    assert float(scale) > 0
    assert extras["value"].shape == case.observation.shape[:1]


def test_an_update_changes_values_and_nothing_else(case, updates):
  params = case.agent.policy_params
  for phase, (before, (after, metrics), _) in zip(case.agent.phases, updates, strict=True):
    assert shapes(after) == shapes(before)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    moved = zip(jax.tree.leaves(params(before)), jax.tree.leaves(params(after)), strict=True)
    assert any(not np.array_equal(a, b) for a, b in moved), f"{phase.name} learns nothing"
    for path, x in jax.tree_util.tree_leaves_with_path(metrics):  # scalars, or parts of a Ratio
      assert (x.shape, x.dtype) == ((), jnp.float32), path
      assert np.isfinite(x), path


def test_an_update_on_two_devices_equals_one_on_one(case, updates):
  params = case.agent.policy_params
  for _, (after, metrics), (other, other_metrics) in updates:
    assert_close(params(other), params(after))
    assert_close(other_metrics, metrics)


def test_only_scheduled_learning_rates_depend_on_the_length(case, finished):
  """So that a run without them can be extended (`experiments/run_config.py`).

  Programs are compared as text, and the arrays that they close over by value.
  """

  def programs(total, schedule):
    optimizers = {
      field.name: dataclasses.replace(value, schedule=schedule)
      for field in dataclasses.fields(case.config.agent)
      if isinstance(value := getattr(case.config.agent, field.name), OptimizerConfig)
    }
    config = dataclasses.replace(case.config.agent, **optimizers)
    agent = make_agent(config, case.spec, total_environment_steps=total)
    assert [phase.source for phase in agent.phases] == [phase.source for phase in case.agent.phases]
    params = agent.policy_params(finished.state)
    traced = [
      jax.make_jaxpr(agent.init)(KEY),
      jax.make_jaxpr(agent.act)(params, case.observation, KEY),
      *(
        jax.make_jaxpr(lambda *args, update=phase.update: update(*args, WHOLE))(*batch, KEY)
        for phase, batch in zip(agent.phases, finished.batches.values(), strict=True)
      ),
    ]
    return [
      (re.sub(r"0x[0-9a-f]+", "", str(each)), [np.asarray(x).tobytes() for x in each.consts])
      for each in traced
    ]

  lengths = 1_000_000, 2_000_000
  assert programs(lengths[0], "constant") == programs(lengths[1], "constant")
  shorter, longer = (programs(total, "cosine") for total in lengths)
  assert shorter[:2] == longer[:2]
  for a, b in zip(shorter[2:], longer[2:], strict=True):
    assert a != b, "an update that does not see its schedule"


def test_on_arrival_statistics_are_over_all_devices(case, finished):
  """`postprocess` may look at the whole batch: the devices must not see their part alone."""
  trajectory = finished.trajectory
  results = []
  for mesh in (one_device(), two_devices()):
    specs = Trajectory(*(sharding.TIME_FIRST,) * 5, final_observation=sharding.BATCH_FIRST)
    specs = specs._replace(extras=dict.fromkeys(trajectory.extras, sharding.TIME_FIRST))
    postprocess = sharding.on_mesh(
      case.agent.postprocess, mesh, results=(sharding.REPLICATED, sharding.TIME_FIRST)
    )
    placed = sharding.place(trajectory, mesh, specs)
    results.append(postprocess(sharding.place(finished.state, mesh, sharding.REPLICATED), placed))
  assert_close(*results)
  leading = (case.agent.rollout_length, case.spec.num_environments)
  for path, x in jax.tree_util.tree_leaves_with_path(results[1][1]):
    assert x.shape[:2] == leading, jax.tree_util.keystr(path)


def test_what_was_published_outlives_updates(case, finished, learner):
  """The state is donated to `update`; params that share its buffers would be gone."""
  for index in range(len(case.agent.phases)):
    published = learner.publish()
    before = jax.tree.map(np.array, published)
    batch = sharding.place(finished.batches[index][1], two_devices(), sharding.BATCH_FIRST)
    learner.update(index, batch, draw=0)
    assert_equal(published, before)


def test_a_saved_state_learns_on_as_if_it_had_stayed(case, finished, learner, tmp_path):
  batches = [
    sharding.place(finished.batches[index][1], two_devices(), sharding.BATCH_FIRST)
    for index in range(len(case.agent.phases))
  ]
  checkpoints = Checkpoints(tmp_path, keep=1)
  checkpoints.save(1, Snapshot(learner.state, {"x": np.zeros(1)}, {}))
  saved = jax.tree.map(np.array, learner.state)
  metrics = [learner.update(index, batch, draw=1) for index, batch in enumerate(batches)]
  stayed = jax.tree.map(np.array, learner.state)
  _, snapshot = checkpoints.restore(learner.state)
  checkpoints.close()
  assert_equal(snapshot.train_state, saved)
  learner.state = snapshot.train_state
  assert [learner.update(index, batch, draw=1) for index, batch in enumerate(batches)] == metrics
  assert_equal(learner.state, stayed)
  # A restored state is placed as the one before: nothing compiles again.
  assert set(learner.compilations().values()) <= {0, 1}, learner.compilations()


def read_rows(directory):
  return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_nothing_compiles_twice_in_a_run(finished):
  compilations = json.loads((finished.directory / "result.json").read_text())["compilations"]
  assert {name: n for name, n in compilations.items() if n != 1} == {}
  assert {"act", "evaluation_act", "publish", "postprocess"} <= set(compilations)


def test_every_phase_learns_in_a_smoke_run(case, finished):
  rows = [row for row in read_rows(finished.directory) if row["kind"] == "training"]
  for phase in case.agent.phases:
    mine = {name for row in rows for name in row if name.startswith(f"{phase.name}/")}
    assert f"{phase.name}/loss" in mine
    assert any(f"{phase.name}/loss" in row for row in rows)


def test_a_finished_run_is_not_run_again(case, finished, capsys):
  files = list(finished.directory.rglob("*.json*"))
  before = [path.stat().st_mtime_ns for path in files]
  assert runner.run(case.config, finished.directory, command=["test"]) == 0
  assert "is finished" in capsys.readouterr().out
  assert [path.stat().st_mtime_ns for path in files] == before


def catch_ppo(config):
  """Half a minute on one core; 1.0 from 60k steps on with seeds 0, 1 and 5, at 120k with 0 to 8.

  With an entropy weight of .05 seed 5 stays at .75 where 0 to 4 reach 1.0, and seed 0 at .84 on
  another machine; with Procgen's .01 the policy is sharp (entropy .15) before it has seen which
  side pays, and ends between .3 and 1 by seed and rounding.
  """
  agent = dataclasses.replace(
    config.agent,
    backbone=ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(32,), blocks=0),
    hidden=256,
    rollout_length=16,
    epochs=2,
    num_minibatches=8,
    gradient_chunk=0,
    discount=0.95,
    entropy_coefficient=0.1,
    optimizer=OptimizerConfig(learning_rate=1e-3),
  )
  return with_budget(config, agent, num_environments=32, steps=80_000)


def catch_ppg(config):
  """As `catch_ppo`, and after every 4 rollouts 2 passes over 128 segments of 16 steps.

  1.0 with seeds 0 to 2 from 50k steps on.
  """
  auxiliary = OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-8, max_gradient_norm=0.0)
  agent = dataclasses.replace(
    config.agent,
    backbone=ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(32,), blocks=0),
    hidden=128,
    rollout_length=16,
    rollouts_per_phase=4,
    policy_epochs=3,
    value_epochs=2,
    num_minibatches=4,
    auxiliary_epochs=2,
    auxiliary_minibatches=16,
    gradient_chunk=0,
    discount=0.95,
    entropy_coefficient=0.03,  # with .01 and two devices it ended at -.2, with one at 1
    optimizer=dataclasses.replace(auxiliary, learning_rate=2e-3, max_gradient_norm=0.5),
    auxiliary_optimizer=auxiliary,
  )
  return with_budget(config, agent, num_environments=32, steps=80_000)


def small_world_model(config, *, samples_per_insert):
  """What agents that learn from sequences need for Catch; small, so that it compiles fast."""
  return {
    "backbone": ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(16,), blocks=0),
    "model": ModelConfig(dynamics_blocks=0, head_channels=8, hidden=64),
    "sequences": dataclasses.replace(
      config.agent.sequences,
      starts=4,
      unroll_steps=3,
      bootstrap_steps=3,
      batch_size=64,
      capacity=19_200,
      min_size=960,
      samples_per_insert=samples_per_insert,
    ),
    "rollout_length": 16,
    "discount": 0.95,
    "target_interval": 50,
    "optimizer": OptimizerConfig(
      learning_rate=2e-3, adam_epsilon=1e-8, max_gradient_norm=5.0, weight_decay=0.0
    ),
  }


def catch_muzero(config):
  """Three simulations over three actions.

  1.0 from 12,288 steps on with seed 0; with 6 samples per step, seeds 0 to 2 come there between
  10,240 and 16,384 steps.
  """
  search = GumbelSearchConfig(num_simulations=3, max_considered_actions=3)
  settings = small_world_model(config, samples_per_insert=9.0)
  agent = dataclasses.replace(config.agent, search=search, **settings)
  return with_budget(config, agent, num_environments=16, steps=16_384)


def catch_q_learning(config):
  """The same without planning; 1.0 from 10,240 steps on with seeds 0 and 2."""
  exploration = ExplorationConfig(decay_steps=8_192, final_epsilon=0.1)
  settings = small_world_model(config, samples_per_insert=6.0)
  agent = dataclasses.replace(config.agent, exploration=exploration, **settings)
  return with_budget(config, agent, num_environments=16, steps=16_384)


def catch_dqn(config):
  """Three convolutions' form with one, scalar heads, independent samples in batches of 32.

  1.0 from 10,240 steps on with seeds 0 and 1.
  """
  settings = small_world_model(config, samples_per_insert=6.0)
  agent = dataclasses.replace(
    config.agent,
    **settings
    | {
      "backbone": NatureCNNConfig(kernels=(4,), strides=(4,), channels=(16,)),
      "model": config.agent.model,
      "network": QNetworkConfig(hidden=64),
      "sequences": dataclasses.replace(settings["sequences"], starts=1, batch_size=32),
      "target_interval": 200,
      "optimizer": dataclasses.replace(settings["optimizer"], learning_rate=1e-3),
      "exploration": ExplorationConfig(decay_steps=8_192, final_epsilon=0.1),
    },
  )
  return with_budget(config, agent, num_environments=16, steps=16_384)


def with_budget(config, agent, *, num_environments, steps):
  """Returns a configuration of a run on Catch with evaluations at its start and end only."""
  return dataclasses.replace(
    config,
    agent=agent,
    environment=dataclasses.replace(config.environment, num_environments=num_environments),
    training=dataclasses.replace(
      config.training, total_environment_steps=steps, checkpoint_every=steps
    ),
    evaluation=dataclasses.replace(
      config.evaluation,
      every=steps,
      num_environments=32,
      final_episodes_per_environment=8,
      policy="greedy",
    ),
  )


# How each agent learns Catch, in well under three minutes on two cores.
CATCH = {
  "ppo": catch_ppo,
  "ppg": catch_ppg,
  "muzero": catch_muzero,
  "q_learning": catch_q_learning,
  "dqn": catch_dqn,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PRESETS["smoke"]))
def test_it_learns_catch(name, tmp_path):
  """The best return is 1, that of a random policy about -.7.

  By the command and on one device, as on a user's machine.
  """
  assert name in CATCH, f"say in CATCH how {name} learns it, and in how many steps"
  save_config(CATCH[name](smoke(name)), tmp_path / "catch.yaml")
  options = ["--config", str(tmp_path / "catch.yaml"), "--out", str(tmp_path / "run")]
  done = subprocess.run(
    [sys.executable, "-m", "experiments.command_line", "train", *options],
    cwd=ROOT,
    env={key: value for key, value in os.environ.items() if key != "XLA_FLAGS"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  for row in result["evaluations"]:
    assert row["episodes"] == 256
    assert row["episode_return"] >= 0.9, row
  first = [row for row in read_rows(tmp_path / "run") if row["kind"] == "evaluation"][:2]
  assert all(row["episode_return"] < 0.5 for row in first), "it could play before it had learnt"
