"""The network of a usual DQN: one pass over a frame says something of every action.

The counterpart of `networks.world_model`, where the action goes into a model step.
"""

import flax.linen as nn
from flax.typing import Initializer
import jax
import jax.numpy as jnp

from networks.backbones import make_backbone
from networks.config import BackboneConfig
from networks.heads import CategoricalHead


class QNetwork(nn.Module):
  """Backbone, one dense layer with relu, and for every action the outputs of a head.

  The form of Nature DQN (Mnih et al. 2015, methods) on any backbone. With its convolutions,
  512 hidden units and one output an action it has 600,736 + 513 A parameters on 64x64x3
  frames, 608,431 for Procgen's 15 actions; on the published 84x84x4 frames
  1,684,128 + 513 A. A head that is never called has no parameters.

  Attributes:
    backbone: of the representation.
    hidden: width of the dense layer, which both heads share.
    num_actions: A.
    num_value_outputs: M of the value head, for every action.
    num_reward_outputs: M of the reward head, for every action.
    head_init: of the heads' kernels; zeros by default.
  """

  backbone: BackboneConfig
  hidden: int
  num_actions: int
  num_value_outputs: int
  num_reward_outputs: int
  head_init: Initializer = nn.initializers.zeros_init()

  def setup(self):
    self.representation = make_backbone(self.backbone)
    self.features = nn.Dense(self.hidden, dtype=jnp.dtype(self.backbone.compute_dtype))
    self.value_head = self._head(self.num_value_outputs)
    self.reward_head = self._head(self.num_reward_outputs)

  def _head(self, num_outputs: int) -> nn.Module:
    return CategoricalHead(self.num_actions * num_outputs, kernel_init=self.head_init)

  def represent(self, frames: jax.Array) -> jax.Array:
    """Maps frames `[B, H, W, C]` uint8 to the backbone's latents `[B, h, w, D]`."""
    return self.representation(frames)

  def value(self, latent: jax.Array) -> jax.Array:
    """Maps latents `[B, h, w, D]` to the value head's outputs `[B, A, M]` float32."""
    return self._of_every_action(self.value_head, latent)

  def reward(self, latent: jax.Array) -> jax.Array:
    """Maps latents `[B, h, w, D]` to the reward head's outputs `[B, A, M]` float32."""
    return self._of_every_action(self.reward_head, latent)

  def _of_every_action(self, head: nn.Module, latent: jax.Array) -> jax.Array:
    features = nn.relu(self.features(latent.reshape((latent.shape[0], -1))))
    return head(features).reshape((latent.shape[0], self.num_actions, -1))
