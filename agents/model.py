"""The latent model's settings and how MuZero and Q-learning build it."""

import dataclasses
from typing import TYPE_CHECKING

from agents.config import require
from losses.categorical_support import CategoricalSupport
from networks.config import BackboneConfig

if TYPE_CHECKING:
  from networks.world_model import WorldModel


def _narrow_support() -> CategoricalSupport:
  """201 atoms over h(x) in [-10, 10], .1 apart: returns up to 118.

  Symmetric, so that heads that start uniform predict 0. A support from -2 made every
  value start at 24, and Q-learning's first targets with it.
  """
  return CategoricalSupport(low=-10.0, high=10.0, num_atoms=201)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes of the latent model behind the backbone.

  Attributes:
    dynamics_blocks: residual blocks of one model step.
    head_channels: channels that a head reads at every position.
    hidden: width of a head's dense layer.
    value_support: atoms of the value head, in units of h(value).
    reward_support: atoms of the reward head, in units of h(reward).
  """

  dynamics_blocks: int = 1
  head_channels: int = 16
  hidden: int = 128
  value_support: CategoricalSupport = dataclasses.field(default_factory=_narrow_support)
  reward_support: CategoricalSupport = dataclasses.field(default_factory=_narrow_support)

  def __post_init__(self):
    for name, least in (("dynamics_blocks", 0), ("head_channels", 1), ("hidden", 1)):
      value = getattr(self, name)
      require(
        type(value) is int and value >= least,
        f"agent.model.{name}",
        value,
        f"an integer of at least {least}",
      )


def make_world_model(
  backbone: BackboneConfig, config: ModelConfig, *, num_actions: int
) -> "WorldModel":
  """Builds the network that the configs describe, for MuZero and Q-learning alike."""
  from networks.world_model import WorldModel  # here: configs are read without JAX

  return WorldModel(
    backbone=backbone,
    dynamics_blocks=config.dynamics_blocks,
    head_channels=config.head_channels,
    hidden=config.hidden,
    num_actions=num_actions,
    num_value_atoms=config.value_support.num_atoms,
    num_reward_atoms=config.reward_support.num_atoms,
  )
