"""Searches on tabular models whose optimum is known, for acting, targets and evaluation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.model import ModelConfig, make_world_model
from agents.muzero.config import GumbelSearchConfig, PUCTSearchConfig
from agents.muzero.search import (
  PlanningModel,
  most_likely_prior,
  sample_prior,
  search_exploring,
  search_for_targets,
  search_greedily,
)
from losses.categorical_support import CategoricalSupport
from networks.config import ResNetConfig
from networks.world_model import Prediction, Transition, WorldModel

SUPPORT = CategoricalSupport(low=-2.0, high=2.0, num_atoms=3, epsilon=0.0)
KEY = jax.random.key(0)
GAMMA = 0.9
SEARCHES = {
  "gumbel": GumbelSearchConfig(num_simulations=200),
  "puct": PUCTSearchConfig(num_simulations=200),
}


class TabularNetwork:
  """A Markov decision process as a latent model: latents `[B, 1, 1, 1]` are state numbers.

  `params` holds `following`, `reward` and `logits` `[S, A]` and `value` `[S]`.
  """

  def apply(self, params, *args, method):
    """Calls the function of the same name as the world model's `method`."""
    return getattr(self, f"_{method.__name__}")(params, *args)

  def _step(self, params, latent, action):
    state = latent[:, 0, 0, 0].astype(jnp.int32)
    following = params["following"][state, action].astype(jnp.float32)
    return Transition(following[:, None, None, None], _logits(params["reward"][state, action]))

  def _predict(self, params, latent):
    state = latent[:, 0, 0, 0].astype(jnp.int32)
    return Prediction(params["logits"][state], _logits(params["value"][state]))


def _logits(x):
  """Three logits that the support reads as the scalar `x`, a tiny one too."""
  share = jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) / SUPPORT.high
  share = jnp.where(jnp.abs(x) < 1e-3, 0.5 * x / SUPPORT.high, share)  # no digits cancelled
  p = jnp.stack([jnp.maximum(-share, 0.0), 1.0 - jnp.abs(share), jnp.maximum(share, 0.0)], axis=-1)
  return jnp.log(jnp.maximum(p, 1e-30))


@functools.cache
def compiled(search, config):
  model = PlanningModel(TabularNetwork(), SUPPORT, SUPPORT, GAMMA)
  return jax.jit(functools.partial(search, model, config=config))


def run(search, config, params, states, *, key=KEY):
  latent = jnp.asarray(states, jnp.float32)[:, None, None, None]
  return compiled(search, config)(params, latent, key)


def bandit(reward, logits=(0.0, 0.0, 0.0, 0.0)):
  """State 0 pays `reward` for an action and leads to state 1, which pays nothing for ever."""
  return {
    "following": np.ones((2, 4), np.int32),
    "reward": np.array([reward, [0.0] * 4], np.float32),
    "logits": np.array([logits, [0.0] * 4], np.float32),
    "value": np.zeros(2, np.float32),
  }


def chain():
  """Five states in a row, 1 at the end of the right way; the prior is for going left."""
  left = np.array([0, 0, 1, 2, 3, 5])
  right = np.array([1, 2, 3, 4, 5, 5])
  reward = np.zeros((6, 2), np.float32)
  reward[4, 1] = 1.0
  return {
    "following": np.stack([left, right], axis=1).astype(np.int32),
    "reward": reward,
    "logits": np.tile(np.array([0.05, 0.0], np.float32), (6, 1)),
    "value": np.zeros(6, np.float32),
  }


def optimal_action_values(mdp):
  q = np.zeros_like(mdp["reward"])
  for _ in range(300):
    q = mdp["reward"] + GAMMA * q.max(axis=1)[mdp["following"]]
  return q


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("search", [search_for_targets, search_greedily])
def test_bandit(name, search):
  """The best arm is also the least likely one by the prior."""
  mdp = bandit([0.0, 0.3, 1.0, 0.5], logits=(0.5, 0.5, 0.0, 0.5))
  result = run(search, SEARCHES[name], mdp, [0] * 5)
  np.testing.assert_array_equal(np.argmax(result.policy, axis=-1), 2)
  np.testing.assert_allclose(np.sum(result.policy, axis=-1), 1.0, atol=1e-5)
  if search is search_greedily:
    np.testing.assert_array_equal(result.action, 2)
  assert result.action.dtype == jnp.int32


