"""PPO against references in numpy that share no code with it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agents.config import OptimizerConfig
from agents.optimizers import make_optimizer
from agents.ppo.agent import make_ppo
from agents.ppo.config import PPOConfig
from agents.ppo.loss import PPOBatch, explained_variance, ppo_loss
from environments.interface import EnvironmentSpec
from losses.policy import normalise_advantage
from networks.actor_critic import ActorCriticOutput
from networks.config import ResNetConfig
from replay.interface import Trajectory

T, B, A = 6, 3, 4
SPEC = EnvironmentSpec("test", B, (16, 16, 3), A, time_limit=100)
CONFIG = PPOConfig(
  backbone=ResNetConfig(stem_kernels=(8,), stem_strides=(8,), stem_channels=(4,), blocks=0),
  hidden=8,
  rollout_length=T,
  epochs=2,
  num_minibatches=3,
  discount=0.9,
  gae_lambda=0.8,
  reward_discount=0.7,
  reward_clip=1.2,
)


@pytest.fixture(scope="module")
def agent():
  return make_ppo(CONFIG, SPEC, total_environment_steps=T * B * 10)


@pytest.fixture(scope="module")
def state(agent):
  return jax.jit(agent.init)(jax.random.key(0))


def make_trajectory(seed: int) -> Trajectory:
  """A trajectory of noise with ends in the middle, in its last step and nowhere."""
  generator = np.random.default_rng(seed)
  discount = np.ones((T, B), np.float32)
  discount[2, 0] = discount[3, 0] = discount[-1, 1] = 0
  return Trajectory(
    observation=generator.integers(0, 256, (T, B, 16, 16, 3), np.uint8),
    action=generator.integers(0, A, (T, B), np.int32),
    reward=generator.normal(0, 5, (T, B)).astype(np.float32),
    discount=discount,
    extras={
      "log_prob": generator.normal(-1, 0.3, (T, B)).astype(np.float32),
      "value": generator.normal(0, 1, (T, B)).astype(np.float32),
    },
    final_observation=generator.integers(0, 256, (B, 16, 16, 3), np.uint8),
  )


class ReferenceScaling:
  """Baselines' VecNormalize in float64: all samples kept, the variance taken anew each step."""

  def __init__(self):
    # A running variance that begins at mean 0, variance 1 with the weight of 1e-4 samples.
    self.samples, self.discounted = [], np.zeros(B)

  def scale(self, reward: np.ndarray, discount: np.ndarray) -> np.ndarray:
    scaled = np.zeros((T, B))
    for t in range(T):
      self.discounted = CONFIG.reward_discount * self.discounted + reward[t]
      self.samples.extend(self.discounted)
      x, prior = np.asarray(self.samples), 1e-4
      mean = x.sum() / (len(x) + prior)
      second = (np.sum(x**2) + prior * 1.0) / (len(x) + prior)
      spread = np.sqrt(second - mean**2 + 1e-8)
      scaled[t] = np.clip(reward[t] / spread, -CONFIG.reward_clip, CONFIG.reward_clip)
      self.discounted = self.discounted * discount[t]
    return scaled


def reference_advantage(reward, discount, value, final_value):
  """Each advantage as its own sum of discounted errors, Schulman et al. 2016, eq. 16."""
  values = np.concatenate([value, final_value[None]]).astype(np.float64)
  advantage = np.zeros((T, B))
  for b in range(B):
    for t in range(T):
      weight = 1.0
      for i in range(t, T):
        mask = float(discount[i, b])
        error = reward[i, b] + CONFIG.discount * mask * values[i + 1, b] - values[i, b]
        advantage[t, b] += weight * error
        weight *= CONFIG.discount * CONFIG.gae_lambda * mask
  return advantage


