"""Q-learning as a usual DQN, and every form on the way there, against references and rlax."""

import dataclasses
import operator
import re

from coded_network import MODEL, PARAMS, code, make_record, scalar
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax
from slow_reference import (
  GAMMA,
  SEQUENCES,
  SETTINGS,
  STARTS,
  STEPS,
  UNROLL,
  coded_agent,
  episode_ends,
  gradient,
  random_targets,
  targets,
)

from agents.config import SelfSupervisionConfig
from agents.model import ModelConfig
import agents.q_learning.agent as q_learning
from agents.q_learning.config import (
  CategoricalHeadsConfig,
  QLearningConfig,
  QNetworkConfig,
  ScalarHeadsConfig,
  WorldModelConfig,
)
from agents.sequences import SequenceConfig
from environments.interface import EnvironmentSpec
from losses.categorical_support import CategoricalSupport
from networks.config import NatureCNNConfig, ResNetConfig
from networks.q_network import QNetwork
from training.averages import is_finite

KEY = jax.random.key(3)
SUPPORT = CategoricalSupport(low=-5.0, high=5.0, num_atoms=11)
# What the rungs of the ladder are made of; the control's own form has its tests elsewhere.
FORMS = {
  name: {"network": network, "heads": heads, "action_value": action_value}
  for name, network, heads, action_value in (
    ("dqn", QNetworkConfig(hidden=8), ScalarHeadsConfig(0.7), "direct"),
    ("dqn, categorical", QNetworkConfig(hidden=8), CategoricalHeadsConfig(), "direct"),
    ("dqn, decomposed", QNetworkConfig(hidden=8), ScalarHeadsConfig(0.7), "reward_and_value"),
    ("model step", WorldModelConfig(), ScalarHeadsConfig(0.7), "direct"),
    ("model step, categorical", WorldModelConfig(), CategoricalHeadsConfig(), "direct"),
  )
}


def coded_direct(monkeypatch, **changed):
  """The coded network with one head for Q."""
  model = dataclasses.replace(MODEL, reward_support=ModelConfig().reward_support)  # read by nothing
  settings = SETTINGS | {"sequences": SEQUENCES, "value_coefficient": 0.5, "model": model} | changed
  config = QLearningConfig(action_value="direct", **settings)
  return coded_agent(monkeypatch, q_learning, "make_q_learning", config)


def small_model(*, network, heads, action_value):
  """Small sizes and supports, as far as a form reads them."""
  sizes = {"dynamics_blocks": 0, "head_channels": 2, "hidden": 6}
  settings = sizes if isinstance(network, WorldModelConfig) else {}
  if isinstance(heads, CategoricalHeadsConfig):
    settings = settings | {"value_support": SUPPORT}
    if action_value != "direct":
      settings |= {"reward_support": SUPPORT}
  return ModelConfig(**settings)


def small_config(**changed):
  """A real network on frames of 10 x 10, whose optimiser is replaced by plain steps."""
  form = {
    name: changed.get(name, getattr(QLearningConfig(), name))
    for name in ("network", "heads", "action_value")
  }
  settings = {
    "backbone": NatureCNNConfig(kernels=(4, 3), strides=(2, 1), channels=(3, 4)),
    "model": small_model(**form),
    "sequences": SequenceConfig(
      starts=2, unroll_steps=2, bootstrap_steps=2, batch_size=10, capacity=1000, min_size=100
    ),
    "discount": GAMMA,
  }
  return QLearningConfig(**(settings | changed))


def small_agent(monkeypatch, *, optimizer=None, **changed):
  """Descends with plain steps of size 1 unless told otherwise."""
  monkeypatch.setattr(q_learning, "make_optimizer", lambda *_, **__: optimizer or optax.sgd(1.0))
  environment = EnvironmentSpec("small", 5, (10, 10, 3), 4, 100)
  return q_learning.make_q_learning(
    small_config(**changed), environment, total_environment_steps=1000
  )


