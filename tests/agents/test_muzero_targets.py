"""MuZero's targets from drawn records, against a slow reference on a network known in closed form.

The traps of SCIENCE.md, section 5, as this agent wires the pure pieces together.
"""

import dataclasses

from coded_network import MODEL, PARAMS, CodedNetwork, make_params, make_record, value_of
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_reference import (
  LENGTH,
  SEQUENCES,
  SETTINGS,
  STARTS,
  STEPS,
  UNROLL,
  coded_agent,
  episode_ends,
  targets,
)

from agents.muzero import reanalyse, searches
import agents.muzero.agent as muzero
from agents.muzero.config import GumbelSearchConfig, MuZeroConfig
from agents.muzero.search import PlanningModel, SearchResult, search_for_targets

KEY = jax.random.key(3)
ROWS = STARTS + UNROLL
CONFIG = MuZeroConfig(
  sequences=SEQUENCES,
  search=GumbelSearchConfig(num_simulations=4, max_considered_actions=3, gumbel_scale=0.0),
  **SETTINGS,
)


class CountingSearch:
  """A search whose policy is a known function of the latent, and which notes what it searched."""

  def __init__(self):
    self.chunks = []

  def __call__(self, model, params, latent, key, *, config):
    del model, params, key, config
    x = latent[:, 0, 0, 0]
    jax.debug.callback(lambda seen: self.chunks.append(np.array(seen)), x)
    policy = jnp.stack([x, 2.0 * x, 3.0 * x], axis=-1)
    return SearchResult(jnp.zeros(x.shape, jnp.int32), policy, x, policy)


def make_targets(monkeypatch, config=CONFIG, *, search=None):
  """The agent's compiled (record, key) -> batch; target and online network differ."""
  if search is not None:
    monkeypatch.setattr(reanalyse, "search_for_targets", search)
  agent = coded_agent(monkeypatch, muzero, "make_muzero", config)
  state = agent.init(KEY)
  state = state.replace(params=jax.tree.map(lambda x: x + 1.0, state.target_params))
  make = jax.jit(agent.phases[0].make_targets)

  def run(record, key=KEY):
    batch = jax.tree.map(np.asarray, make(state, record, key))
    jax.effects_barrier()
    return batch

  return run


def windows_of(x):
  """`[N, K + 1, S, ...]` of what follows every start, from `[S + K, N, ...]`."""
  rows = [[x[s + k] for s in range(STARTS)] for k in range(UNROLL + 1)]
  return np.moveaxis(np.array(rows), 2, 0)


def latents(record):
  return 0.1 * (
    record["observation"][..., 0, 0, 0].astype(float)
    + 0.37 * record["observation"][..., 0, 0, 1]
    - 40.0
  )


def test_targets_equal_the_slow_reference(monkeypatch):
  """Episodes of every critical length at every phase: all k, all starts."""
  record = make_record(episode_ends(), starts=STARTS)
  batch = make_targets(monkeypatch, search=CountingSearch())(record)
  value, reward, inside = targets(
    record, value_of(record["observation"]), unroll_steps=UNROLL, n=STEPS
  )
  np.testing.assert_allclose(batch.value, value, atol=1e-4)
  np.testing.assert_allclose(batch.reward, reward, atol=0)
  np.testing.assert_array_equal(batch.inside, inside)
  np.testing.assert_array_equal(
    batch.observation, np.moveaxis(record["observation"][:STARTS], 1, 0)
  )
  for name in ("importance_weight", "age", "environment", "frame_number"):
    np.testing.assert_array_equal(getattr(batch, name), record[name].T, err_msg=name)
  policy = windows_of(latents(record)[:ROWS])[..., None] * [1.0, 2.0, 3.0]
  np.testing.assert_allclose(batch.policy, policy * inside[..., None], atol=1e-4)
  going_on = inside[:, :-1] > 0
  taken = windows_of(record["action"][:ROWS])[:, :-1]
  np.testing.assert_array_equal(batch.action[going_on], taken[going_on])
  predicted = value_of(record["observation"])[:STARTS].T
  np.testing.assert_allclose(batch.priority, np.abs(predicted - value[:, 0]), atol=2e-4)