def test_on_arrival_rewards_are_scaled_and_advantages_estimated(agent, state):
  """Two rollouts in a row: the running statistics are carried, and each is used once."""
  reference = ReferenceScaling()
  postprocess = jax.jit(agent.postprocess)
  for seed in (1, 2):
    trajectory = make_trajectory(seed)
    final = agent.act_greedy(state.params, trajectory.final_observation, jax.random.key(0))
    state, record = postprocess(state, trajectory)
    scaled = reference.scale(trajectory.reward.astype(np.float64), trajectory.discount)
    expected = reference_advantage(
      scaled, trajectory.discount, trajectory.extras["value"], np.asarray(final.extras["value"])
    )
    np.testing.assert_allclose(record["advantage"], expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(
      record["value_target"], expected + trajectory.extras["value"], rtol=2e-4, atol=2e-5
    )
    for name in ("observation", "action"):
      np.testing.assert_array_equal(record[name], getattr(trajectory, name))
    for name in ("log_prob", "value"):
      np.testing.assert_array_equal(record[name], trajectory.extras[name])
  assert np.abs(scaled).max() == CONFIG.reward_clip, "the limit of rewards was not exercised"


def test_one_unit_of_value_is_what_rewards_are_divided_by(agent, state):
  trajectory, reference = make_trajectory(3), ReferenceScaling()
  reference.scale(trajectory.reward, trajectory.discount)
  after, _ = jax.jit(agent.postprocess)(state, trajectory)
  spread = np.std(reference.samples)
  np.testing.assert_allclose(agent.reported_value.scale(after), spread, rtol=1e-4)
  assert agent.reported_value.discount == CONFIG.discount
  np.testing.assert_allclose(agent.reported_value.scale(state), 1.0, rtol=1e-6)


def test_nothing_crosses_an_episodes_end(agent, state):
  """Values and rewards of a million after an end change nothing before it."""
  trajectory = make_trajectory(3)
  _, record = agent.postprocess(state, trajectory)
  value = trajectory.extras["value"].copy()
  value[4:, 0] = 1e6  # the episode of environment 0 ended with step 3
  extras = {**trajectory.extras, "value": value}
  _, changed = agent.postprocess(state, trajectory._replace(extras=extras))
  np.testing.assert_array_equal(record["advantage"][:4, 0], changed["advantage"][:4, 0])
  assert np.all(np.abs(changed["advantage"][4:, 0]) > 1e4)
  np.testing.assert_array_equal(record["advantage"][:, 1:], changed["advantage"][:, 1:])


def test_only_an_unfinished_episode_bootstraps_from_the_final_observation(agent, state):
  trajectory = make_trajectory(4)
  brighter = trajectory._replace(final_observation=255 - trajectory.final_observation)
  _, record = agent.postprocess(state, trajectory)
  _, changed = agent.postprocess(state, brighter)
  # Environment 1 ended with the last step; 0 and 2 did not.
  np.testing.assert_array_equal(record["advantage"][:, 1], changed["advantage"][:, 1])
  assert np.all(record["advantage"][-1, [0, 2]] != changed["advantage"][-1, [0, 2]])


def test_a_batch_holds_every_step_once(agent, state):
  trajectory = make_trajectory(5)
  _, record = agent.postprocess(state, trajectory)
  batch = agent.phases[0].make_targets(state, record, jax.random.key(0))
  for name in ("observation", "action", "log_prob", "value", "advantage", "value_target"):
    x = np.asarray(getattr(batch, name))
    expected = [record[name][t, b] for t in range(T) for b in range(B)]
    np.testing.assert_array_equal(x, np.stack(expected))


def make_batch(seed: int, size: int) -> tuple[ActorCriticOutput, PPOBatch]:
  """Outputs and a batch in which every case of both clips occurs."""
  generator = np.random.default_rng(seed)
  logits = generator.normal(0, 1, (size, A)).astype(np.float32)
  action = generator.integers(0, A, size).astype(np.int32)
  now = (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(size), action]
  old_value = generator.normal(0, 1, size).astype(np.float32)
  batch = PPOBatch(
    observation=np.zeros((size, 1, 1, 1), np.uint8),
    action=action,
    log_prob=(now + generator.uniform(-0.5, 0.5, size)).astype(np.float32),
    value=old_value,
    advantage=generator.normal(1, 3, size).astype(np.float32),
    value_target=generator.normal(0, 1, size).astype(np.float32),
  )
  value = (old_value + generator.uniform(-0.6, 0.6, size)).astype(np.float32)
  return ActorCriticOutput(logits=logits, value=value), batch


def reference_loss(logits, value, batch, config):
  """PPO's loss in float64, one step at a time."""
  advantage = batch.advantage.astype(np.float64)
  normalised = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
  total = 0.0
  for i in range(len(value)):
    p = np.exp(logits[i] - logits[i].max())
    p /= p.sum()
    ratio = p[batch.action[i]] / np.exp(float(batch.log_prob[i]))
    limited = min(max(ratio, 1 - config.clip), 1 + config.clip)
    surrogate = min(ratio * normalised[i], limited * normalised[i])
    old, target = float(batch.value[i]), float(batch.value_target[i])
    moved = min(max(value[i] - old, -config.value_clip), config.value_clip)
    error = max((value[i] - target) ** 2, (old + moved - target) ** 2)
    entropy = -np.sum(p * np.log(p))
    total += -surrogate
    total += config.value_coefficient * 0.5 * error
    total -= config.entropy_coefficient * entropy
  return total / len(value)


def minibatch_loss(output, batch, config):
  """The loss of a whole minibatch, advantages normalised over it, as an update takes it."""
  return ppo_loss(output, batch.replace(advantage=normalise_advantage(batch.advantage)), config)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_loss_equals_the_reference(seed):
  output, batch = make_batch(seed, 64)
  loss, metrics = minibatch_loss(output, batch, CONFIG)
  expected = reference_loss(
    output.logits.astype(np.float64), output.value.astype(np.float64), batch, CONFIG
  )
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  assert 0.1 < metrics["clip_fraction"] < 0.9, "both sides of the clip should occur"
  parts = (
    metrics["policy_loss"]
    + CONFIG.value_coefficient * metrics["value_loss"]
    - CONFIG.entropy_coefficient * metrics["entropy"]
  )
  np.testing.assert_allclose(metrics["loss"], parts, rtol=1e-6)


def test_the_gradient_equals_finite_differences():
  output, batch = make_batch(7, 16)
  gradient = jax.grad(lambda x: minibatch_loss(x, batch, CONFIG)[0])(output)
  logits, value = output.logits.astype(np.float64), output.value.astype(np.float64)
  h = 1e-6
  for i in range(16):
    for a in range(A):
      step = np.zeros_like(logits)
      step[i, a] = h
      up = reference_loss(logits + step, value, batch, CONFIG)
      down = reference_loss(logits - step, value, batch, CONFIG)
      np.testing.assert_allclose(gradient.logits[i, a], (up - down) / (2 * h), atol=2e-5)
    step = np.zeros_like(value)
    step[i] = h
    up = reference_loss(logits, value + step, batch, CONFIG)
    down = reference_loss(logits, value - step, batch, CONFIG)
    np.testing.assert_allclose(gradient.value[i], (up - down) / (2 * h), atol=2e-5)


def test_advantages_are_normalised_over_the_minibatch_alone():
  """Doubling and shifting a minibatch's advantages changes nothing."""
  output, batch = make_batch(3, 32)
  other = batch.replace(advantage=2 * batch.advantage + 7)
  np.testing.assert_allclose(
    minibatch_loss(output, batch, CONFIG)[0], minibatch_loss(output, other, CONFIG)[0], rtol=1e-4
  )


def test_a_minibatch_without_variation_gives_finite_metrics():
  """No reward at all is no reason to stop a run: what is undefined must not be NaN."""
  output, batch = make_batch(3, 8)
  target = np.float32(50.0) + np.float32([0, 4e-6, -4e-6, 8e-6, 0, 0, -8e-6, 4e-6])
  batch = batch.replace(advantage=np.zeros(8, np.float32), value_target=target)
  _, metrics = minibatch_loss(output, batch, CONFIG)
  assert all(np.isfinite(x) for x in metrics.values()), metrics
  assert explained_variance(metrics) == (0.0, 0.0)


def test_explained_variance_from_the_means():
  output, batch = make_batch(3, 64)
  variance = np.var(batch.value_target)
  expected = (variance - np.var(batch.value_target - output.value), variance)
  metrics = minibatch_loss(output, batch, CONFIG)[1]
  np.testing.assert_allclose(explained_variance(metrics), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["value", "entropy"])
def test_every_coefficient_weighs_its_own_loss(name):
  """Each part has a coefficient of its name; the policy's is 1 by definition."""
  output, batch = make_batch(4, 32)
  field = f"{name}_coefficient"
  at = [
    minibatch_loss(output, batch, dataclasses.replace(CONFIG, **{field: weight}))
    for weight in (0.0, 1.0, 3.0)
  ]
  part = {"value": at[0][1]["value_loss"], "entropy": -at[0][1]["entropy"]}[name]
  np.testing.assert_allclose(at[1][0] - at[0][0], part, rtol=1e-5)
  np.testing.assert_allclose(at[2][0] - at[0][0], 3 * part, rtol=1e-5)


def test_loss_names_are_coefficient_names():
  output, batch = make_batch(4, 8)
  metrics = minibatch_loss(output, batch, CONFIG)[1]
  losses = {name.removesuffix("_loss") for name in metrics if name.endswith("_loss")}
  fields = {field.name for field in dataclasses.fields(PPOConfig)}
  coefficients = {name.removesuffix("_coefficient") for name in fields if "coefficient" in name}
  # The entropy is reported as itself, the policy's loss has no coefficient but 1.
  assert losses | {"entropy"} == coefficients | {"policy"}


def largest_move(before, after) -> list[float]:
  """Returns the largest change in every array of two trees."""
  pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
  return [float(np.abs(np.asarray(b) - np.asarray(a)).max()) for a, b in pairs]


def test_an_update_moves_every_parameter_by_at_most_the_learning_rate(agent, state):
  """Adam's first step is the learning rate times the gradient's sign, but for epsilon."""
  state, record = agent.postprocess(state, make_trajectory(6))
  batch = agent.phases[0].make_targets(state, record, jax.random.key(0))
  after, metrics = jax.jit(agent.phases[0].update)(state, batch, jax.random.key(0))
  moved = largest_move(state.params, after.params)
  rate = CONFIG.optimizer.learning_rate
  assert max(moved) <= rate * 1.001
  assert min(moved) > 0.5 * rate, "some parameters do not learn"
  assert metrics["gradient_norm"] > 0
  # What is not learnt by gradients is not touched.
  assert max(largest_move(state.reward_scaling, after.reward_scaling)) == 0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_schedule_ends_with_the_run(schedule):
  """4 rollouts and one step are 5 rollouts, each of 2 epochs of 3 minibatches: 30 updates."""
  config = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(schedule=schedule))
  agent = make_ppo(config, SPEC, total_environment_steps=4 * T * B + 1)
  state, record = agent.postprocess(agent.init(jax.random.key(0)), make_trajectory(6))
  batch = agent.phases[0].make_targets(state, record, jax.random.key(0))
  update = jax.jit(agent.phases[0].update)
  moved = []
  for _ in range(31):
    after, _ = update(state, batch, jax.random.key(0))
    moved.append(max(largest_move(state.params, after.params)))
    state = after
  rate = config.optimizer.learning_rate
  assert moved[0] > 0.9 * rate
  assert moved[29] > 1e-3 * rate
  assert moved[30] < 1e-6 * rate


