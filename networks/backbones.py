"""The shared residual backbones: uint8 frames in, a spatial latent out.

Which one is built follows from the config's type alone. Flattening, dense
layers and heads belong to the networks that use a backbone.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.config import BackboneConfig, ImpalaConfig, ResNetConfig
from networks.convolution import convolution


def scale_frames(frames: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """Maps bytes to [0, 1].

  Args:
    frames: `[B, H, W, C]` uint8.
    dtype: of the result.

  Returns:
    `[B, H, W, C]`, frames / 255.

  Raises:
    TypeError: the frames are not uint8, so they may have been scaled before.
  """
  if frames.dtype != jnp.uint8:
    raise TypeError(f"a backbone takes uint8 frames and scales them itself, got {frames.dtype}")
  return frames.astype(dtype) / jnp.asarray(255, dtype)


class PreActivationBlock(nn.Module):
  """Residual block with full pre-activation (He et al. 2016b, fig. 4e).

    x + conv(relu(norm(conv(relu(norm(x))))))

  LayerNorm runs over the channels of each position (Ba et al. 2016).

  Attributes:
    channels: D, of input and output alike.
    dtype: of the computation.
  """

  channels: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, D]` to `[B, h, w, D]`."""
    residual = x
    for i in range(2):
      x = nn.relu(nn.LayerNorm(dtype=self.dtype, name=f"norm_{i}")(x))
      x = nn.Conv(
        self.channels,
        (3, 3),
        dtype=self.dtype,
        conv_general_dilated=convolution,
        name=f"conv_{i}",
      )(x)
    return residual + x


class ResNet(nn.Module):
  """ResNet-v2 (He et al. 2016b) with LayerNorm behind a strided stem.

  Between two stem convolutions stand a LayerNorm and a relu. The last block's
  sum is un-normalised, as in every pre-activation network, so a LayerNorm and a
  relu close the backbone.

  Attributes:
    config: sizes.
  """

  config: ResNetConfig

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` uint8 to `[B, h, w, D]`; raises TypeError unless uint8."""
    dtype = jnp.dtype(self.config.compute_dtype)
    x = scale_frames(frames, dtype)
    stem = zip(
      self.config.stem_kernels, self.config.stem_strides, self.config.stem_channels, strict=True
    )
    for i, (kernel, stride, channels) in enumerate(stem):
      if i > 0:
        x = nn.relu(nn.LayerNorm(dtype=dtype, name=f"stem_norm_{i}")(x))
      x = nn.Conv(
        channels,
        (kernel, kernel),
        strides=(stride, stride),
        dtype=dtype,
        conv_general_dilated=convolution,
        name=f"stem_conv_{i}",
      )(x)
    for i in range(self.config.blocks):
      x = PreActivationBlock(self.config.channels, dtype, name=f"block_{i}")(x)
    return nn.relu(nn.LayerNorm(dtype=dtype, name="final_norm")(x))


class ImpalaBlock(nn.Module):
  """IMPALA's residual block: x + conv(relu(conv(relu(x)))), without normalisation.

  Attributes:
    channels: D, of input and output alike.
    dtype: of the computation.
  """

  channels: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, D]` to `[B, h, w, D]`."""
    residual = x
    for i in range(2):
      x = nn.Conv(
        self.channels,
        (3, 3),
        kernel_init=nn.initializers.glorot_uniform(),
        dtype=self.dtype,
        conv_general_dilated=convolution,
        name=f"conv_{i}",
      )(nn.relu(x))
    return residual + x


class Impala(nn.Module):
  """IMPALA's residual network (Espeholt et al. 2018, fig. 3) in Procgen's form.

  Per stack: convolution 3x3, max-pool 3x3/2, residual blocks; SAME padding
  throughout; one relu closes the backbone. Initialised as in OpenAI baselines,
  where the convolutions are `tf.layers` with their default: Glorot-uniform
  kernels and zero biases.

  Attributes:
    config: sizes.
  """

  config: ImpalaConfig

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` uint8 to `[B, h, w, D]`; raises TypeError unless uint8."""
    dtype = jnp.dtype(self.config.compute_dtype)
    x = scale_frames(frames, dtype)
    for i, channels in enumerate(self.config.channels):
      x = nn.Conv(
        channels,
        (3, 3),
        kernel_init=nn.initializers.glorot_uniform(),
        dtype=dtype,
        conv_general_dilated=convolution,
        name=f"stack_{i}_conv",
      )(x)
      x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
      for j in range(self.config.blocks_per_stack):
        x = ImpalaBlock(channels, dtype, name=f"stack_{i}_block_{j}")(x)
    return nn.relu(x)


def make_backbone(config: BackboneConfig, *, name: str | None = None) -> nn.Module:
  """Builds the backbone that the config describes.

  Args:
    config: a ResNetConfig or an ImpalaConfig.
    name: of the module inside its parent.

  Returns:
    A module that maps frames `[B, H, W, C]` uint8 to a non-negative latent
    `[B, h, w, D]` in the config's compute dtype.

  Raises:
    TypeError: the config is of another type.
  """
  if isinstance(config, ResNetConfig):
    return ResNet(config, name=name)
  if isinstance(config, ImpalaConfig):
    return Impala(config, name=name)
  raise TypeError(f"config must be a ResNetConfig or an ImpalaConfig, got {type(config).__name__}")
