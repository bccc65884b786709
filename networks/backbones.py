"""The shared backbones: uint8 frames in, a spatial latent out.

Which one is built follows from the config's type alone. Flattening, dense
layers and heads belong to the networks that use a backbone.
"""

from types import MappingProxyType

import flax.linen as nn
from flax.typing import Initializer
import jax
import jax.numpy as jnp

from networks.config import BackboneConfig, ImpalaConfig, NatureCNNConfig, ResNetConfig
from networks.convolution import convolution
from networks.initialisers import GLOROT_UNIFORM, LECUN_NORMAL, BackboneInitialisers
from networks.pooling import max_pool


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


def standardise_frames(frames: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """Gives every frame mean 0 and deviation 1, over positions and channels together.

  Inputs with one sign have a large part in common. While targets hardly differ (sparse
  rewards, values that start at 0), Adam's steps of equal size blow that part up until latents
  hardly tell frames apart; results/muzero_leaper has the measurement.

  Args:
    frames: `[B, H, W, C]` uint8.
    dtype: of the result.

  Returns:
    `[B, H, W, C]`; zeros for a frame of one value.

  Raises:
    TypeError: the frames are not uint8.
  """
  # At least in float32: a small variance next to a large mean has no digits in bfloat16.
  wide = jnp.promote_types(dtype, jnp.float32)
  return jax.nn.standardize(scale_frames(frames, wide), axis=(1, 2, 3)).astype(dtype)


FRAME_SCALING = MappingProxyType(
  {"standardised": standardise_frames, "unit_interval": scale_frames}
)


class PreActivationBlock(nn.Module):
  """Residual block with full pre-activation (He et al. 2016b, fig. 4e).

    x + conv(relu(norm(conv(relu(norm(x))))))

  LayerNorm runs over the channels of each position (Ba et al. 2016).

  Attributes:
    channels: D, of input and output alike.
    dtype: of the computation.
    kernel_init: of both convolutions.
  """

  channels: int
  dtype: jnp.dtype
  kernel_init: Initializer = LECUN_NORMAL.residual

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, D]` to `[B, h, w, D]`."""
    residual = x
    for i in range(2):
      x = nn.relu(nn.LayerNorm(dtype=self.dtype, name=f"norm_{i}")(x))
      x = nn.Conv(
        self.channels,
        (3, 3),
        kernel_init=self.kernel_init,
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
    initialisers: of the kernels; the default is flax's own.
  """

  config: ResNetConfig
  initialisers: BackboneInitialisers = LECUN_NORMAL

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` uint8 to `[B, h, w, D]`; raises TypeError unless uint8."""
    dtype = jnp.dtype(self.config.compute_dtype)
    x = FRAME_SCALING[self.config.frame_scaling](frames, dtype)
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
        kernel_init=self.initialisers.stack,
        dtype=dtype,
        conv_general_dilated=convolution,
        name=f"stem_conv_{i}",
      )(x)
    for i in range(self.config.blocks):
      block = PreActivationBlock(
        self.config.channels, dtype, self.initialisers.residual, name=f"block_{i}"
      )
      x = block(x)
    return nn.relu(nn.LayerNorm(dtype=dtype, name="final_norm")(x))


class ImpalaBlock(nn.Module):
  """IMPALA's residual block: x + conv(relu(conv(relu(x)))), without normalisation.

  Attributes:
    channels: D, of input and output alike.
    dtype: of the computation.
    kernel_init: of both convolutions.
  """

  channels: int
  dtype: jnp.dtype
  kernel_init: Initializer = GLOROT_UNIFORM.residual

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, D]` to `[B, h, w, D]`."""
    residual = x
    for i in range(2):
      x = nn.Conv(
        self.channels,
        (3, 3),
        kernel_init=self.kernel_init,
        dtype=self.dtype,
        conv_general_dilated=convolution,
        name=f"conv_{i}",
      )(nn.relu(x))
    return residual + x


class Impala(nn.Module):
  """IMPALA's residual network (Espeholt et al. 2018, fig. 3) in Procgen's form.

  Per stack: convolution 3x3, max-pool 3x3/2, residual blocks; SAME padding
  throughout; one relu closes the backbone.

  Attributes:
    config: sizes.
    initialisers: of the kernels; the default is that of OpenAI baselines, where the
      convolutions are `tf.layers` with their default: Glorot-uniform. Biases start at zero.
  """

  config: ImpalaConfig
  initialisers: BackboneInitialisers = GLOROT_UNIFORM

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` uint8 to `[B, h, w, D]`; raises TypeError unless uint8."""
    dtype = jnp.dtype(self.config.compute_dtype)
    x = scale_frames(frames, dtype)
    for i, channels in enumerate(self.config.channels):
      x = nn.Conv(
        channels,
        (3, 3),
        kernel_init=self.initialisers.stack,
        dtype=dtype,
        conv_general_dilated=convolution,
        name=f"stack_{i}_conv",
      )(x)
      x = max_pool(x)
      for j in range(self.config.blocks_per_stack):
        block = ImpalaBlock(
          channels, dtype, self.initialisers.residual, name=f"stack_{i}_block_{j}"
        )
        x = block(x)
    return nn.relu(x)


class NatureCNN(nn.Module):
  """The convolutions of Nature DQN (Mnih et al. 2015, methods): no padding, relu after each.

  Attributes:
    config: sizes.
    initialisers: of the kernels; the default is flax's own.
  """

  config: NatureCNNConfig
  initialisers: BackboneInitialisers = LECUN_NORMAL

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` uint8 to `[B, h, w, D]`.

    Raises:
      TypeError: the frames are not uint8.
      ValueError: the frames are too small for the kernels.
    """
    dtype = jnp.dtype(self.config.compute_dtype)
    x = scale_frames(frames, dtype)
    layers = zip(self.config.kernels, self.config.strides, self.config.channels, strict=True)
    for i, (kernel, stride, channels) in enumerate(layers):
      if min(x.shape[1:3]) < kernel:
        raise ValueError(
          f"NatureCNNConfig.kernels {self.config.kernels} do not fit frames of "
          f"{frames.shape[1:]}: {x.shape[1:3]} are left before convolution {i}"
        )
      x = nn.Conv(
        channels,
        (kernel, kernel),
        strides=(stride, stride),
        padding="VALID",
        kernel_init=self.initialisers.stack,
        dtype=dtype,
        conv_general_dilated=convolution,
        name=f"conv_{i}",
      )(x)
      x = nn.relu(x)
    return x


def make_backbone(
  config: BackboneConfig,
  *,
  initialisers: BackboneInitialisers | None = None,
  name: str | None = None,
) -> nn.Module:
  """Builds the backbone that the config describes.

  Args:
    config: a ResNetConfig, an ImpalaConfig or a NatureCNNConfig.
    initialisers: of its kernels; None leaves them to the backbone.
    name: of the module inside its parent.

  Returns:
    A module that maps frames `[B, H, W, C]` uint8 to a non-negative latent
    `[B, h, w, D]` in the config's compute dtype.

  Raises:
    TypeError: the config is of another type.
  """
  if isinstance(config, ResNetConfig):
    return ResNet(config, initialisers or LECUN_NORMAL, name=name)
  if isinstance(config, ImpalaConfig):
    return Impala(config, initialisers or GLOROT_UNIFORM, name=name)
  if isinstance(config, NatureCNNConfig):
    return NatureCNN(config, initialisers or LECUN_NORMAL, name=name)
  raise TypeError(f"config must be of a backbone, got {type(config).__name__}")
