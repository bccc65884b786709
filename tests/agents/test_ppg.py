"""PPG against worked numbers, references in numpy, and itself resumed in the middle of a group."""

import dataclasses
import functools
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.ppg.agent import make_network, make_ppg
from agents.ppg.auxiliary import AuxiliaryBatch, auxiliary_loss, make_auxiliary_batch
from agents.ppg.config import PPGConfig
from agents.ppg.loss import policy_and_value_loss, policy_loss, value_loss
from agents.ppo.config import PPOConfig
from agents.ppo.loss import PPOBatch, ppo_loss
from environments.config import EnvironmentConfig
from environments.factory import make_environment
from environments.interface import EnvironmentSpec
from experiments import runner
from experiments.config import ExperimentConfig
from networks.actor_critic import ActorCriticOutput, PhasicOutput
from networks.config import ResNetConfig
from replay.factory import make_source
from replay.interface import Trajectory
from training.actor import Actor
from training.checkpoint import Checkpoints
from training.config import EvaluationConfig, TrainingConfig
from training.learner import Learner
from training.sharding import make_mesh

T, B, A, N_PI = 4, 4, 3, 3
KEY = jax.random.key(0)
SPEC = EnvironmentSpec("test", B, (8, 8, 3), A, time_limit=100)
CONFIG = PPGConfig(
  backbone=ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(4,), blocks=0),
  hidden=8,
  rollout_length=T,
  rollouts_per_phase=N_PI,
  num_minibatches=2,
  auxiliary_epochs=2,
  auxiliary_minibatches=3,
  discount=0.9,
)


@functools.cache
def make(**changes):
  """One agent per setting, so that what is compiled is shared."""
  config = dataclasses.replace(CONFIG, **changes)
  return make_ppg(config, SPEC, total_environment_steps=T * B * 10)


jit = functools.cache(jax.jit)


def with_trunk(trunk):
  return make() if trunk == CONFIG.trunk else make(trunk=trunk)


@pytest.fixture(scope="module")
def agent():
  return make()


@pytest.fixture(scope="module")
def state(agent):
  return jit(agent.init)(KEY)


@pytest.fixture(scope="module")
def postprocess(agent):
  return jit(agent.postprocess)


def phases(agent):
  return {phase.name: phase for phase in agent.phases}


def make_trajectory(seed: int) -> Trajectory:
  """A trajectory of noise in which an episode ends."""
  generator = np.random.default_rng(seed)
  discount = np.ones((T, B), np.float32)
  discount[2, 0] = 0
  return Trajectory(
    observation=generator.integers(0, 256, (T, B, *SPEC.observation_shape), np.uint8),
    action=generator.integers(0, A, (T, B), np.int32),
    reward=generator.normal(0, 2, (T, B)).astype(np.float32),
    discount=discount,
    extras={
      "log_prob": generator.normal(-1, 0.3, (T, B)).astype(np.float32),
      "value": generator.normal(0, 1, (T, B)).astype(np.float32),
    },
    final_observation=generator.integers(0, 256, (B, *SPEC.observation_shape), np.uint8),
  )


def make_group(postprocess, state):
  """A group's record `[T, N_PI * B, ...]`, as the auxiliary phase's source releases it."""
  records = [postprocess(state, make_trajectory(seed))[1] for seed in range(N_PI)]
  return {name: np.concatenate([r[name] for r in records], axis=1) for name in records[0]}


def log(probabilities):
  return jnp.log(jnp.asarray(probabilities, jnp.float32))


def test_the_auxiliary_loss_on_worked_numbers():
  """KL((1/2, 1/2) || (3/4, 1/4)) = 1/2 log(2/3) + 1/2 log 2 = 1/2 log(4/3); the second is 0.

  Values 1, 0 and auxiliary ones 3, 2 for targets 2, -1: means of half squares
  1/2 (1 + 1) / 2 = .5 and 1/2 (1 + 9) / 2 = 2.5.
  """
  output = PhasicOutput(
    logits=log([[0.75, 0.25], [0.9, 0.1]]) + jnp.asarray([[3.0], [-1.0]]),
    value=jnp.asarray([1.0, 0.0]),
    auxiliary_value=jnp.asarray([3.0, 2.0]),
  )
  steps = AuxiliaryBatch(
    observation=jnp.zeros((2, 1, 1, 1), jnp.uint8),
    value_target=jnp.asarray([2.0, -1.0]),
    old_logits=log([[0.5, 0.5], [0.9, 0.1]]),
  )
  loss, means = auxiliary_loss(output, steps, clone_coefficient=3.0)
  clone = 0.5 * np.log(4 / 3) / 2
  np.testing.assert_allclose(means["clone_loss"], clone, rtol=1e-6)
  np.testing.assert_allclose(means["value_loss"], 0.5, rtol=1e-6)
  np.testing.assert_allclose(means["auxiliary_value_loss"], 2.5, rtol=1e-6)
  np.testing.assert_allclose(loss, 3.0 + 3.0 * clone, rtol=1e-6)
  np.testing.assert_allclose(means["loss"], loss)