def reference_adam(config, gradients, params, total):
  """Adam with decoupled decay and a limit of the gradient norm, in float64.

  Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
  """
  m, v = np.zeros_like(params), np.zeros_like(params)
  for t, gradient in enumerate(gradients, 1):
    norm = np.sqrt(np.sum(gradient**2))
    limit = config.max_gradient_norm
    if limit and norm > limit:
      gradient = gradient * limit / norm
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    fraction = (t - 1) / total
    rate = (
      config.learning_rate
      * {
        "constant": 1.0,
        "linear": 1 - fraction,
        "cosine": 0.5 * (1 + np.cos(np.pi * fraction)),
      }[config.schedule]
    )
    root = np.sqrt(v / (1 - 0.999**t)) + config.adam_epsilon
    params = params - rate * (m / (1 - 0.9**t) / root + config.weight_decay * params)
  return params


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"adam_epsilon": 0.3},
    {"max_gradient_norm": 0.0},
    {"schedule": "linear", "learning_rate": 0.1},
    {"schedule": "cosine", "weight_decay": 0.5},
  ],
)
def test_the_optimiser_equals_adam_written_out(changes):
  config = dataclasses.replace(OptimizerConfig(learning_rate=0.01), **changes)
  generator = np.random.default_rng(0)
  params, gradients = generator.normal(size=5), generator.normal(size=(8, 5))
  optimizer = make_optimizer(config, total_updates=10)
  x = jnp.asarray(params, jnp.float32)
  opt_state = optimizer.init(x)
  for gradient in gradients:
    updates, opt_state = optimizer.update(jnp.asarray(gradient, jnp.float32), opt_state, x)
    x = optax.apply_updates(x, updates)
  np.testing.assert_allclose(x, reference_adam(config, gradients, params, 10), rtol=1e-5)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("learning_rate", 0.0),
    ("learning_rate", float("nan")),
    ("schedule", "exponential"),
    ("adam_epsilon", 0.0),
    ("max_gradient_norm", -1.0),
    ("weight_decay", -0.1),
  ],
)
def test_a_wrong_optimiser_setting_is_named(field, value):
  with pytest.raises(ValueError, match=rf"optimizer\.{field} must be .*{value}"):
    OptimizerConfig(**{field: value})


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("hidden", 0),
    ("rollout_length", 2.0),
    ("epochs", -1),
    ("num_minibatches", True),
    ("discount", 1.5),
    ("gae_lambda", -0.1),
    ("reward_discount", float("nan")),
    ("clip", 1.0),
    ("value_clip", 0.0),
    ("reward_clip", -1.0),
    ("value_coefficient", -0.5),
    ("entropy_coefficient", -0.01),
  ],
)
def test_a_wrong_setting_is_named(field, value):
  with pytest.raises(ValueError, match=rf"agent\.{field} must be .*{value}"):
    PPOConfig(**{field: value})