def test_nothing_after_the_end_changes_a_target(monkeypatch):
  """Frames, actions, rewards and policies of the next level are replaced by others."""
  record = make_record(episode_ends(), starts=STARTS)
  other = make_record(episode_ends(), starts=STARTS, seed=1)
  ends = np.argmax(record["discount"] == 0.0, axis=0)
  ends[np.all(record["discount"] > 0.0, axis=0)] = LENGTH
  later = np.arange(LENGTH)[:, None] > ends[None, :]
  perturbed = dict(record)
  for name in ("observation", "action", "reward", "discount", "search_policy"):
    mask = later.reshape(later.shape + (1,) * (record[name].ndim - 2))
    perturbed[name] = np.where(mask, other[name], record[name])
  perturbed["observation"][later] = 255
  make = make_targets(monkeypatch, search=CountingSearch())
  a, b = make(record), make(perturbed)
  mine = np.arange(STARTS)[None, :] <= ends[:, None]  # [N, S], starts in the first episode
  for name in ("value", "reward", "action", "policy", "inside"):
    x, y = (np.moveaxis(getattr(batch, name), 1, 2)[mine] for batch in (a, b))
    np.testing.assert_array_equal(x, y, err_msg=name)
  np.testing.assert_array_equal(a.priority[mine], b.priority[mine])
  assert not np.array_equal(a.value, b.value)


def test_actions_after_the_end_are_uniform(monkeypatch):
  record = make_record(np.zeros((LENGTH, 400)), starts=STARTS)
  record["action"][:] = 2
  batch = make_targets(monkeypatch, search=CountingSearch())(record)
  np.testing.assert_array_equal(batch.action[:, 0], 2)
  drawn = batch.action[:, 1:].ravel()
  counts = np.bincount(drawn, minlength=3) / drawn.size
  np.testing.assert_allclose(counts, 1 / 3, atol=0.04)  # 3600 draws: 5 standard errors


@pytest.mark.parametrize(("fraction", "columns"), [(0.0, 0), (0.5, 3), (0.3, 2), (1.0, 6)])
def test_reanalyse_is_a_static_split(monkeypatch, fraction, columns):
  """What is not reanalysed keeps its stored policy, and is not searched."""
  search = CountingSearch()
  config = dataclasses.replace(CONFIG, reanalyse_fraction=fraction, search_batch=6)
  record = make_record(np.ones((LENGTH, 6)), starts=STARTS)
  batch = make_targets(monkeypatch, config, search=search)(record)
  stored = windows_of(record["search_policy"][:ROWS])
  np.testing.assert_array_equal(batch.policy[columns:], stored[columns:])
  x = latents(record)[:ROWS, :columns]
  fresh = windows_of(x)[..., None] * [1.0, 2.0, 3.0]
  np.testing.assert_allclose(batch.policy[:columns], fresh, atol=1e-4)
  searched = np.concatenate(search.chunks) if search.chunks else np.zeros(0)
  np.testing.assert_allclose(np.sort(searched), np.sort(x.ravel()), atol=1e-5)
  assert all(chunk.size <= 6 for chunk in search.chunks)


@pytest.mark.parametrize("count", [1, 3, 7, 16, 100, 128])
def test_the_fraction_is_rounded_up_to_whole_sequences(count):
  for percent in range(101):
    least = -(-percent * count // 100)
    assert searches.reanalysed_sequences(percent / 100, count) == least, percent


def test_chunks_are_the_largest_that_fit():
  for rows in (1, 7, 12, 13):
    for columns in (1, 5):
      for limit in (1, 4, 12, 30, 65, 1000):
        size = searches.rows_per_chunk(rows, columns, limit=limit)
        assert rows % size == 0
        assert size == 1 or size * columns <= limit
        larger = [n for n in range(size + 1, rows + 1) if rows % n == 0]
        assert all(n * columns > limit for n in larger)


def test_searches_in_chunks_equal_searches_one_by_one(monkeypatch):
  """Nothing leaks between batch entries or chunks; without noise a search has no randomness."""
  config = dataclasses.replace(CONFIG, search_batch=3)
  record = make_record(np.ones((LENGTH, 3)), starts=STARTS)
  batch = make_targets(monkeypatch, config)(record)
  model = PlanningModel(CodedNetwork(), MODEL.value_support, MODEL.reward_support, config.discount)
  alone = jax.jit(
    lambda x: search_for_targets(model, make_params(), x, KEY, config=config.search).policy
  )
  policy = [
    [alone(jnp.full((1, 1, 1, 1), x, jnp.float32))[0] for x in row] for row in latents(record)
  ]
  np.testing.assert_allclose(batch.policy, windows_of(np.array(policy)[:ROWS]), atol=1e-5)
  np.testing.assert_allclose(np.sum(batch.policy, axis=-1), 1.0, atol=1e-5)
  prior = np.exp(latents(record)[..., None] * np.array(PARAMS["policy"]))
  prior /= prior.sum(axis=-1, keepdims=True)
  assert np.max(np.abs(np.array(policy) - prior)) > 0.05, "the search said nothing new"
