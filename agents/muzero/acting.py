"""Acting with MuZero's model: by the search of training, by another one, or by none."""

from collections.abc import Callable
import dataclasses
import functools
from typing import NamedTuple

import jax

from agents.interface import ActorOutput
from agents.model import make_world_model
from agents.muzero.config import SEARCHES, MuZeroConfig, SearchConfig
from agents.muzero.search import (
  PlanningModel,
  SearchResult,
  most_likely_prior,
  sample_prior,
  search_exploring,
  search_greedily,
)
from environments.interface import EnvironmentSpec
from networks.world_model import WorldModel


class Acting(NamedTuple):
  """Two ways to act with the same model, each as `Agent.act` is."""

  sampled: Callable[..., ActorOutput]
  greedy: Callable[..., ActorOutput]


def planning_model(network: WorldModel, config: MuZeroConfig) -> PlanningModel:
  """Returns what is planned with; it holds no parameters."""
  return PlanningModel(
    network, config.model.value_support, config.model.reward_support, config.discount
  )


def acting_by_search(model: PlanningModel, search: SearchConfig) -> Acting:
  """Returns how to act by `search`."""
  return Acting(
    sampled=functools.partial(
      _act, model=model, search=functools.partial(search_exploring, config=search)
    ),
    greedy=functools.partial(
      _act, model=model, search=functools.partial(search_greedily, config=search)
    ),
  )


def acting_by_prior(model: PlanningModel) -> Acting:
  """Returns how to act by the raw policy: what is left where planning is taken away."""

  def greedily(model, params, latent, key):
    del key  # nothing is drawn
    return most_likely_prior(model, params, latent)

  return Acting(
    sampled=functools.partial(_act, model=model, search=sample_prior),
    greedy=functools.partial(_act, model=model, search=greedily),
  )


def other_search(
  config: MuZeroConfig, *, search: str | None, num_simulations: int
) -> SearchConfig | None:
  """Returns the settings of a search at evaluation.

  Args:
    config: of the agent. Its own kind of search keeps its settings but for the number of
      simulations; the other kind has its defaults.
    search: a name in `SEARCHES`; None is the agent's own kind.
    num_simulations: 0 is no search at all.

  Returns:
    None for the raw policy.
  """
  if num_simulations == 0:
    return None
  kind = type(config.search) if search is None else SEARCHES[search]
  settings = config.search if kind is type(config.search) else kind()
  return dataclasses.replace(settings, num_simulations=num_simulations)


def act_with(
  config: MuZeroConfig, spec: EnvironmentSpec, *, search: str | None, num_simulations: int
) -> tuple[Acting, dict]:
  """Builds how to act with any number of simulations, from the raw policy upward.

  Args:
    config: of the agent.
    spec: what the environments look like.
    search: `gumbel` or `puct`; None is the agent's own.
    num_simulations: at least 0.

  Returns:
    How to act, and the settings of the search as plain values: its `kind`, `none` for the
    raw policy, and every field.
  """
  settings = other_search(config, search=search, num_simulations=num_simulations)
  network = make_world_model(config.backbone, config.model, num_actions=spec.num_actions)
  model = planning_model(network, config)
  if settings is None:
    return acting_by_prior(model), {"kind": "none", "num_simulations": 0}
  kind = next(name for name, each in SEARCHES.items() if type(settings) is each)
  return acting_by_search(model, settings), {"kind": kind, **dataclasses.asdict(settings)}


def _act(
  params,
  observation,
  key: jax.Array,
  *,
  model: PlanningModel,
  search: Callable[..., SearchResult],
) -> ActorOutput:
  latent = model.network.apply(params, observation, method=WorldModel.represent)
  result = search(model, params, latent, key)
  return ActorOutput(result.action, {"search_policy": result.policy, "value": result.value})