def test_the_auxiliary_losses_gradient_is_the_closed_form():
  """d/dz of KL(p_old || softmax z) is p - p_old, of the halves of squares v - z; means over N."""
  generator = np.random.default_rng(0)
  n = 7
  logits, old = generator.normal(size=(2, n, A))
  v, aux, target = generator.normal(size=(3, n))
  steps = AuxiliaryBatch(
    observation=jnp.zeros((n, 1, 1, 1), jnp.uint8),
    value_target=jnp.asarray(target, jnp.float32),
    old_logits=jnp.asarray(old, jnp.float32),
  )

  def gradient_at(logits):
    output = PhasicOutput(*(jnp.asarray(x, jnp.float32) for x in (logits, v, aux)))
    return jax.grad(lambda x: auxiliary_loss(x, steps, clone_coefficient=2.0)[0])(output)

  def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)

  gradient = gradient_at(logits)
  np.testing.assert_allclose(gradient.logits, 2 * (softmax(logits) - softmax(old)) / n, atol=1e-6)
  np.testing.assert_allclose(gradient.value, (v - target) / n, atol=1e-6)
  np.testing.assert_allclose(gradient.auxiliary_value, (aux - target) / n, atol=1e-6)
  # At the phase's start new and old are one: nothing pulls at the policy.
  np.testing.assert_allclose(gradient_at(old).logits, 0.0, atol=1e-7)


def make_batch(size: int) -> tuple[PhasicOutput, PPOBatch]:
  """Outputs and a batch in which both sides of the clip occur."""
  generator = np.random.default_rng(1)
  logits = generator.normal(0, 1, (size, A)).astype(np.float32)
  action = generator.integers(0, A, size).astype(np.int32)
  now = np.asarray(jax.nn.log_softmax(logits))[np.arange(size), action]
  value, auxiliary_value, old_value, advantage, target = generator.normal(0, 1, (5, size)).astype(
    np.float32
  )
  batch = PPOBatch(
    observation=np.zeros((size, 1, 1, 1), np.uint8),
    action=action,
    log_prob=(now + generator.uniform(-0.5, 0.5, size)).astype(np.float32),
    value=old_value,
    advantage=advantage,
    value_target=target,
  )
  return PhasicOutput(logits, value, auxiliary_value), batch


def test_without_a_value_clip_ppos_loss_is_the_policy_phases():
  """A reduction: a clip that never binds leaves half the squared error."""
  output, batch = make_batch(64)
  config = dataclasses.replace(CONFIG, value_coefficient=0.7, entropy_coefficient=0.2, clip=0.1)
  ppo = PPOConfig(value_coefficient=0.7, entropy_coefficient=0.2, clip=0.1, value_clip=1e3)
  expected, expected_means = ppo_loss(ActorCriticOutput(output.logits, output.value), batch, ppo)
  loss, means = policy_and_value_loss(output, batch, config)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  assert means.keys() == expected_means.keys()
  for name, x in means.items():
    np.testing.assert_allclose(x, expected_means[name], rtol=1e-4, err_msg=name)
  error = np.mean(0.5 * (output.value - batch.value_target) ** 2)
  np.testing.assert_allclose(means["value_loss"], error, rtol=1e-5)


def test_the_policy_phases_loss_is_the_sum_of_its_parts():
  output, batch = make_batch(16)

  def gradient(loss):
    return jax.grad(lambda x: loss(x, batch, CONFIG)[0])(PhasicOutput(*map(jnp.asarray, output)))

  joint, of_policy, of_value = map(gradient, (policy_and_value_loss, policy_loss, value_loss))
  np.testing.assert_allclose(joint.logits, of_policy.logits)
  np.testing.assert_allclose(joint.value, of_value.value)
  for unreached in (of_policy.value, of_value.logits, joint.auxiliary_value):
    assert not np.any(unreached)