def small_record(config, *, seed=0):
  """A drawn record `[L, 5, ...]` with episode ends, on frames of noise."""
  rng = np.random.default_rng(seed)
  shape = (config.sequences.length, 5)
  sample = (config.sequences.starts, 5)
  return {
    "observation": rng.integers(0, 256, (*shape, 10, 10, 3)).astype(np.uint8),
    "action": rng.integers(0, 4, shape).astype(np.int32),
    "reward": rng.normal(scale=2.0, size=shape).astype(np.float32),
    "discount": (rng.uniform(size=shape) > 0.2).astype(np.float32),
    "importance_weight": rng.uniform(0.1, 1.0, sample).astype(np.float32),
    "age": np.ones(sample, np.int32),
    "environment": np.zeros(sample, np.int32),
    "frame_number": np.zeros(sample, np.int32),
  }


def jitter(params, *, seed=1):
  """Parameters away from those given, heads included."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: x + jnp.asarray(rng.normal(scale=0.3, size=x.shape), x.dtype), params
  )


def moved(state):
  """The state with parameters away from 0, and others in its target network."""
  return state.replace(params=jitter(state.params), target_params=jitter(state.params, seed=2))


def action_values(settings, params, frames, *, halved=False):
  """Q `[B, A]` of frames `[B, H, W, C]`; where halved, half the gradient into their encoding."""
  values = q_learning.make_action_values(small_config(**settings), num_actions=4)
  latent = values.represent(params, frames[None])[0]
  if halved:
    stopped = jax.lax.stop_gradient(latent)
    latent = stopped + 0.5 * (latent - stopped)
  return values.of_latent(params, latent)


@pytest.mark.parametrize(("steps", "n"), [(1, 1), (UNROLL, STEPS)])
def test_direct_targets_equal_the_slow_reference(monkeypatch, steps, n):
  """One head has the whole n-step return; past the end of an episode it has 0."""
  sequences = dataclasses.replace(SEQUENCES, bootstrap_steps=n, priority_exponent=1.0)
  agent = coded_direct(monkeypatch, model_steps=steps, sequences=sequences)
  record = make_record(episode_ends()[: STARTS + UNROLL + n], starts=STARTS)
  state = agent.init(KEY)
  state = state.replace(params=jax.tree.map(lambda x: x + 1.0, state.target_params))
  batch = jax.tree.map(np.asarray, jax.jit(agent.phases[0].make_targets)(state, record, KEY))
  x = 0.1 * code(record["observation"])
  q = scalar(0.02 * (0.7 * x[..., None] + 0.3 * np.arange(3)[None, None]))  # the value head alone
  value, _, inside = targets(record, q.max(axis=-1), unroll_steps=steps, n=n)
  np.testing.assert_allclose(batch.value[:, 1:], value[:, :-1], atol=2e-4)
  np.testing.assert_array_equal(batch.value[:, 0], 0.0)
  np.testing.assert_array_equal(batch.inside, inside)
  taken = np.take_along_axis(q[:STARTS], record["action"][:STARTS, :, None], axis=-1)[..., 0]
  np.testing.assert_allclose(batch.priority, np.abs(taken.T - value[:, 0]), atol=4e-4)


@pytest.mark.parametrize("steps", [1, UNROLL])
def test_direct_gradients_are_the_hand_derived_ones(monkeypatch, steps):
  agent = coded_direct(monkeypatch, model_steps=steps)
  state = agent.init(KEY)
  record = make_record(episode_ends(), starts=STARTS)
  batch = jax.jit(agent.phases[0].make_targets)(state, record, KEY)
  batch = random_targets(jax.tree.map(np.asarray, batch), np.random.default_rng(0))
  after, metrics = jax.jit(agent.phases[0].update)(state, batch, KEY)
  weights = np.array([0.0] + [1.0 / steps] * steps)
  coefficients = {"value": 0.5, "reward": 0.0}
  expected = gradient(PARAMS, batch, weights=weights, coefficients=coefficients)
  for name, x in expected.items():
    descended = np.asarray(state.params[name]) - np.asarray(after.params[name])
    np.testing.assert_allclose(descended, x, rtol=2e-3, atol=2e-6, err_msg=name)
  assert np.abs(expected["value"]) > 1e-4
  assert "reward_loss" not in metrics


@pytest.mark.parametrize("form", ["dqn", "model step"])
def test_a_scalar_direct_update_is_rlaxs(monkeypatch, form):
  """1-step: r + g max_a Q'(s', a) with the target network's Q' alone, and Huber's gradient.

  Into a model step half of the gradient goes, by design.
  """
  sequences = SequenceConfig(
    starts=1, unroll_steps=1, bootstrap_steps=1, batch_size=5, capacity=1000, min_size=100
  )
  settings = FORMS[form] | {"sequences": sequences, "value_coefficient": 1.5}
  agent = small_agent(monkeypatch, **settings)
  record = small_record(small_config(**settings))
  state = moved(jax.jit(agent.init)(KEY))
  batch = jax.jit(agent.phases[0].make_targets)(state, record, KEY)
  after, metrics = jax.jit(agent.phases[0].update)(state, batch, KEY)

  @jax.jit
  def loss(params):
    q_t = action_values(settings, state.target_params, record["observation"][1])
    q_tm1 = action_values(settings, params, record["observation"][0], halved=form == "model step")
    error = jax.vmap(rlax.q_learning)(
      q_tm1, record["action"][0], record["reward"][0], GAMMA * record["discount"][0], q_t
    )
    return 1.5 * jnp.mean(record["importance_weight"][0] * rlax.huber_loss(error, 0.7))

  expected, slope = jax.value_and_grad(loss)(state.params)
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
  assert metrics["loss"] > 0.1
  before, new = (dict(jax.tree_util.tree_leaves_with_path(x.params)) for x in (state, after))
  for path, x in jax.tree_util.tree_leaves_with_path(slope):
    descended = np.asarray(before[path]) - np.asarray(new[path])
    # float32 through a LayerNorm over 4 channels, compiled twice: within 1 % of the largest
    tolerance = 0.01 * float(np.max(np.abs(x)))
    assert tolerance > 0.0, path
    np.testing.assert_allclose(descended, x, atol=tolerance, rtol=0.0, err_msg=path)


@pytest.fixture(scope="module", params=FORMS)
def form(request):
  """A form of the network: its settings, its agent, and a state with heads away from 0."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    agent = small_agent(monkeypatch, optimizer=optax.adam(1e-2), **FORMS[request.param])
  return FORMS[request.param], agent, moved(jax.jit(agent.init)(KEY))


