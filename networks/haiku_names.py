"""Which parameter is which: names in dm-haiku, names in flax, and shapes.

Every parameter of the backbones, heads, actor-critics and world model stands in a table
that follows from the config alone. The Haiku side is what modules that make their children
in `__init__` are called, with the names given here; neither library is imported.
"""

from collections.abc import Mapping
import math
from types import MappingProxyType
from typing import NamedTuple

from networks.config import BackboneConfig, ImpalaConfig, NatureCNNConfig, ResNetConfig

LAYER_NORM_EPSILON = 1e-6  # of every LayerNorm here; Haiku's own default is 1e-5


class Parameter(NamedTuple):
  """One parameter's two names."""

  module: str  # in Haiku: `actor_critic/~/linear`
  name: str  # in Haiku: `w`, `b`, `scale` or `offset`
  path: tuple[str, ...]  # in flax, below the collection `params`
  shape: tuple[int, ...]  # the same on both sides: kernels are HWIO or [in, out] in both


Names = tuple[Parameter, ...]


class Place(NamedTuple):
  """Where a module stands in both trees."""

  module: str  # in Haiku
  path: tuple[str, ...] = ()  # in flax

  def child(self, module: str, *path: str) -> "Place":
    """Returns the place of the child that Haiku calls `module` and flax `path`."""
    return Place(f"{self.module}/~/{module}", (*self.path, *path))

  def weights(self, shape: tuple[int, ...]) -> Names:
    """Kernel of `shape`, whose last axis is the output's, and bias."""
    return (
      Parameter(self.module, "w", (*self.path, "kernel"), shape),
      Parameter(self.module, "b", (*self.path, "bias"), shape[-1:]),
    )

  def layer_norm(self, channels: int) -> Names:
    """Scale and offset of a LayerNorm over `channels`."""
    return (
      Parameter(self.module, "scale", (*self.path, "scale"), (channels,)),
      Parameter(self.module, "offset", (*self.path, "bias"), (channels,)),
    )


def backbone_names(place: Place, config: BackboneConfig, *, frame_channels: int) -> Names:
  """Returns the table of a backbone.

  Args:
    place: of the backbone in both trees.
    config: of the backbone.
    frame_channels: C.

  Raises:
    TypeError: the config is of another type.
  """
  if isinstance(config, ResNetConfig):
    return _resnet_names(config, place, frame_channels)
  if isinstance(config, ImpalaConfig):
    return _impala_names(config, place, frame_channels)
  if isinstance(config, NatureCNNConfig):
    return _nature_names(config, place, frame_channels)
  raise TypeError(f"config must be of a backbone, got {type(config).__name__}")


def _resnet_names(config: ResNetConfig, place: Place, channels: int) -> Names:
  names: Names = ()
  for i, (kernel, width) in enumerate(zip(config.stem_kernels, config.stem_channels, strict=True)):
    if i > 0:
      names += place.child(f"stem_layer_norm_{i}", f"stem_norm_{i}").layer_norm(channels)
    shape = (kernel, kernel, channels, width)
    names += place.child(f"stem_conv_{i}", f"stem_conv_{i}").weights(shape)
    channels = width
  for i in range(config.blocks):
    names += _pre_activation_block_names(place.child(f"block_{i}", f"block_{i}"), channels)
  return names + place.child("final_layer_norm", "final_norm").layer_norm(channels)


def _pre_activation_block_names(place: Place, channels: int) -> Names:
  names: Names = ()
  for i in range(2):
    names += place.child(f"layer_norm_{i}", f"norm_{i}").layer_norm(channels)
    names += place.child(f"conv_{i}", f"conv_{i}").weights((3, 3, channels, channels))
  return names


def _impala_names(config: ImpalaConfig, place: Place, channels: int) -> Names:
  """In Haiku a stack is a module of its own; in flax its parts are the backbone's."""
  names: Names = ()
  for i, width in enumerate(config.channels):
    stack = place.child(f"stack_{i}")
    names += stack.child("conv", f"stack_{i}_conv").weights((3, 3, channels, width))
    channels = width
    for j in range(config.blocks_per_stack):
      block = stack.child(f"block_{j}", f"stack_{i}_block_{j}")
      for k in range(2):
        names += block.child(f"conv_{k}", f"conv_{k}").weights((3, 3, channels, channels))
  return names


def _nature_names(config: NatureCNNConfig, place: Place, channels: int) -> Names:
  names: Names = ()
  for i, (kernel, width) in enumerate(zip(config.kernels, config.channels, strict=True)):
    names += place.child(f"conv_{i}", f"conv_{i}").weights((kernel, kernel, channels, width))
    channels = width
  return names


def head_names(place: Place, *, features: int, outputs: int) -> Names:
  """Returns the table of a head: in Haiku a linear layer, in flax a module that holds one.

  Args:
    place: of the head in both trees.
    features: D, its input.
    outputs: A of a policy, M of a categorical head, 1 of a scalar.
  """
  return Place(place.module, (*place.path, "dense")).weights((features, outputs))


class ActorCriticSizes(NamedTuple):
  """What settles an actor-critic's or a Q-network's parameters beside its backbones."""

  observation_shape: tuple[int, int, int]  # (H, W, C)
  num_actions: int  # A
  hidden: int  # width of a dense layer


