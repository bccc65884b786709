"""Which table of Haiku names belongs to which agent's network."""

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agents.q_learning.config import QNetworkConfig, ScalarHeadsConfig
from experiments.config import ExperimentConfig
from experiments.errors import UsageError
from experiments.registry import agent_name
from networks.haiku_names import (
  PHASIC_TRUNK_NAMES,
  ActorCriticSizes,
  Names,
  WorldModelSizes,
  action_value_names,
  actor_critic_names,
  phasic_names,
  planning_names,
  q_network_names,
)

if TYPE_CHECKING:
  from environments.interface import EnvironmentSpec


def parameter_names(config: ExperimentConfig, spec: "EnvironmentSpec") -> Names:
  """Returns the table of the configured agent's network.

  Raises:
    UsageError: the agent's network has none.
  """
  name = agent_name(config.agent)
  if name not in _NAMES:
    raise UsageError(f"{name} has no Haiku names; {', '.join(_NAMES)} have")
  return _NAMES[name](config.agent, spec)


def _shared_names(agent: Any, spec: "EnvironmentSpec") -> Names:
  return actor_critic_names(agent.backbone, _actor_critic_sizes(agent, spec))


def _phasic_names(agent: Any, spec: "EnvironmentSpec") -> Names:
  trunks = PHASIC_TRUNK_NAMES[agent.trunk]
  return phasic_names(agent.backbone, _actor_critic_sizes(agent, spec), trunks=trunks)


def _planning_names(agent: Any, spec: "EnvironmentSpec") -> Names:
  return planning_names(agent.backbone, _world_model_sizes(agent, spec))


def _action_value_names(agent: Any, spec: "EnvironmentSpec") -> Names:
  heads = ("value",) if agent.action_value == "direct" else ("value", "reward")
  model = _world_model_sizes(agent, spec)
  if isinstance(agent.heads, ScalarHeadsConfig):
    model = model._replace(num_value_atoms=1, num_reward_atoms=1)
  if isinstance(agent.network, QNetworkConfig):
    sizes = ActorCriticSizes(spec.observation_shape, spec.num_actions, agent.network.hidden)
    outputs = {"value": model.num_value_atoms, "reward": model.num_reward_atoms}
    return q_network_names(agent.backbone, sizes, heads={head: outputs[head] for head in heads})
  return action_value_names(agent.backbone, model, heads=heads)


_NAMES: MappingProxyType[str, Callable[[Any, Any], Names]] = MappingProxyType(
  {
    "ppo": _shared_names,
    "ppg": _phasic_names,
    "muzero": _planning_names,
    "q_learning": _action_value_names,
  }
)


def _actor_critic_sizes(agent: Any, spec: "EnvironmentSpec") -> ActorCriticSizes:
  return ActorCriticSizes(spec.observation_shape, spec.num_actions, agent.hidden)


def _world_model_sizes(agent: Any, spec: "EnvironmentSpec") -> WorldModelSizes:
  return WorldModelSizes(
    observation_shape=spec.observation_shape,
    dynamics_blocks=agent.model.dynamics_blocks,
    head_channels=agent.model.head_channels,
    hidden=agent.model.hidden,
    num_actions=spec.num_actions,
    num_value_atoms=agent.model.value_support.num_atoms,
    num_reward_atoms=agent.model.reward_support.num_atoms,
  )