def test_n_step_targets_are_rlaxs(form):
  """Whatever the network says Q is, r + g V or Q is trained to the same kind of return."""
  settings, agent, state = form
  config = small_config(**settings)
  record = small_record(config)
  batch = jax.jit(agent.phases[0].make_targets)(state, record, KEY)
  frames = record["observation"][1:]
  q = jax.jit(lambda x: action_values(settings, state.target_params, x))(
    frames.reshape(-1, 10, 10, 3)
  )
  best = q.max(axis=-1).reshape(frames.shape[:2])
  returns = jax.vmap(
    lambda r, g, v: rlax.n_step_bootstrapped_returns(r, g, v, 2), in_axes=1, out_axes=1
  )(record["reward"][:-1], GAMMA * record["discount"][:-1], best)
  q_target = batch.value[:, 1]
  if config.action_value == "reward_and_value":
    q_target = batch.reward[:, 0] + GAMMA * q_target
  expected = returns[: config.sequences.starts].T
  np.testing.assert_allclose(q_target, expected, rtol=1e-4, atol=1e-4)
  assert np.std(expected) > 0.5


def test_heads_of_a_number_start_at_random_and_categorical_ones_at_0(form):
  """Of numbers that are all 0 the first action is the best one until a first reward comes."""
  settings, agent, _ = form
  params = jax.jit(agent.init)(KEY).params
  frames = np.random.default_rng(2).integers(0, 256, (30, 10, 10, 3)).astype(np.uint8)
  q = np.asarray(jax.jit(lambda x: action_values(settings, params, x))(frames))
  if isinstance(settings["heads"], CategoricalHeadsConfig):
    np.testing.assert_allclose(q, 0.0, atol=1e-5)
    return
  assert np.median(np.ptp(q, axis=1)) > 0.01
  heads = [each for name, each in params["params"].items() if name.endswith("_head")]
  assert len(heads) == (2 if settings["action_value"] == "reward_and_value" else 1)
  for head in heads:
    kernel = np.asarray(head["dense"]["kernel"])
    bound = len(kernel) ** -0.5  # Nature DQN's code: uniform within 1 / sqrt(fan-in)
    assert 0.6 * bound < np.abs(kernel).max() <= bound