def actor_critic_names(config: BackboneConfig, sizes: ActorCriticSizes) -> Names:
  """Returns the table of `SharedActorCritic`, in Haiku `actor_critic`."""
  place = Place("actor_critic")
  return (
    *_trunk_names(place, config, sizes),
    *_actor_critic_head_names(place, sizes, {"policy": sizes.num_actions, "value": 1}),
  )


def phasic_names(
  config: BackboneConfig, sizes: ActorCriticSizes, *, trunks: tuple[str, ...]
) -> Names:
  """Returns the table of an actor-critic with an auxiliary value head, in Haiku
  `phasic_actor_critic`.

  Args:
    config: of every backbone.
    sizes: of the rest.
    trunks: an entry of `PHASIC_TRUNK_NAMES`.
  """
  place = Place("phasic_actor_critic")
  names: Names = ()
  for trunk in trunks:
    names += _trunk_names(place.child(trunk, trunk), config, sizes)
  outputs = {"policy": sizes.num_actions, "value": 1, "auxiliary_value": 1}
  return names + _actor_critic_head_names(place, sizes, outputs)


PHASIC_TRUNK_NAMES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
  {"dual": ("policy_trunk", "value_trunk"), "shared": ("trunk",), "detached": ("trunk",)}
)


def _trunk_names(place: Place, config: BackboneConfig, sizes: ActorCriticSizes) -> Names:
  """Backbone and dense layer."""
  backbone = place.child("backbone", "backbone")
  height, width, channels = config.latent_shape(sizes.observation_shape)
  return (
    *backbone_names(backbone, config, frame_channels=sizes.observation_shape[2]),
    *place.child("linear", "dense").weights((height * width * channels, sizes.hidden)),
  )


def _actor_critic_head_names(
  place: Place, sizes: ActorCriticSizes, outputs: Mapping[str, int]
) -> Names:
  names: Names = ()
  for head, size in outputs.items():
    names += head_names(place.child(f"{head}_head", head), features=sizes.hidden, outputs=size)
  return names


class WorldModelSizes(NamedTuple):
  """What settles the world model's parameters beside its backbone."""

  observation_shape: tuple[int, int, int]  # (H, W, C)
  dynamics_blocks: int
  head_channels: int
  hidden: int
  num_actions: int  # A
  num_value_atoms: int  # M of the value head
  num_reward_atoms: int  # M of the reward head


def action_value_names(
  config: BackboneConfig, sizes: WorldModelSizes, *, heads: tuple[str, ...] = ("value", "reward")
) -> Names:
  """Returns the table of the world model with these heads, as Q-learning has it."""
  outputs = {"value": sizes.num_value_atoms, "reward": sizes.num_reward_atoms}
  place = Place("world_model")
  shape = config.latent_shape(sizes.observation_shape)
  return (
    *backbone_names(
      place.child("representation", "representation"),
      config,
      frame_channels=sizes.observation_shape[2],
    ),
    *_dynamics_names(place.child("dynamics", "dynamics"), sizes, channels=shape[2]),
    *(
      parameter
      for head in heads
      for parameter in _prediction_names(place, head, sizes, shape=shape, outputs=outputs[head])
    ),
  )


def q_network_names(
  config: BackboneConfig, sizes: ActorCriticSizes, *, heads: Mapping[str, int]
) -> Names:
  """Returns the table of `QNetwork`, in Haiku `q_network`; heads: M of each by name."""
  place = Place("q_network")
  frame_channels = sizes.observation_shape[2]
  names = backbone_names(
    place.child("representation", "representation"), config, frame_channels=frame_channels
  )
  flat = math.prod(config.latent_shape(sizes.observation_shape))
  names += place.child("linear", "features").weights((flat, sizes.hidden))
  for head, outputs in heads.items():
    own = place.child(f"{head}_head", f"{head}_head")
    names += head_names(own, features=sizes.hidden, outputs=sizes.num_actions * outputs)
  return names


def planning_names(config: BackboneConfig, sizes: WorldModelSizes) -> Names:
  """Returns the table of the whole world model, as MuZero has it."""
  policy = _prediction_names(
    Place("world_model"),
    "policy",
    sizes,
    shape=config.latent_shape(sizes.observation_shape),
    outputs=sizes.num_actions,
  )
  return action_value_names(config, sizes) + policy


def _dynamics_names(place: Place, sizes: WorldModelSizes, *, channels: int) -> Names:
  names = place.child("join_conv", "join").weights((3, 3, channels + sizes.num_actions, channels))
  for i in range(sizes.dynamics_blocks):
    names += _pre_activation_block_names(place.child(f"block_{i}", f"block_{i}"), channels)
  return names + place.child("layer_norm", "norm").layer_norm(channels)


def _prediction_names(
  place: Place,
  what: str,
  sizes: WorldModelSizes,
  *,
  shape: tuple[int, int, int],
  outputs: int,
) -> Names:
  """The features of the head `what` and the head."""
  height, width, channels = shape
  features = place.child(f"{what}_features", f"{what}_features")
  flat = height * width * sizes.head_channels
  return (
    *features.child("conv", "conv").weights((1, 1, channels, sizes.head_channels)),
    *features.child("layer_norm", "norm").layer_norm(sizes.head_channels),
    *features.child("linear", "dense").weights((flat, sizes.hidden)),
    *head_names(
      place.child(f"{what}_head", f"{what}_head"), features=sizes.hidden, outputs=outputs
    ),
  )
