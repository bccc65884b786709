"""Q-learning's targets, gradients and exploration, against slow references in closed form."""

import dataclasses

from coded_network import PARAMS, action_values_of, code, make_record, scalar
import jax
import numpy as np
import pytest
from slow_reference import (
  GAMMA,
  LENGTH,
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

import agents.q_learning.agent as q_learning
from agents.q_learning.config import ExplorationConfig, QLearningConfig

KEY = jax.random.key(3)
PRIORITISED = dataclasses.replace(SEQUENCES, priority_exponent=1.0)
COEFFICIENTS = {"value": 0.25, "reward": 1.3}


def make_agent(monkeypatch, *, sequences=SEQUENCES, **changed):
  settings = {f"{name}_coefficient": x for name, x in COEFFICIENTS.items()}
  config = QLearningConfig(sequences=sequences, **settings, **(SETTINGS | changed))
  return coded_agent(monkeypatch, q_learning, "make_q_learning", config)


def make_batch(agent, record):
  """Of a state whose online network is not its target network."""
  state = agent.init(KEY)
  state = state.replace(params=jax.tree.map(lambda x: x + 1.0, state.target_params))
  return jax.tree.map(np.asarray, jax.jit(agent.phases[0].make_targets)(state, record, KEY))


@pytest.mark.parametrize("steps", [1, UNROLL])
def test_targets_equal_the_slow_reference(monkeypatch, steps):
  """The n-step target of Q less the reward of the first step, which the other head learns."""
  record = make_record(episode_ends(), starts=STARTS)
  batch = make_batch(make_agent(monkeypatch, model_steps=steps, sequences=PRIORITISED), record)
  best = action_values_of(record["observation"], discount=GAMMA).max(axis=-1)
  value, reward, inside = targets(record, best, unroll_steps=steps, n=STEPS - 1)
  np.testing.assert_allclose(batch.value[:, 1:], value[:, 1:], atol=2e-4)
  np.testing.assert_array_equal(batch.reward, reward.astype(np.float32))
  np.testing.assert_array_equal(batch.inside, inside)
  whole, _, _ = targets(record, best, unroll_steps=steps, n=STEPS)
  q_target = batch.reward + GAMMA * batch.value[:, 1:]
  np.testing.assert_allclose(q_target, whole[:, :-1], atol=2e-4)
  # priority: error of the value head after the first model step, by the target network
  x = 0.7 * 0.1 * code(record["observation"][:STARTS]) + 0.3 * record["action"][:STARTS]
  predicted = scalar(PARAMS["value"] * x).T
  np.testing.assert_allclose(batch.priority, np.abs(predicted - value[:, 1]), atol=4e-4)
  for name in ("importance_weight", "age", "environment", "frame_number"):
    np.testing.assert_array_equal(getattr(batch, name), record[name].T, err_msg=name)


def test_nothing_after_the_end_changes_a_target(monkeypatch):
  """Frames, actions and rewards of the next level are replaced by others."""
  record = make_record(episode_ends(), starts=STARTS)
  other = make_record(episode_ends(), starts=STARTS, seed=1)
  ends = np.argmax(record["discount"] == 0.0, axis=0)
  ends[np.all(record["discount"] > 0.0, axis=0)] = LENGTH
  later = np.arange(LENGTH)[:, None] > ends[None, :]
  perturbed = dict(record)
  for name in ("observation", "action", "reward", "discount"):
    mask = later.reshape(later.shape + (1,) * (record[name].ndim - 2))
    perturbed[name] = np.where(mask, other[name], record[name])
  agent = make_agent(monkeypatch, model_steps=UNROLL)
  a, b = make_batch(agent, record), make_batch(agent, perturbed)
  mine = np.arange(STARTS)[None, :] <= ends[:, None]  # [N, S], starts in the first episode
  for name in ("value", "reward", "action", "inside"):
    x, y = (np.moveaxis(getattr(batch, name), 1, 2)[mine] for batch in (a, b))
    np.testing.assert_array_equal(x, y, err_msg=name)
  assert not np.array_equal(a.value, b.value)


@pytest.mark.parametrize("steps", [1, UNROLL])
def test_gradients_are_the_hand_derived_ones(monkeypatch, steps):
  """Halved into every model step, the first included; 1 / U for every model step."""
  agent = make_agent(monkeypatch, model_steps=steps)
  batch = make_batch(agent, make_record(episode_ends(), starts=STARTS))
  batch = random_targets(batch, np.random.default_rng(0))
  state = agent.init(KEY)
  after, _ = jax.jit(agent.phases[0].update)(state, batch, KEY)
  weights = np.array([0.0] + [1.0 / steps] * steps)
  expected = gradient(PARAMS, batch, weights=weights, coefficients=COEFFICIENTS)
  for name, x in expected.items():
    descended = np.asarray(state.params[name]) - np.asarray(after.params[name])
    np.testing.assert_allclose(descended, x, rtol=2e-3, atol=2e-6, err_msg=name)
  for name in ("encode", "move", "push", "value", "reward"):
    assert np.abs(expected[name]) > 1e-4, f"{name} is not tested"


def test_target_network_is_copied_every_interval(monkeypatch):
  """With the state donated to every update, as the learner does it."""
  agent = make_agent(monkeypatch, target_interval=3)
  batch = make_batch(agent, make_record(np.ones((LENGTH, 2)), starts=STARTS))
  update = jax.jit(agent.phases[0].update, donate_argnums=0)
  state = jax.jit(agent.init)(KEY)
  history = [jax.tree.map(np.array, state.params)]
  for count in range(1, 8):
    state, _ = update(state, batch, KEY)
    history.append(jax.tree.map(np.array, state.params))
    assert not np.array_equal(history[-1]["value"], history[-2]["value"])
    jax.tree.map(np.testing.assert_array_equal, state.target_params, history[count - count % 3])


def test_acting_takes_the_best_action_value(monkeypatch):
  """Greedily always; with epsilon 1 every action equally often."""
  exploration = ExplorationConfig(initial_epsilon=1.0, final_epsilon=0.25, decay_steps=1000)
  agent = make_agent(monkeypatch, exploration=exploration)
  state = agent.init(KEY)
  rng = np.random.default_rng(0)
  frames = np.zeros((3000, 1, 1, 3), np.uint8)
  frames[:, 0, 0, 0] = rng.integers(0, 100, size=3000)
  q = action_values_of(frames, discount=GAMMA)
  greedy = jax.jit(agent.act_greedy)(agent.policy_params(state), frames, KEY)
  np.testing.assert_array_equal(greedy.action, np.argmax(q, axis=-1))
  np.testing.assert_allclose(greedy.extras["value"], np.max(q, axis=-1), atol=2e-4)
  act = jax.jit(agent.act)
  for steps, epsilon in ((0, 1.0), (500, 0.625), (1000, 0.25), (9000, 0.25)):
    acting = agent.policy_params(state.replace(environment_steps=np.int32(steps)))
    np.testing.assert_allclose(acting.epsilon, epsilon, rtol=1e-6)
    action = np.asarray(act(acting, frames, KEY).action)
    other = np.mean(action != np.asarray(greedy.action))
    np.testing.assert_allclose(other, epsilon * 2 / 3, atol=0.05)  # 5 standard errors
    action = np.asarray(jax.jit(agent.policies["sampled"])(acting, frames, KEY).action)
    other = np.mean(action != np.asarray(greedy.action))
    np.testing.assert_allclose(other, 0.25 * 2 / 3, atol=0.04)  # at every step


def test_priorities_are_told_only_where_replay_asks_for_them(monkeypatch):
  agent = make_agent(monkeypatch)
  assert agent.phases[0].priorities is None
  record = make_record(np.ones((LENGTH, 2)), starts=STARTS)
  np.testing.assert_array_equal(make_batch(agent, record).priority, 1.0)
