"""The latent model's settings and how MuZero and Q-learning build it."""

import dataclasses
from typing import TYPE_CHECKING

from agents.config import require
from losses.categorical_support import CategoricalSupport
from networks.config import BackboneConfig

if TYPE_CHECKING:
  from networks.world_model import WorldModel


def _laptop_support() -> CategoricalSupport:
  """121 atoms over h(x) in [-2, 10]: returns from -8 to 113, atoms .1 apart."""
  return CategoricalSupport(low=-2.0, high=10.0, num_atoms=121)


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
  value_support: CategoricalSupport = dataclasses.field(default_factory=_laptop_support)
  reward_support: CategoricalSupport = dataclasses.field(default_factory=_laptop_support)

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
