"""Which agents there are. Adding one is an entry here and its presets.

Nothing here imports JAX before an agent is made.
"""

import dataclasses
import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agents.muzero.config import MuZeroConfig
from agents.ppg.config import PPGConfig
from agents.ppo.config import PPOConfig
from agents.q_learning.config import QLearningConfig
from experiments.errors import unknown

if TYPE_CHECKING:
  from agents.interface import Agent
  from environments.interface import EnvironmentSpec

AgentConfig = PPOConfig | PPGConfig | MuZeroConfig | QLearningConfig


@dataclasses.dataclass(frozen=True)
class AgentEntry:
  """Where an agent is found.

  Attributes:
    config: its dataclass of settings.
    module: imported when the agent is made.
    function: (config, spec, *, total_environment_steps) -> Agent, in that module.
    planner: module whose `act_with` acts with another search; None where it does not plan.
    searches: names of the searches that it can plan with.
  """

  config: type
  module: str
  function: str
  planner: str | None = None
  searches: tuple[str, ...] = ()


AGENTS = MappingProxyType(
  {
    "ppo": AgentEntry(PPOConfig, "agents.ppo.agent", "make_ppo"),
    "ppg": AgentEntry(PPGConfig, "agents.ppg.agent", "make_ppg"),
    "muzero": AgentEntry(
      MuZeroConfig,
      "agents.muzero.agent",
      "make_muzero",
      planner="agents.muzero.acting",
      searches=("gumbel", "puct"),
    ),
    "q_learning": AgentEntry(QLearningConfig, "agents.q_learning.agent", "make_q_learning"),
  }
)


def agent_entry(name: str) -> AgentEntry:
  """Returns the entry for `name`.

  Raises:
    UsageError: there is none; names the nearest.
  """
  if name not in AGENTS:
    raise unknown("agent", name, AGENTS)
  return AGENTS[name]


def agent_name(config: AgentConfig) -> str:
  """Returns the name of the agent that `config` configures."""
  return next(name for name, entry in AGENTS.items() if type(config) is entry.config)


def make_agent(
  config: AgentConfig, spec: "EnvironmentSpec", *, total_environment_steps: int
) -> "Agent":
  """Builds the agent that `config` configures."""
  entry = AGENTS[agent_name(config)]
  make = getattr(importlib.import_module(entry.module), entry.function)
  return make(config, spec, total_environment_steps=total_environment_steps)


def act_with_search(
  config: AgentConfig, spec: "EnvironmentSpec", *, search: str | None, num_simulations: int
) -> tuple[Any, dict[str, Any]]:
  """Builds how an agent that plans acts with another search than that of training.

  Args:
    config: of the agent.
    spec: what the environments look like.
    search: one of its `searches`; None is its own.
    num_simulations: 0 is the raw policy.

  Returns:
    Two functions, `sampled` and `greedy`, as `Agent.act` is, and the search's settings.
  """
  planner = importlib.import_module(AGENTS[agent_name(config)].planner)
  return planner.act_with(config, spec, search=search, num_simulations=num_simulations)
