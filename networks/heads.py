"""Heads: one dense layer from a feature vector to logits or to a number.

Their outputs are float32 whatever the dtype of the features.
"""

import flax.linen as nn
from flax.typing import Initializer
import jax
import jax.numpy as jnp


class PolicyHead(nn.Module):
  """Unnormalised log-probabilities of the actions.

  Attributes:
    num_actions: A.
    kernel_init: the default is that of OpenAI baselines' policies, orthogonal
      with gain 0.01: nearly uniform at the start. Biases start at zero.
  """

  num_actions: int
  kernel_init: Initializer = nn.initializers.orthogonal(0.01)

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Maps features `[B, D]` to logits `[B, A]` float32."""
    dense = nn.Dense(self.num_actions, kernel_init=self.kernel_init, name="dense")
    return dense(features.astype(jnp.float32))


class ScalarHead(nn.Module):
  """One number, such as a state's value.

  Attributes:
    kernel_init: the default is that of OpenAI baselines' value functions,
      orthogonal with gain 1. The bias starts at zero.
  """

  kernel_init: Initializer = nn.initializers.orthogonal(1.0)

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Maps features `[B, D]` to `[B]` float32."""
    dense = nn.Dense(1, kernel_init=self.kernel_init, name="dense")
    return dense(features.astype(jnp.float32))[:, 0]


class CategoricalHead(nn.Module):
  """Logits over the atoms of a support, for a value or a reward.

  Attributes:
    num_atoms: M.
    kernel_init: the default is zeros: a uniform distribution, whose mean is the
      support's centre, at the start. Biases start at zero.
  """

  num_atoms: int
  kernel_init: Initializer = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Maps features `[B, D]` to logits `[B, M]` float32."""
    dense = nn.Dense(self.num_atoms, kernel_init=self.kernel_init, name="dense")
    return dense(features.astype(jnp.float32))