def test_on_arrival_advantages_are_normalised_over_the_rollout(postprocess, state):
  """Value targets are not: what they exceed the values by is the advantage as estimated."""
  _, record = postprocess(state, make_trajectory(1))
  estimated = np.asarray(record["value_target"] - record["value"], np.float64)
  expected = (estimated - estimated.mean()) / estimated.std()
  np.testing.assert_allclose(record["advantage"], expected, atol=1e-5)
  assert abs(estimated.mean()) > 0.01
  assert abs(estimated.std() - 1) > 0.01


@pytest.mark.parametrize("kind", ["columns", "steps"])
def test_minibatches_are_drawn_from_columns_or_steps(kind, postprocess, state):
  agent = make(minibatches=kind)
  _, record = postprocess(state, make_trajectory(2))
  batch = phases(agent)["policy"].make_targets(state, record, KEY)
  for name in ("observation", "action", "log_prob", "value", "advantage", "value_target"):
    x, leaf = np.asarray(getattr(batch, name)), np.asarray(record[name])
    if kind == "columns":
      assert x.shape[:2] == (B, T)
      expected = [[leaf[t, b] for t in range(T)] for b in range(B)]
    else:
      assert x.shape[:2] == (T * B, 1)
      expected = [[leaf[t, b]] for t in range(T) for b in range(B)]
    np.testing.assert_array_equal(x, np.asarray(expected))


def largest_moves(before, after):
  """Returns {part of the network: largest change of a parameter}."""
  moves = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), before, after)
  return {part: max(jax.tree.leaves(tree)) for part, tree in moves["params"].items()}


@pytest.mark.parametrize(
  ("trunk", "policy_moves"),
  [
    ("dual", {"policy_trunk", "value_trunk", "policy", "value"}),
    ("shared", {"trunk", "policy", "value"}),
    ("detached", {"trunk", "policy", "value"}),
  ],
)
def test_what_each_phase_moves(trunk, policy_moves):
  """The auxiliary head waits for its phase, in which everything moves, by the rate at most."""
  agent = with_trunk(trunk)
  state = jit(agent.init)(KEY)
  state, record = jit(agent.postprocess)(state, make_trajectory(3))
  policy, auxiliary = agent.phases
  batch = policy.make_targets(state, record, KEY)
  after, _ = jit(policy.update)(state, batch, KEY)
  moves = largest_moves(state.params, after.params)
  assert {part for part, move in moves.items() if move > 0} == policy_moves
  # The old policy is that of `state`, so that in `after` the clone term has a gradient.
  batch = auxiliary.make_targets(state, record, KEY)
  last, _ = jit(auxiliary.update)(after, batch, KEY)
  moves = largest_moves(after.params, last.params)
  assert moves.keys() == policy_moves | {"auxiliary_value"}
  assert min(moves.values()) > 1e-5
  assert max(moves.values()) <= CONFIG.auxiliary_optimizer.learning_rate * 1.001


def test_values_reach_a_detached_trunk_in_the_auxiliary_phase_alone():
  """In the policy phase two rollouts that differ in their value targets move the trunk alike."""
  moved = {}
  for trunk in ("detached", "shared"):
    agent = with_trunk(trunk)
    state = jit(agent.init)(KEY)
    state, record = jit(agent.postprocess)(state, make_trajectory(3))
    for phase in agent.phases:
      update = jit(phase.update)
      batch = phase.make_targets(state, record, KEY)
      other = batch.replace(value_target=batch.value_target + 5)
      states = [update(state, each, KEY)[0] for each in (batch, other)]
      trunks = [each.params["params"]["trunk"] for each in states]
      heads = [each.params["params"]["value"] for each in states]
      assert not trees_equal(*heads), "the value head should learn from its targets"
      moved[trunk, phase.name] = not trees_equal(*trunks)
  assert moved == {
    ("detached", "policy"): False,
    ("detached", "auxiliary"): True,
    ("shared", "policy"): True,
    ("shared", "auxiliary"): True,
  }


def trees_equal(a, b):
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(np.array_equal(x, y) for x, y in pairs)


