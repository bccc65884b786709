"""Policy and value from one trunk, as in Procgen's PPO."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.backbones import make_backbone
from networks.config import BackboneConfig
from networks.heads import PolicyHead, ScalarHead


class ActorCriticOutput(NamedTuple):
  """What an actor-critic says about B observations."""

  logits: jax.Array  # [B, A] float32
  value: jax.Array  # [B] float32


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
    latent = make_backbone(self.config, name="backbone")(frames)
    flat = latent.reshape((latent.shape[0], -1))
    hidden = nn.Dense(
      self.hidden,
      kernel_init=nn.initializers.glorot_uniform(),
      dtype=jnp.dtype(self.config.compute_dtype),
      name="dense",
    )(flat)
    features = nn.relu(hidden)
    return ActorCriticOutput(
      logits=PolicyHead(self.num_actions, name="policy")(features),
      value=ScalarHead(name="value")(features),
    )