def test_gumbel_policy_of_a_bandit_is_known():
  """A simulation for every arm: softmax(logits + (c_visit + 1) c_scale q), q over its range."""
  reward, logits = np.array([0.0, 0.3, 1.0, 0.5]), np.array([0.4, -0.1, 0.0, 0.2])
  config = GumbelSearchConfig(num_simulations=4, max_considered_actions=4, value_scale=0.02)
  expected = np.exp(logits + (50.0 + 1.0) * 0.02 * reward)
  result = run(search_for_targets, config, bandit(reward, logits), [0])
  np.testing.assert_allclose(result.policy[0], expected / expected.sum(), atol=1e-4)
  np.testing.assert_allclose(result.prior_logits[0], logits, atol=1e-6)
  np.testing.assert_allclose(result.value[0], reward.sum() / 5, atol=1e-4)  # 4 visits and its own


@pytest.mark.parametrize("name", SEARCHES)
def test_chain_with_delayed_reward(name):
  """Reward is up to five steps away, and the model's own values are 0."""
  mdp = chain()
  best = np.argmax(optimal_action_values(mdp)[:5], axis=1)
  assert best.tolist() == [1, 1, 1, 1, 1]
  for search in (search_greedily, search_for_targets):
    result = run(search, SEARCHES[name], mdp, range(5))
    np.testing.assert_array_equal(np.argmax(result.policy, axis=-1), best)
  greedy = run(search_greedily, SEARCHES[name], mdp, range(5))
  np.testing.assert_array_equal(greedy.action, best)


def test_noise_of_equal_values_does_not_become_a_target():
  """With mctx's default epsilon of 1e-8 the range of the noise would be stretched to [0, 1]."""
  noise = np.array([1e-6, -1e-6, 1e-6, -1e-6])
  logits = np.array([0.3, 0.0, -0.3, 0.1])
  prior = np.exp(logits) / np.exp(logits).sum()
  mdp = bandit(noise, logits)
  result = run(search_for_targets, SEARCHES["gumbel"], mdp, [0] * 5)
  np.testing.assert_allclose(result.policy[0], prior, atol=5e-3)
  sharp = dataclasses.replace(SEARCHES["gumbel"], rescale_epsilon=1e-8)
  result = run(search_for_targets, sharp, mdp, [0] * 5)
  assert np.max(np.abs(result.policy[0] - prior)) > 0.1, "this test could not fail"


def test_puct_visits_equal_arms_in_proportion_to_the_prior():
  noise = np.array([1e-6, -1e-6, 1e-6, -1e-6])
  logits = np.array([0.7, 0.0, -0.7, 0.1])
  prior = np.exp(logits) / np.exp(logits).sum()
  result = run(search_for_targets, SEARCHES["puct"], bandit(noise, logits), [0] * 5)
  np.testing.assert_allclose(result.policy[0], prior, atol=0.03)


@pytest.mark.parametrize("name", SEARCHES)
def test_greedy_search_has_no_noise(name):
  """Different keys, same actions; exploring differs."""
  config = SEARCHES[name]
  near = bandit([0.5, 0.49, 0.498, 0.495])
  keys = [jax.random.key(seed) for seed in range(4)]
  greedy = [run(search_greedily, config, near, [0] * 5, key=key) for key in keys]
  for result in greedy[1:]:
    np.testing.assert_array_equal(result.action, greedy[0].action)
    if name == "gumbel":  # in pUCT the key breaks ties between arms without visits
      np.testing.assert_allclose(result.policy, greedy[0].policy, atol=1e-6)
  equal = bandit([0.5] * 4)
  exploring = [run(search_exploring, config, equal, [0] * 5, key=key) for key in keys]
  assert len({tuple(np.asarray(result.action).tolist()) for result in exploring}) > 1


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_dirichlet_noise_at_the_root_of_gumbel_search(fraction):
  """Equal arms are drawn from the prior; Dirichlet noise has mean 1 / 4 whatever its alpha."""
  prior = np.array([0.94, 0.03, 0.02, 0.01])
  mdp = bandit([0.5] * 4, logits=np.log(prior))
  published = GumbelSearchConfig(num_simulations=4, max_considered_actions=4)
  noisy = dataclasses.replace(published, dirichlet_fraction=fraction, dirichlet_alpha=0.1)
  states = [0] * 20_000
  for config, expected in ((published, prior), (noisy, (1 - fraction) * prior + fraction / 4)):
    drawn = np.asarray(run(search_exploring, config, mdp, states).action)
    frequency = np.bincount(drawn, minlength=4) / len(states)
    np.testing.assert_allclose(frequency, expected, atol=0.015)  # 4 standard errors
  for search in (search_for_targets, search_greedily):
    without, found = (run(search, config, mdp, [0] * 5) for config in (published, noisy))
    jax.tree.map(np.testing.assert_array_equal, found, without)