def test_a_rollout_that_does_not_divide_is_refused_before_anything_is_built():
  config = dataclasses.replace(CONFIG, num_minibatches=4)  # 6 x 3 steps
  with pytest.raises(ValueError, match=r"agent\.num_minibatches must be a divisor .*18 steps.* 4"):
    make_ppo(config, SPEC, total_environment_steps=100)


def test_acting_samples_from_the_policy_and_reports_it(agent, state):
  """Frequencies over many keys are the policy's; the extras are the action's own."""
  observation = np.repeat(make_trajectory(8).observation[:1, 0], 2000, axis=0)
  # Logits are near zero at the start; a policy with preferences tests more.
  params = jax.tree.map(lambda x: x, state.params)
  head = params["params"]["policy"]["dense"]
  bias = jnp.asarray([0.0, 1.0, 2.0, -1.0])
  params["params"]["policy"]["dense"] = {**head, "kernel": 0 * head["kernel"], "bias": bias}
  output = agent.act(params, observation, jax.random.key(3))
  probability = np.exp(bias) / np.exp(bias).sum()
  counts = np.bincount(output.action, minlength=A)
  spread = np.sqrt(2000 * probability * (1 - probability))
  assert np.all(np.abs(counts - 2000 * probability) < 5 * spread)
  np.testing.assert_allclose(
    output.extras["log_prob"], np.log(probability)[output.action], rtol=1e-5
  )
  greedy = agent.act_greedy(params, observation, jax.random.key(3))
  assert np.all(np.asarray(greedy.action) == 2)
  np.testing.assert_array_equal(greedy.extras["value"], output.extras["value"])


def test_the_published_settings_are_the_defaults():
  """Cobbe et al. 2020, section 3 and released code (SCIENCE.md, section 4)."""
  config = PPOConfig()
  assert (config.rollout_length, config.epochs, config.num_minibatches) == (256, 3, 8)
  assert (config.discount, config.gae_lambda, config.clip, config.value_clip) == (
    0.999, 0.95, 0.2, 0.2,
  )  # fmt: skip
  assert (config.value_coefficient, config.entropy_coefficient) == (0.5, 0.01)
  assert (config.reward_discount, config.reward_clip) == (0.99, 10.0)
  assert config.optimizer == OptimizerConfig(5e-4, "constant", 1e-5, 0.5, 0.0)
