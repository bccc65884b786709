"""Policy and value: from one trunk as in Procgen's PPO, and the trunks of PPG."""

from types import MappingProxyType
from typing import NamedTuple

import flax.linen as nn
from flax.typing import Initializer
import jax
from jax import lax
import jax.numpy as jnp

from networks.backbones import make_backbone
from networks.config import BackboneConfig
from networks.heads import PolicyHead, ScalarHead
from networks.initialisers import BackboneInitialisers, TrunkInitialisers


class ActorCriticOutput(NamedTuple):
  """What an actor-critic says about B observations."""

  logits: jax.Array  # [B, A] float32
  value: jax.Array  # [B] float32


class PhasicOutput(NamedTuple):
  """What an actor-critic with an auxiliary value head says about B observations."""

  logits: jax.Array  # [B, A] float32
  value: jax.Array  # [B] float32
  auxiliary_value: jax.Array  # [B] float32, from the policy's trunk


class SharedActorCritic(nn.Module):
  """Backbone, flatten, dense, relu, then one policy head and one value head.

  Cobbe et al. 2020 (Procgen): with `ImpalaConfig()`, 15 actions and 64x64x3
  frames it has 626,256 parameters. Initialised as OpenAI baselines, which that
  paper ran, initialises it: the dense layer is a `tf.layers.dense` with its
  default (Glorot-uniform, zero bias; `build_impala_cnn` in common/models.py),
  the policy head orthogonal with gain 0.01 and the value head orthogonal with
  gain 1, zero biases (common/policies.py, `fc` in a2c/utils.py).

  Attributes:
    config: of the backbone.
    num_actions: A.
    hidden: width of the dense layer.
  """

  config: BackboneConfig
  num_actions: int
  hidden: int = 256

  @nn.compact
  def __call__(self, frames: jax.Array) -> ActorCriticOutput:
    """Maps frames `[B, H, W, C]` uint8 to logits `[B, A]` and value `[B]`, float32.

    Raises:
      TypeError: the frames are not uint8.
    """
    features = _features(
      frames,
      self.config,
      hidden=self.hidden,
      backbone_init=None,
      dense_init=nn.initializers.glorot_uniform(),
    )
    return ActorCriticOutput(
      logits=PolicyHead(self.num_actions, name="policy")(features),
      value=ScalarHead(name="value")(features),
    )


class Trunk(nn.Module):
  """Backbone, flatten, dense, relu: what heads stand on.

  Attributes:
    config: of the backbone.
    hidden: D, width of the dense layer.
    initialisers: of the kernels.
  """

  config: BackboneConfig
  hidden: int
  initialisers: TrunkInitialisers

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps frames `[B, H, W, C]` uint8 to features `[B, D]`; raises TypeError unless uint8."""
    return _features(
      frames,
      self.config,
      hidden=self.hidden,
      backbone_init=self.initialisers.backbone,
      dense_init=self.initialisers.dense,
    )


class PhasicDualActorCritic(nn.Module):
  """Two trunks, one of the policy and one of the value, without a shared parameter.

  Cobbe et al. 2021 (PPG), section 2. The auxiliary value head stands on the policy's trunk:
  through it values shape the policy's features, in the auxiliary phase alone. With
  `ImpalaConfig()`, 15 actions and 64x64x3 frames it has 1,248,657 parameters.

  Attributes:
    config: of both backbones.
    num_actions: A.
    hidden: width of the dense layers.
    initialisers: of the trunks' kernels.
    head_init: of the heads' kernels.
  """

  config: BackboneConfig
  num_actions: int
  hidden: int
  initialisers: TrunkInitialisers
  head_init: Initializer

  @nn.compact
  def __call__(self, frames: jax.Array) -> PhasicOutput:
    """Maps frames `[B, H, W, C]` uint8 to a PhasicOutput; raises TypeError unless uint8."""
    features = Trunk(self.config, self.hidden, self.initialisers, name="policy_trunk")(frames)
    value_features = Trunk(self.config, self.hidden, self.initialisers, name="value_trunk")(frames)
    return _phasic_heads(
      features, value_features, num_actions=self.num_actions, head_init=self.head_init
    )


class PhasicSharedActorCritic(nn.Module):
  """One trunk for policy and value; the auxiliary value is a third head on it.

  `arch='shared'` of PPG's released code: 626,513 parameters with `ImpalaConfig()`, 15
  actions and 64x64x3 frames.

  Attributes:
    config: of the backbone.
    num_actions: A.
    hidden: width of the dense layer.
    initialisers: of the trunk's kernels.
    head_init: of the heads' kernels.
  """

  config: BackboneConfig
  num_actions: int
  hidden: int
  initialisers: TrunkInitialisers
  head_init: Initializer

  @nn.compact
  def __call__(self, frames: jax.Array) -> PhasicOutput:
    """Maps frames `[B, H, W, C]` uint8 to a PhasicOutput; raises TypeError unless uint8."""
    features = Trunk(self.config, self.hidden, self.initialisers, name="trunk")(frames)
    return _phasic_heads(features, features, num_actions=self.num_actions, head_init=self.head_init)


class PhasicDetachedActorCritic(nn.Module):
  """One trunk; the value head learns from it and does not change it.

  `arch='detach'` of PPG's released code, the paper's single-network variant: values shape
  the trunk through the auxiliary head alone. As many parameters as the shared network.

  Attributes:
    config: of the backbone.
    num_actions: A.
    hidden: width of the dense layer.
    initialisers: of the trunk's kernels.
    head_init: of the heads' kernels.
  """

  config: BackboneConfig
  num_actions: int
  hidden: int
  initialisers: TrunkInitialisers
  head_init: Initializer

  @nn.compact
  def __call__(self, frames: jax.Array) -> PhasicOutput:
    """Maps frames `[B, H, W, C]` uint8 to a PhasicOutput; raises TypeError unless uint8."""
    features = Trunk(self.config, self.hidden, self.initialisers, name="trunk")(frames)
    return _phasic_heads(
      features,
      lax.stop_gradient(features),
      num_actions=self.num_actions,
      head_init=self.head_init,
    )


PHASIC_TRUNKS: MappingProxyType[str, type[nn.Module]] = MappingProxyType(
  {
    "dual": PhasicDualActorCritic,
    "shared": PhasicSharedActorCritic,
    "detached": PhasicDetachedActorCritic,
  }
)


def _features(
  frames: jax.Array,
  config: BackboneConfig,
  *,
  hidden: int,
  backbone_init: BackboneInitialisers | None,
  dense_init: Initializer,
) -> jax.Array:
  """Backbone, flatten, dense, relu, as children of the module that calls it: `[B, D]`."""
  latent = make_backbone(config, initialisers=backbone_init, name="backbone")(frames)
  flat = latent.reshape((latent.shape[0], -1))
  dtype = jnp.dtype(config.compute_dtype)
  return nn.relu(nn.Dense(hidden, kernel_init=dense_init, dtype=dtype, name="dense")(flat))


def _phasic_heads(
  features: jax.Array, value_features: jax.Array, *, num_actions: int, head_init: Initializer
) -> PhasicOutput:
  """Policy and auxiliary value on `features` `[B, D]`, the value on `value_features`."""
  return PhasicOutput(
    logits=PolicyHead(num_actions, head_init, name="policy")(features),
    value=ScalarHead(head_init, name="value")(value_features),
    auxiliary_value=ScalarHead(head_init, name="auxiliary_value")(features),
  )
