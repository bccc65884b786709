"""How the outputs of a head become a number, and what trains them."""

from typing import NamedTuple

import flax.linen as nn
from flax.typing import Initializer
import jax
import jax.numpy as jnp

from losses.categorical_support import CategoricalSupport
from losses.value import huber_value_loss
from losses.value_transform import categorical_value_loss, fraction_outside, logits_to_scalar


class CategoricalHead(NamedTuple):
  """Logits over the atoms of a support, as MuZero has them: h-transform and cross-entropy."""

  support: CategoricalSupport

  @property
  def num_outputs(self) -> int:
    """M."""
    return self.support.num_atoms

  @property
  def kernel_init(self) -> Initializer:
    """Zeros: a uniform distribution, whose mean is the support's centre, at the start."""
    return nn.initializers.zeros_init()

  def read(self, outputs: jax.Array) -> jax.Array:
    """The numbers `[...]` that outputs `[..., M]` stand for."""
    return logits_to_scalar(outputs, self.support)

  def loss(self, outputs: jax.Array, target: jax.Array) -> jax.Array:
    """Cross-entropies `[...]` of outputs `[..., M]` to the two-hot targets of `[...]`."""
    return categorical_value_loss(outputs, target, self.support)

  def fraction_outside(self, target: jax.Array) -> jax.Array:
    """Share of the targets `[...]` that the head cannot represent."""
    return fraction_outside(target, self.support)


class ScalarHead(NamedTuple):
  """One output, the number itself in the reward's unit, regressed with Huber's loss."""

  huber_delta: float

  @property
  def num_outputs(self) -> int:
    """1."""
    return 1

  @property
  def kernel_init(self) -> Initializer:
    """Uniform within 1 / sqrt(fan-in), as in Nature DQN's code.

    Not zeros: until a first reward comes every target would be met, every gradient 0 and the
    best action the first one everywhere.
    """
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

  def read(self, outputs: jax.Array) -> jax.Array:
    """The numbers `[...]` of outputs `[..., 1]`."""
    return outputs[..., 0]

  def loss(self, outputs: jax.Array, target: jax.Array) -> jax.Array:
    """Huber losses `[...]` of outputs `[..., 1]` to targets `[...]`."""
    return huber_value_loss(self.read(outputs), target, delta=self.huber_delta)

  def fraction_outside(self, target: jax.Array) -> jax.Array:
    """0: every number can be represented."""
    del target
    return jnp.zeros(())


Head = CategoricalHead | ScalarHead
