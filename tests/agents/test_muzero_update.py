"""MuZero's update: gradients against hand-derived ones, weights, and the target network."""

import dataclasses

from coded_network import PARAMS, make_record
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_reference import (
  LENGTH,
  SEQUENCES,
  SETTINGS,
  STARTS,
  UNROLL,
  coded_agent,
  episode_ends,
  gradient,
  random_targets,
)

import agents.muzero.agent as muzero
from agents.muzero.config import MuZeroConfig

KEY = jax.random.key(3)
PRIORITISED = dataclasses.replace(SEQUENCES, priority_exponent=1.0)
COEFFICIENTS = {"policy": 0.7, "value": 0.25, "reward": 1.3}


def make_agent(monkeypatch, **changed):
  settings = {f"{name}_coefficient": x for name, x in COEFFICIENTS.items()}
  config = MuZeroConfig(
    sequences=PRIORITISED, reanalyse_fraction=0.0, **settings, **(SETTINGS | changed)
  )
  return coded_agent(monkeypatch, muzero, "make_muzero", config)


def make_batch(agent, discount, *, seed=0):
  """Stored policies and random values and rewards, so that nothing is searched."""
  record = make_record(discount, starts=STARTS, seed=seed)
  batch = jax.jit(agent.phases[0].make_targets)(agent.init(KEY), record, KEY)
  return random_targets(jax.tree.map(np.asarray, batch), np.random.default_rng(seed))


def test_gradients_are_the_hand_derived_ones(monkeypatch):
  """Halved into every model step, 1 and 1 / K, weighted per sample, no policy past the end."""
  agent = make_agent(monkeypatch)
  batch = make_batch(agent, episode_ends())
  state = agent.init(KEY)
  after, metrics = jax.jit(agent.phases[0].update)(state, batch, KEY)
  weights = np.array([1.0] + [1.0 / UNROLL] * UNROLL)
  expected = gradient(PARAMS, batch, weights=weights, coefficients=COEFFICIENTS)
  for name, x in expected.items():
    descended = np.asarray(state.params[name]) - np.asarray(after.params[name])
    np.testing.assert_allclose(descended, x, rtol=2e-3, atol=2e-6, err_msg=name)
  norm = np.sqrt(sum(np.sum(np.square(x)) for x in expected.values()))
  np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-3)
  for name in ("encode", "move", "push", "value", "reward", "policy"):
    assert np.min(np.abs(expected[name])) > 1e-4, f"{name} is not tested"


@pytest.mark.parametrize("interval", [1, 3])
def test_target_network_is_copied_every_interval(monkeypatch, interval):
  """With the state donated to every update, as the learner does it."""
  agent = make_agent(monkeypatch, target_interval=interval)
  batch = make_batch(agent, np.ones((LENGTH, 2)))
  update = jax.jit(agent.phases[0].update, donate_argnums=0)
  state = jax.jit(agent.init)(KEY)
  history = [jax.tree.map(np.array, state.params)]
  for count in range(1, 8):
    state, _ = update(state, batch, KEY)
    history.append(jax.tree.map(np.array, state.params))
    assert not np.array_equal(history[-1]["value"], history[-2]["value"])
    copied = history[count - count % interval]
    jax.tree.map(np.testing.assert_array_equal, state.target_params, copied)
    own = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(state.params)}
    assert not own & {x.unsafe_buffer_pointer() for x in jax.tree.leaves(state.target_params)}
  assert int(state.updates) == 7


def test_targets_are_made_with_the_target_network(monkeypatch):
  """Whatever the online network says, they are the same."""
  agent = make_agent(monkeypatch)
  record = make_record(episode_ends(), starts=STARTS)
  make = jax.jit(agent.phases[0].make_targets)
  state = agent.init(KEY)
  moved = jax.tree.map(lambda x: x + 1.0, state.params)
  before = make(state, record, KEY)
  jax.tree.map(
    np.testing.assert_array_equal, before, make(state.replace(params=moved), record, KEY)
  )
  after = make(state.replace(target_params=moved), record, KEY)
  assert np.max(np.abs(before.value - after.value)) > 0.1


def test_priorities_name_the_samples_that_were_drawn(monkeypatch):
  agent = make_agent(monkeypatch)
  batch = make_batch(agent, np.ones((LENGTH, 5)))
  named = agent.phases[0].priorities(batch)
  np.testing.assert_array_equal(named.environment, np.arange(5)[:, None] + np.zeros((1, STARTS)))
  np.testing.assert_array_equal(named.frame_number, batch.frame_number)
  np.testing.assert_allclose(named.priority, batch.priority + 1e-3, rtol=1e-6)
  assert jnp.all(named.priority > 0)