@pytest.mark.parametrize("name", SEARCHES)
def test_search_of_a_batch_is_that_of_its_entries(name):
  """Nothing leaks across batch entries; without noise a search has no randomness to share."""
  states = [4, 0, 2, 1, 3]
  batch = run(search_greedily, SEARCHES[name], chain(), states)
  for i, state in enumerate(states):
    alone = run(search_greedily, SEARCHES[name], chain(), [state])
    np.testing.assert_allclose(batch.policy[i], alone.policy[0], atol=1e-6)
    np.testing.assert_allclose(batch.value[i], alone.value[0], atol=1e-6)
    assert batch.action[i] == alone.action[0]


def test_the_tree_is_float32_where_the_network_is_bfloat16():
  backbone = ResNetConfig(
    stem_kernels=(4,),
    stem_strides=(4,),
    stem_channels=(4,),
    blocks=0,
    compute_dtype="bfloat16",
  )
  config = ModelConfig(dynamics_blocks=0, head_channels=2, hidden=4)
  network = make_world_model(backbone, config, num_actions=3)
  model = PlanningModel(network, config.value_support, config.reward_support, GAMMA)
  frames = jnp.zeros((2, 8, 8, 3), jnp.uint8)
  action = jnp.zeros((2,), jnp.int32)

  def parts(key):
    params = network.init(key, frames, action, method=WorldModel.planning_parts)
    latent = network.apply(params, frames, method=WorldModel.represent)
    output, following = model.recurrent(params, key, action, latent)
    found = search_for_targets(model, params, latent, key, config=GumbelSearchConfig())
    return latent, following, model.root(params, latent), output, found

  latent, following, root, output, found = jax.eval_shape(parts, KEY)
  assert latent.dtype == following.dtype == jnp.bfloat16
  tree = (root.value, root.prior_logits, output, found.policy, found.value)
  assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype("float32")}


def test_the_raw_policy_takes_no_model_step():
  """The chain's prior goes left, the best way is right: only a search finds that out."""
  mdp = chain()
  model = PlanningModel(TabularNetwork(), SUPPORT, SUPPORT, GAMMA)
  latent = jnp.arange(5.0)[:, None, None, None]
  raw = most_likely_prior(model, mdp, latent)
  np.testing.assert_array_equal(raw.action, np.zeros(5))
  expected = 1 / (1 + np.exp(-np.array([0.05, -0.05])))
  np.testing.assert_allclose(raw.policy, np.tile(expected, (5, 1)), atol=1e-6)
  np.testing.assert_array_equal(raw.value, np.zeros(5))
  np.testing.assert_array_equal(run(search_greedily, SEARCHES["puct"], mdp, range(5)).action, 1)


def test_the_raw_policy_is_sampled_by_its_probabilities():
  logits = np.log([0.1, 0.2, 0.3, 0.4])
  model = PlanningModel(TabularNetwork(), SUPPORT, SUPPORT, GAMMA)
  result = sample_prior(model, bandit([9.0, 0, 0, 0], logits), jnp.zeros((20_000, 1, 1, 1)), KEY)
  share = np.bincount(result.action, minlength=4) / 20_000
  # Four standard deviations of a share: 4 (p (1 - p) / 20,000)^.5 <= .014.
  np.testing.assert_allclose(share, [0.1, 0.2, 0.3, 0.4], atol=0.014)