def test_every_form_learns_its_targets(form):
  """Descending on one batch brings every head to what it is trained on."""
  settings, agent, state = form
  phase, record = agent.phases[0], small_record(small_config(**settings))
  update = jax.jit(phase.update)
  batch = jax.jit(phase.make_targets)(state, record, KEY)
  history = []
  for _ in range(40):
    state, metrics = update(state, batch, KEY)
    history.append(metrics)
  parts = {"value"} if settings["action_value"] == "direct" else {"value", "reward"}
  assert {name for name in ("value", "reward") if f"{name}_loss" in history[0]} == parts
  assert {name.split("_")[0] for name in state.params["params"] if name.endswith("head")} == parts
  for part in parts:
    assert history[-1][f"{part}_loss"] < 0.8 * history[0][f"{part}_loss"], part
  assert ("latent_drift" in history[0]) == (settings["network"] == WorldModelConfig())


def test_a_batch_without_any_reward_has_finite_metrics(form):
  """Every run on a sparse game draws such batches, with all targets equal, before it learns."""
  settings, agent, state = form
  record = small_record(small_config(**settings))
  record = record | {name: np.zeros_like(record[name]) for name in ("reward", "discount")}
  batch = jax.jit(agent.phases[0].make_targets)(state, record, KEY)
  assert not np.any(batch.value)
  _, metrics = jax.jit(agent.phases[0].update)(state, batch, KEY)
  assert [name for name, x in metrics.items() if not is_finite(x)] == []


def test_acting_takes_the_best_action(form):
  settings, agent, state = form
  frames = np.random.default_rng(2).integers(0, 256, (30, 10, 10, 3)).astype(np.uint8)
  q = np.asarray(jax.jit(lambda x: action_values(settings, state.params, x))(frames))
  output = jax.jit(agent.act_greedy)(agent.policy_params(state), frames, KEY)
  np.testing.assert_array_equal(output.action, np.argmax(q, axis=-1))
  np.testing.assert_allclose(output.extras["value"], np.max(q, axis=-1), rtol=1e-4, atol=1e-5)
  assert len(set(np.asarray(output.action).tolist())) > 1


@pytest.mark.parametrize(("frame", "actions", "parameters"), [
  ((84, 84, 4), 4, 1_686_180),  # the published network on a game of 4 actions
  ((64, 64, 3), 15, 608_431),
])  # fmt: skip
def test_a_usual_dqn_has_the_published_number_of_parameters(frame, actions, parameters):
  config = QLearningConfig(
    backbone=NatureCNNConfig(), network=QNetworkConfig(), heads=ScalarHeadsConfig(),
    action_value="direct",
  )  # fmt: skip
  environment = EnvironmentSpec("any", 1, frame, actions, 100)
  agent = q_learning.make_q_learning(config, environment, total_environment_steps=10**6)
  params = jax.eval_shape(agent.init, KEY).params
  assert sum(x.size for x in jax.tree.leaves(params)) == parameters


def test_the_q_network_against_numpy():
  """Dense layer, relu, and a row of outputs for every action, actions first."""
  network = QNetwork(
    ResNetConfig((2,), (2,), (3,), blocks=0), 5, num_actions=4, num_value_outputs=3,
    num_reward_outputs=2,
  )  # fmt: skip
  frames = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3)).astype(np.uint8)

  def everything(module, x):
    latent = module.represent(x)
    return latent, module.value(latent), module.reward(latent)

  variables = jitter(network.init(KEY, frames, method=everything))
  latent, value, reward = network.apply(variables, frames, method=everything)
  p = jax.tree.map(np.asarray, variables["params"])
  dense = np.asarray(latent).reshape(2, -1) @ p["features"]["kernel"]
  hidden = np.maximum(dense + p["features"]["bias"][None], 0)
  for head, outputs, width in (("value_head", value, 3), ("reward_head", reward, 2)):
    flat = hidden @ p[head]["dense"]["kernel"] + p[head]["dense"]["bias"][None]
    np.testing.assert_allclose(outputs, flat.reshape(2, 4, width), rtol=1e-4, atol=1e-5)


