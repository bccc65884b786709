"""Acting with other searches than that of training."""

import dataclasses

import jax
import numpy as np
import pytest

from agents.model import ModelConfig, make_world_model
from agents.muzero.acting import SEARCHES, act_with, other_search
from agents.muzero.agent import make_muzero
from agents.muzero.config import GumbelSearchConfig, MuZeroConfig, PUCTSearchConfig
from agents.sequences import SequenceConfig
from environments.interface import EnvironmentSpec
from experiments.registry import AGENTS
from networks.config import ResNetConfig
from networks.world_model import WorldModel

B, A = 6, 5
SPEC = EnvironmentSpec("test", B, (8, 8, 3), A, time_limit=100)
CONFIG = MuZeroConfig(
  backbone=ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(4,), blocks=0),
  model=ModelConfig(dynamics_blocks=0, head_channels=2, hidden=8),
  sequences=SequenceConfig(batch_size=8, capacity=1200, min_size=120),
  search=GumbelSearchConfig(num_simulations=3, value_scale=0.7),
)
KEY = jax.random.key(4)


@pytest.fixture(scope="module")
def agent():
  return make_muzero(CONFIG, SPEC, total_environment_steps=1000)


@pytest.fixture(scope="module")
def params(agent):
  """Random ones, with larger heads than at the start: the prior is not uniform."""
  state = jax.jit(agent.init)(KEY)
  leaves, tree = jax.tree.flatten(state.params)
  keys = jax.random.split(KEY, len(leaves))
  noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
  return jax.tree.unflatten(tree, noisy)


@pytest.fixture(scope="module")
def observation():
  return np.random.default_rng(0).integers(0, 256, (B, 8, 8, 3), np.uint8)


def test_with_the_agents_own_search_it_acts_as_the_agent(agent, params, observation):
  acting, described = act_with(CONFIG, SPEC, search=None, num_simulations=3)
  for ours, theirs in ((acting.sampled, agent.act), (acting.greedy, agent.act_greedy)):
    output, expected = (jax.jit(f)(params, observation, KEY) for f in (ours, theirs))
    jax.tree.map(np.testing.assert_array_equal, output, expected)
  assert described == {"kind": "gumbel", **dataclasses.asdict(CONFIG.search)}


def test_without_simulations_it_acts_by_the_networks_heads(params, observation):
  acting, described = act_with(CONFIG, SPEC, search="puct", num_simulations=0)
  assert described == {"kind": "none", "num_simulations": 0}
  output = jax.jit(acting.greedy)(params, observation, KEY)
  network = make_world_model(CONFIG.backbone, CONFIG.model, num_actions=A)
  latent = network.apply(params, observation, method=WorldModel.represent)
  logits = network.apply(params, latent, method=WorldModel.predict).policy_logits
  np.testing.assert_array_equal(output.action, np.argmax(logits, axis=-1))
  policy = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  np.testing.assert_allclose(output.extras["search_policy"], policy, rtol=1e-4)
  sample = jax.jit(acting.sampled)
  keys = jax.random.split(KEY, 30)
  drawn = {tuple(np.asarray(sample(params, observation, key).action)) for key in keys}
  assert len(drawn) > 1


@pytest.mark.parametrize("search", SEARCHES)
def test_more_simulations_visit_more(params, observation, search):
  """pUCT's policy is the share of visits: a multiple of one over the simulations."""
  for count in (2, 7):
    acting, described = act_with(CONFIG, SPEC, search=search, num_simulations=count)
    output = jax.jit(acting.greedy)(params, observation, KEY)
    policy = np.asarray(output.extras["search_policy"], np.float64)
    np.testing.assert_allclose(policy.sum(-1), 1, atol=1e-5)
    assert (described["kind"], described["num_simulations"]) == (search, count)
    if search == "puct":
      np.testing.assert_allclose(policy * count, np.round(policy * count), atol=1e-4)


def test_settings_of_another_search():
  own = other_search(CONFIG, search=None, num_simulations=9)
  assert own == GumbelSearchConfig(num_simulations=9, value_scale=0.7)
  assert other_search(CONFIG, search="gumbel", num_simulations=9) == own
  assert other_search(CONFIG, search="puct", num_simulations=9) == PUCTSearchConfig(
    num_simulations=9
  )
  assert other_search(CONFIG, search="puct", num_simulations=0) is None


def test_the_registry_names_the_searches_that_are_there():
  assert set(AGENTS["muzero"].searches) == set(SEARCHES)