def test_each_phase_has_its_own_optimiser(agent, state, postprocess):
  state, record = postprocess(state, make_trajectory(3))
  for phase in agent.phases:
    batch = phase.make_targets(state, record, KEY)
    after, _ = jit(phase.update)(state, batch, KEY)
    assert after.optimizer_states.keys() == {"policy", "auxiliary"}
    for name, optimizer_state in after.optimizer_states.items():
      unchanged = trees_equal(optimizer_state, state.optimizer_states[name])
      assert unchanged == (name != phase.name)
    assert trees_equal(after.reward_scaling, state.reward_scaling)


def test_equal_epochs_are_learnt_together_others_apart(agent):
  assert [(p.name, p.epochs, p.num_minibatches) for p in agent.phases] == [
    ("policy", 1, 2),
    ("auxiliary", 2, 3),
  ]
  apart = make(policy_epochs=1, value_epochs=3)
  assert [(p.name, p.epochs, p.source.count) for p in apart.phases] == [
    ("value", 3, 1),
    ("policy", 1, 1),
    ("auxiliary", 2, N_PI),
  ]
  state = jit(apart.init)(KEY)
  assert state.optimizer_states.keys() == {"value", "policy", "auxiliary"}
  state, record = jit(apart.postprocess)(state, make_trajectory(3))
  for phase, moving in zip(
    apart.phases, ({"value_trunk", "value"}, {"policy_trunk", "policy"}), strict=False
  ):
    batch = phase.make_targets(state, record, KEY)
    after, metrics = jit(phase.update)(state, batch, KEY)
    moves = largest_moves(state.params, after.params)
    assert {part for part, move in moves.items() if move > 0} == moving
    assert ("explained_variance" in metrics) == (phase.name == "value")


def test_the_auxiliary_phase_is_due_with_every_group_and_uses_each_rollout_once(
  agent, state, postprocess
):
  """Seven rollouts make two groups; each group's segments are its rollouts' columns, in order.

  The parameters move between the rollouts: value targets are those of their own policy phase.
  """
  phase = phases(agent)["auxiliary"]
  source = make_source(phase.source)
  update = jit(agent.phases[0].update)
  due, seen, waiting = [], 0, []
  for k in range(7):
    state, record = postprocess(state, make_trajectory(k))
    state, _ = update(state, agent.phases[0].make_targets(state, record, KEY), KEY)
    waiting.append(jax.tree.map(np.asarray, record))
    source.add(record)
    due.append(source.updates_due())
    if not due[-1]:
      continue
    batch = phase.make_targets(state, source.draw(), KEY)
    assert source.updates_due() == 0
    assert batch.value_target.shape == (N_PI * B, T)
    for i, each in enumerate(waiting):
      for b in range(B):
        n = i * B + b
        np.testing.assert_array_equal(batch.observation[n], each["observation"][:, b])
        np.testing.assert_array_equal(batch.value_target[n], each["value_target"][:, b])
        seen += 1
    waiting = []
  assert due == [0, 0, 1, 0, 0, 1, 0]
  assert seen == 2 * N_PI * B


def test_the_old_policy_is_that_of_the_phases_start(agent, state, postprocess):
  """Noted once: it does not follow the updates, and in the first of them nothing is to be kept."""
  phase = phases(agent)["auxiliary"]
  group = make_group(postprocess, state)
  batch = jit(phase.make_targets)(state, group, KEY)
  network = make_network(CONFIG, num_actions=A)
  for n in range(N_PI * B):
    expected = network.apply(state.params, group["observation"][:, n]).logits
    np.testing.assert_allclose(batch.old_logits[n], expected, atol=1e-6)
  update = jit(phase.update)
  losses = []
  for _ in range(3):
    state, metrics = update(state, batch, KEY)
    losses.append(float(metrics["clone_loss"]))
  assert abs(losses[0]) < 1e-7
  assert losses[2] > losses[1] > 1e-7


