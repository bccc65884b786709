"""How the kernels of backbones and trunks begin; biases start at zero.

Row-normalised, as Phasic Policy Gradient's released code has them: every output's weights
are a random direction of given length.
"""

from typing import NamedTuple

import flax.linen as nn
from flax.typing import Initializer
import jax
import jax.numpy as jnp

from networks.config import BackboneConfig, ImpalaConfig, NatureCNNConfig, ResNetConfig

STACK_NORM = 1.0  # the convolutions that change resolution or width
DENSE_NORM = 1.4
HEAD_NORM = 0.1


class BackboneInitialisers(NamedTuple):
  """How a backbone's kernels begin."""

  stack: Initializer  # of the first convolution of every stack, or of the stem
  residual: Initializer  # of the convolutions in residual blocks


LECUN_NORMAL = BackboneInitialisers(nn.initializers.lecun_normal(), nn.initializers.lecun_normal())
GLOROT_UNIFORM = BackboneInitialisers(
  nn.initializers.glorot_uniform(), nn.initializers.glorot_uniform()
)


class TrunkInitialisers(NamedTuple):
  """How the kernels of a backbone and of the dense layer behind it begin."""

  backbone: BackboneInitialisers
  dense: Initializer


def row_normalised(norm: float) -> Initializer:
  """Rows of equal length (released code of Cobbe et al. 2021, `NormedLinear`, `NormedConv2d`).

    w = norm * u / |u|,   u uniform in [-1, 1)

  for the weights w of each output, over all inputs and positions of the kernel.

  Args:
    norm: length of a row.

  Returns:
    (key, `[..., D]`, dtype) -> an array whose D rows `[...]` have Euclidean length `norm`.

  Raises:
    ValueError: `norm` is not positive.
  """
  if not norm > 0.0:
    raise ValueError(f"norm must be positive, got {norm!r}")

  def initialise(key, shape, dtype=jnp.float32):
    direction = jax.random.uniform(key, shape, dtype, minval=-1.0)
    axes = tuple(range(len(shape) - 1))
    length = jnp.sqrt(jnp.sum(jnp.square(direction), axis=axes, keepdims=True))
    return norm * direction / length

  return initialise


def row_normalised_trunk(config: BackboneConfig) -> TrunkInitialisers:
  """The norms of Phasic Policy Gradient's encoder (released code, `impala_cnn.py`).

    1 for a stack's first convolution, 1.4 for the dense layer,
    blocks^(-1/4) for each of a residual block's two convolutions

  with the number of blocks over all stacks: 6 in IMPALA's network, .639. What a block adds
  has a variance in proportion to 1/blocks, so that their sum does not grow with the depth.

  Args:
    config: of the backbone.

  Returns:
    The initialisers. For a ResNetConfig or a NatureCNNConfig, which Phasic Policy Gradient
    did not use, the stem's or all convolutions count as stacks' first.
  """
  blocks = max(1, num_blocks(config))
  return TrunkInitialisers(
    backbone=BackboneInitialisers(
      stack=row_normalised(STACK_NORM), residual=row_normalised(blocks**-0.25)
    ),
    dense=row_normalised(DENSE_NORM),
  )


def num_blocks(config: BackboneConfig) -> int:
  """Returns the number of residual blocks of a backbone.

  Raises:
    TypeError: the config is of no backbone.
  """
  if isinstance(config, ResNetConfig):
    return config.blocks
  if isinstance(config, ImpalaConfig):
    return len(config.channels) * config.blocks_per_stack
  if isinstance(config, NatureCNNConfig):
    return 0
  raise TypeError(f"config must be of a backbone, got {type(config).__name__}")