def replaced(config, name, value):
  """`config` with the field of a dotted name replaced."""
  first, _, rest = name.partition(".")
  inner = replaced(getattr(config, first), rest, value) if rest else value
  return dataclasses.replace(config, **{first: inner})


def has_field(config, name):
  """Whether there is a field of that dotted name."""
  section, _, last = name.rpartition(".")
  return hasattr(operator.attrgetter(section)(config) if section else config, last)


def traced(config):
  """Everything that the agent computes, as text, down to the constants."""
  environment = EnvironmentSpec("small", 5, (10, 10, 3), 4, 100)
  agent = q_learning.make_q_learning(config, environment, total_environment_steps=1000)

  def everything(key, record):
    state = agent.init(key)
    batch = agent.phases[0].make_targets(state, record, key)
    acted = agent.act(agent.policy_params(state), record["observation"][0], key)
    return agent.phases[0].update(state, batch, key), acted

  closed = jax.make_jaxpr(everything)(KEY, small_record(config))
  constants = "".join(str(np.asarray(x).tolist()) for x in closed.consts)
  return re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)) + constants  # without addresses of functions


# Fields whose value another field may make meaningless -> another value than the small one's.
READ_OR_REFUSED = {
  "model.dynamics_blocks": 2,
  "model.head_channels": 3,
  "model.hidden": 7,
  "model.value_support": CategoricalSupport(low=-6.0, high=6.0, num_atoms=11),
  "model.reward_support": CategoricalSupport(low=-6.0, high=6.0, num_atoms=11),
  "value_coefficient": 0.3,
  "reward_coefficient": 0.3,
  "network.hidden": 9,
  "heads.huber_delta": 0.4,
}


def attempt(config, name, value):
  """The config with a field set, or the words in which that is refused."""
  try:
    return replaced(config, name, value)
  except ValueError as error:
    return str(error)


@pytest.mark.parametrize("form", [*FORMS, "control"])
def test_every_field_that_a_form_could_leave_out_is_read_or_refused(form):
  """What is set changes what is computed, or is an error that names it."""
  config = small_config(**FORMS.get(form, {}))
  there = {name: x for name, x in READ_OR_REFUSED.items() if has_field(config, name)}
  outcomes = {name: attempt(config, name, value) for name, value in there.items()}
  refused = {name: said for name, said in outcomes.items() if isinstance(said, str)}
  for name, said in refused.items():
    assert said.startswith(f"agent.{name} must be ")
    assert "its default, as nothing reads it: agent." in said
  usual = traced(config)
  assert traced(config) == usual
  for name in outcomes.keys() - refused.keys():
    assert traced(outcomes[name]) != usual, name
  assert bool(refused) == (form != "control")


MISTAKES = [
  ({"action_value": "q"}, "agent.action_value"),
  ({"network": QNetworkConfig(), "model_steps": 2}, "agent.model_steps"),
  (
    {"network": QNetworkConfig(), "self_supervision": SelfSupervisionConfig(spr_coefficient=1.0)},
    "agent.self_supervision.spr_coefficient",
  ),
  (
    {"sequences": dataclasses.replace(SEQUENCES, bootstrap_steps=1)},
    "agent.sequences.bootstrap_steps",
  ),
]


@pytest.mark.parametrize(("settings", "field"), MISTAKES, ids=[field for _, field in MISTAKES])
def test_what_does_not_go_together_is_refused(settings, field):
  with pytest.raises(ValueError, match=rf"^{field} must be "):
    QLearningConfig(**settings)


def test_wrong_sizes_are_refused():
  with pytest.raises(ValueError, match=r"agent\.network\.hidden must be an integer above 0, got 0"):
    QNetworkConfig(hidden=0)
  with pytest.raises(ValueError, match=r"agent\.heads\.huber_delta must be above 0, got 0"):
    ScalarHeadsConfig(huber_delta=0)
  QLearningConfig(
    action_value="direct", sequences=dataclasses.replace(SEQUENCES, bootstrap_steps=1)
  )