def test_an_auxiliary_update_is_the_mean_over_whole_segments(agent, state, postprocess):
  """The metrics of an update are those of the loss on its segments' steps, one by one."""
  phase = phases(agent)["auxiliary"]
  batch = phase.make_targets(state, make_group(postprocess, state), KEY)
  minibatch = jax.tree.map(lambda x: x[: N_PI * B // CONFIG.auxiliary_minibatches], batch)
  _, metrics = jit(phase.update)(state, minibatch, KEY)
  network = make_network(CONFIG, num_actions=A)
  errors, auxiliary_errors = [], []
  for n in range(4):
    output = network.apply(state.params, minibatch.observation[n])
    errors.extend(0.5 * (output.value - minibatch.value_target[n]) ** 2)
    auxiliary_errors.extend(0.5 * (output.auxiliary_value - minibatch.value_target[n]) ** 2)
  assert len(errors) == 4 * T
  np.testing.assert_allclose(metrics["value_loss"], np.mean(errors), rtol=1e-5)
  np.testing.assert_allclose(metrics["auxiliary_value_loss"], np.mean(auxiliary_errors), rtol=1e-5)
  total = np.mean(errors) + np.mean(auxiliary_errors)
  np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)


@pytest.mark.parametrize("name", ["policy", "auxiliary"])
def test_chunks_change_nothing(name, agent, state, postprocess):
  """Noise in Adam's first step aside: where a gradient is about 0, its sign is rounding."""
  state, record = postprocess(state, make_trajectory(3))
  results = []
  for chunk in (0, 2):
    phase = phases(make(gradient_chunk=chunk))[name]
    batch = phase.make_targets(state, record, KEY)
    results.append(jit(phase.update)(state, batch, KEY)[1])
  assert results[0].keys() == results[1].keys()
  for metric, x in results[0].items():
    np.testing.assert_allclose(x, results[1][metric], rtol=1e-4, atol=1e-6, err_msg=metric)


def test_frames_are_not_copied_for_the_old_policy():
  """Beside the record and the batch, the compiled function holds less than a tenth of them."""
  t, n = 8, 256
  network = make_network(CONFIG, num_actions=A)
  frames = jax.ShapeDtypeStruct((t, n, 32, 32, 3), jnp.uint8)
  params = jax.eval_shape(network.init, KEY, jnp.zeros((1, 32, 32, 3), jnp.uint8))
  record = {"observation": frames, "value_target": jax.ShapeDtypeStruct((t, n), jnp.float32)}
  compiled = (
    jax.jit(lambda params, record: make_auxiliary_batch(network, params, record))
    .lower(params, record)
    .compile()
  )
  assert compiled.memory_analysis().temp_size_in_bytes < 0.1 * t * n * 32 * 32 * 3


def test_schedules_end_with_the_run():
  """10 rollouts: 20 updates of the policy; 3 groups of 2 passes of 3: 18 of the auxiliary phase."""
  linear = dataclasses.replace(CONFIG.optimizer, schedule="linear")
  agent = make(optimizer=linear, auxiliary_optimizer=linear)
  state = jit(agent.init)(KEY)
  state, record = jit(agent.postprocess)(state, make_trajectory(3))
  for phase, updates in zip(agent.phases, (20, 18), strict=True):
    batch, update, moved = phase.make_targets(state, record, KEY), jit(phase.update), []
    for _ in range(updates + 1):
      after, _ = update(state, batch, KEY)
      moved.append(max(largest_moves(state.params, after.params).values()))
      state = after
    assert moved[updates - 1] > 1e-6
    assert moved[updates] < 1e-8


def test_a_run_shorter_than_a_group_can_be_made():
  for schedule in ("linear", "cosine"):
    optimizer = dataclasses.replace(CONFIG.optimizer, schedule=schedule)
    config = dataclasses.replace(CONFIG, auxiliary_optimizer=optimizer)
    jax.eval_shape(make_ppg(config, SPEC, total_environment_steps=1).init, KEY)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("trunk", "single"),
    ("minibatches", "rows"),
    ("hidden", 0),
    ("rollout_length", 2.0),
    ("rollouts_per_phase", 0),
    ("policy_epochs", -1),
    ("value_epochs", 0),
    ("num_minibatches", True),
    ("auxiliary_epochs", 0),
    ("auxiliary_minibatches", 0),
    ("discount", 1.5),
    ("gae_lambda", -0.1),
    ("clip", 1.0),
    ("value_coefficient", -1.0),
    ("entropy_coefficient", float("nan")),
    ("clone_coefficient", -0.5),
    ("reward_discount", 2.0),
    ("reward_clip", 0.0),
    ("gradient_chunk", -1),
  ],
)
def test_a_wrong_setting_is_named(field, value):
  with pytest.raises(ValueError, match=rf"agent\.{field} must be .*{value}"):
    PPGConfig(**{field: value})


@pytest.mark.parametrize(
  ("changes", "field"),
  [
    ({"num_minibatches": 8}, "num_minibatches"),  # 16 steps would split, 4 columns do not
    ({"num_minibatches": 32, "minibatches": "steps"}, "num_minibatches"),
    ({"auxiliary_minibatches": 5}, "auxiliary_minibatches"),
    ({"gradient_chunk": 3}, "gradient_chunk"),
    ({"gradient_chunk": 8, "auxiliary_minibatches": 12}, "gradient_chunk"),
  ],
)
def test_minibatches_that_do_not_come_out_even_are_refused(changes, field):
  with pytest.raises(ValueError, match=rf"agent\.{field} must be"):
    make(**changes)


