"""One search, for acting and for reanalysing: mctx over the latent model."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mctx

from agents.muzero.config import GumbelSearchConfig, PUCTSearchConfig, SearchConfig
from losses.categorical_support import CategoricalSupport
from losses.value_transform import logits_to_scalar
from networks.world_model import WorldModel


class SearchResult(NamedTuple):
  """What a search says about B positions."""

  action: jax.Array  # [B] int32
  policy: jax.Array  # [B, A] probabilities, the improved policy
  value: jax.Array  # [B] of the root, after the search
  prior_logits: jax.Array  # [B, A] before the search


class PlanningModel(NamedTuple):
  """The latent model together with what reads its heads."""

  network: WorldModel
  value_support: CategoricalSupport
  reward_support: CategoricalSupport
  discount: float

  def root(self, params, latent: jax.Array) -> mctx.RootFnOutput:
    """Prior and value of latents `[B, h, w, D]`."""
    prediction = self.network.apply(params, latent, method=WorldModel.predict)
    return mctx.RootFnOutput(
      prior_logits=prediction.policy_logits,
      value=logits_to_scalar(prediction.value_logits, self.value_support),
      embedding=latent,
    )

  def recurrent(self, params, key, action, latent):
    """One model step inside the tree: `[B]` actions from `[B, h, w, D]` latents."""
    del key
    transition = self.network.apply(params, latent, action, method=WorldModel.step)
    root = self.root(params, transition.latent)
    reward = logits_to_scalar(transition.reward_logits, self.reward_support)
    output = mctx.RecurrentFnOutput(
      reward=reward,
      discount=jnp.full_like(reward, self.discount),
      prior_logits=root.prior_logits,
      value=root.value,
    )
    return output, transition.latent


def search_exploring(
  model: PlanningModel, params, latent: jax.Array, key: jax.Array, *, config: SearchConfig
) -> SearchResult:
  """Searches as acting in training does, with noise at the root.

  Args:
    model: what is planned with.
    params: its parameters.
    latent: `[B, h, w, D]`; batch entries are independent.
    key: consumed.
    config: which search.

  Returns:
    SearchResult of `[B, ...]`.
  """
  if isinstance(config, GumbelSearchConfig):
    return _gumbel(model, params, latent, key, config=config)
  return _puct(model, params, latent, key, config=config)


def search_for_targets(
  model: PlanningModel, params, latent: jax.Array, key: jax.Array, *, config: SearchConfig
) -> SearchResult:
  """Searches as reanalyse does: as `search_exploring`, but without Dirichlet noise.

  Gumbel noise only chooses which actions are looked at; the improved policy weighs them
  by the prior, noise-free.
  """
  quiet = dataclasses.replace(config, dirichlet_fraction=0.0)
  if isinstance(config, GumbelSearchConfig):
    return _gumbel(model, params, latent, key, config=quiet)
  return _puct(model, params, latent, key, config=quiet)


def search_greedily(
  model: PlanningModel, params, latent: jax.Array, key: jax.Array, *, config: SearchConfig
) -> SearchResult:
  """Searches without noise and takes the best action; the key only breaks ties."""
  if isinstance(config, GumbelSearchConfig):
    quiet = dataclasses.replace(config, gumbel_scale=0.0, dirichlet_fraction=0.0)
    return _gumbel(model, params, latent, key, config=quiet)
  quiet = dataclasses.replace(config, dirichlet_fraction=0.0)
  result = _puct(model, params, latent, key, config=quiet)
  return result._replace(action=jnp.argmax(result.policy, axis=-1).astype(jnp.int32))


def sample_prior(model: PlanningModel, params, latent: jax.Array, key: jax.Array) -> SearchResult:
  """Acts by the raw policy: no model step is taken.

  Args:
    model: whose prior and value are read.
    params: its parameters.
    latent: `[B, h, w, D]`; batch entries are independent.
    key: consumed.

  Returns:
    SearchResult of `[B, ...]`; the policy is the prior, the value the network's.
  """
  root = model.root(params, latent)
  action = jax.random.categorical(key, root.prior_logits)
  return _unsearched(root, action)


def most_likely_prior(model: PlanningModel, params, latent: jax.Array) -> SearchResult:
  """Takes the raw policy's most likely action; otherwise as `sample_prior`, without a key."""
  root = model.root(params, latent)
  return _unsearched(root, jnp.argmax(root.prior_logits, axis=-1))


def _gumbel(model, params, latent, key, *, config: GumbelSearchConfig) -> SearchResult:
  root = searched = model.root(params, latent)
  if config.dirichlet_fraction:  # without noise the key is used as without the option
    key, noise_key = jax.random.split(key)
    searched = root.replace(prior_logits=_noisy(root.prior_logits, noise_key, config=config))
  output = mctx.gumbel_muzero_policy(
    params,
    key,
    searched,
    model.recurrent,
    num_simulations=config.num_simulations,
    max_num_considered_actions=config.max_considered_actions,
    gumbel_scale=config.gumbel_scale,
    qtransform=functools.partial(
      mctx.qtransform_completed_by_mix_value,
      value_scale=config.value_scale,
      maxvisit_init=config.visit_offset,
      epsilon=config.rescale_epsilon,
    ),
  )
  return _result(output, root)


def _noisy(logits: jax.Array, key: jax.Array, *, config: GumbelSearchConfig) -> jax.Array:
  """Mixes Dirichlet noise into a prior, logits `[B, A]` to logits `[B, A]`.

  (1 - f) softmax(logits) + f noise   (Silver et al. 2017, of AlphaGo Zero's root)
  """
  count, width = logits.shape
  noise = jax.random.dirichlet(key, jnp.full(width, config.dirichlet_alpha), (count,))
  fraction = config.dirichlet_fraction
  prior = jnp.log1p(-fraction) + jax.nn.log_softmax(logits)  # finite unless fraction is 1
  return jnp.logaddexp(prior, jnp.log(fraction) + jnp.log(noise))


def _puct(model, params, latent, key, *, config: PUCTSearchConfig) -> SearchResult:
  root = model.root(params, latent)
  output = mctx.muzero_policy(
    params,
    key,
    root,
    model.recurrent,
    num_simulations=config.num_simulations,
    pb_c_init=config.pb_c_init,
    pb_c_base=config.pb_c_base,
    dirichlet_fraction=config.dirichlet_fraction,
    dirichlet_alpha=config.dirichlet_alpha,
    temperature=config.temperature,
    qtransform=functools.partial(
      mctx.qtransform_by_parent_and_siblings, epsilon=config.rescale_epsilon
    ),
  )
  return _result(output, root)


def _unsearched(root: mctx.RootFnOutput, action: jax.Array) -> SearchResult:
  return SearchResult(
    action=action.astype(jnp.int32),
    policy=jax.nn.softmax(root.prior_logits),
    value=root.value,
    prior_logits=root.prior_logits,
  )


def _result(output: mctx.PolicyOutput, root: mctx.RootFnOutput) -> SearchResult:
  return SearchResult(
    action=output.action.astype(jnp.int32),
    policy=output.action_weights,
    value=output.search_tree.summary().value,
    prior_logits=root.prior_logits,
  )