def test_the_defaults_are_the_published_ones():
  """SCIENCE.md section 4: 8 columns of 64, 4 segments of 256 steps, two Adams at 5e-4."""
  config = PPGConfig()
  config.check_batch(64)
  assert 64 // config.num_minibatches == 8
  assert config.rollouts_per_phase * 64 // config.auxiliary_minibatches == 4
  assert (config.rollouts_per_phase, config.auxiliary_epochs, config.rollout_length) == (32, 6, 256)
  assert config.policy_epochs == config.value_epochs == config.clone_coefficient == 1
  for optimizer in (config.optimizer, config.auxiliary_optimizer):
    assert (optimizer.learning_rate, optimizer.adam_epsilon) == (5e-4, 1e-8)
    assert (optimizer.max_gradient_norm, optimizer.weight_decay) == (0, 0)


ROLLOUTS, STEPS = 8, 8 * 8  # of the run that is resumed; groups of 3 rollouts


def catch_run():
  """A tiny run on Catch; 8 rollouts of 8 environments, groups of 3."""
  return ExperimentConfig(
    agent=dataclasses.replace(
      CONFIG, rollout_length=8, num_minibatches=2, auxiliary_minibatches=6, minibatches="columns"
    ),
    environment=EnvironmentConfig(game="catch", levels="easy-all", num_environments=8),
    training=TrainingConfig(total_environment_steps=ROLLOUTS * STEPS, checkpoint_every=10**6),
    evaluation=EvaluationConfig(
      every=10**6, num_environments=2, final_episodes_per_environment=1, policy="greedy"
    ),
  )


def run(directory, *, stop_in=None):
  """Runs or continues in `directory`; asks it to stop in rollout number `stop_in`."""
  with pytest.MonkeyPatch.context() as patch:
    collect = Actor.collect

    def collect_and_stop(actor, params, *, base_key, rollout):
      if rollout == stop_in:
        os.kill(os.getpid(), signal.SIGTERM)
      return collect(actor, params, base_key=base_key, rollout=rollout)

    patch.setattr(Actor, "collect", collect_and_stop)
    return runner.run(catch_run(), directory, command=["test"])


def rows_of(directory):
  """The training rows without what a clock says."""
  rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
  return [
    {k: x for k, x in row.items() if k != "seconds" and not k.startswith(("speed/", "memory/"))}
    for row in rows
    if row["kind"] == "training"
  ]


def final_snapshot(directory):
  config = catch_run()
  levels = config.environment.level_distribution
  spec = make_environment("catch", levels=levels, num_environments=8, seed=0).spec
  agent = make_ppg(config.agent, spec, total_environment_steps=ROLLOUTS * STEPS)
  template = Learner(agent, mesh=make_mesh(), seed=1).state
  checkpoints = Checkpoints(directory / "checkpoints", keep=2)
  step, snapshot = checkpoints.restore(template)
  checkpoints.close()
  assert step == ROLLOUTS * STEPS
  return snapshot


def test_resumed_in_the_middle_of_a_group_it_goes_on_bit_for_bit(tmp_path):
  """Stopped after 5 of 8 rollouts, the second group two thirds full."""
  assert run(tmp_path / "whole") == 0
  assert run(tmp_path / "parts", stop_in=4) == 75
  interrupted = rows_of(tmp_path / "parts")
  assert len(interrupted) == 5
  assert run(tmp_path / "parts") == 0
  rows = rows_of(tmp_path / "whole")
  assert rows == rows_of(tmp_path / "parts")
  assert [i + 1 for i, row in enumerate(rows) if "auxiliary/loss" in row] == [3, 6]
  whole, parts = (final_snapshot(tmp_path / name) for name in ("whole", "parts"))
  assert trees_equal(whole.train_state, parts.train_state)
  assert whole.host.keys() == parts.host.keys()
  for name, x in whole.host.items():
    np.testing.assert_array_equal(x, parts.host[name], err_msg=name)
  # The third group is two thirds full at the end.
  assert whole.host["source/auxiliary/rollouts/observation"].shape[:2] == (8, 2 * 8)
