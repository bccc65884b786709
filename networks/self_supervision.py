"""What self-supervised losses need behind the latent model: decoder, projectors, predictor.

The decoder mirrors the backbone of the same config. Parts that are not called at
initialisation have no parameters.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.backbones import ImpalaBlock, PreActivationBlock
from networks.config import BackboneConfig, ImpalaConfig, ResNetConfig
from networks.convolution import convolution


def depth_to_space(x: jax.Array, *, stride: int) -> jax.Array:
  """Spreads channels over pixels (Shi et al. 2016, eq. 4).

    y[s i + a, s j + b, c] = x[i, j, (s a + b) D + c],   0 <= a, b < s

  Args:
    x: `[B, h, w, s s D]`.
    stride: s.

  Returns:
    `[B, s h, s w, D]`.
  """
  batch, height, width, _ = x.shape
  x = x.reshape((batch, height, width, stride, stride, -1))
  x = jnp.transpose(x, (0, 1, 3, 2, 4, 5))
  return x.reshape((batch, height * stride, width * stride, -1))


def mirrored_kernel(kernel: int, stride: int) -> int:
  """Side of the sub-pixel convolution that reaches back as far as a strided one reached.

  With SAME padding an output of the strided convolution sees at most ceil((k - s) / 2)
  pixels beyond its own s x s block on each side, that is so many latents further on.
  """
  beyond = math.ceil(max(kernel - stride, 0) / 2)
  return 1 + 2 * math.ceil(beyond / stride)


class _Upsampling(nn.Module):
  """Convolution to s s D channels, then those spread over pixels.

  Every transposed convolution of no larger reach is a special case. Unlike it, this one
  has no pixel that more weights lead to than to its neighbours, and XLA:CPU runs it
  without inflating its input by zeros.
  """

  channels: int
  kernel: int
  stride: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, D']` to `[B, s h, s w, D]`."""
    x = nn.Conv(
      self.channels * self.stride**2,
      (self.kernel, self.kernel),
      dtype=self.dtype,
      conv_general_dilated=convolution,
      name="conv",
    )(x)
    return depth_to_space(x, stride=self.stride)


class Decoder(nn.Module):
  """Frames from latents: the backbone of the same config, backwards.

  ResNet: the residual blocks, then the stem's strides, last to first, with the LayerNorm
  and relu of the stem before each. IMPALA: per stack, last to first, its residual blocks,
  a relu and twice the resolution. The last convolution computes in float32.

  Attributes:
    config: of the backbone.
    frame_shape: H, W, C.
  """

  config: BackboneConfig
  frame_shape: tuple[int, int, int]

  @nn.compact
  def __call__(self, latent: jax.Array) -> jax.Array:
    """Maps `[B, h, w, D]` to `[B, H, W, C]` float32 in units of frames scaled to [0, 1].

    Raises:
      ValueError: the config's strides do not lead back to the frames' sides, or there is
        no decoder for such a backbone.
    """
    if isinstance(self.config, ResNetConfig):
      frames = self._resnet(latent)
    elif isinstance(self.config, ImpalaConfig):
      frames = self._impala(latent)
    else:
      raise ValueError(f"there is no decoder that mirrors a {type(self.config).__name__}")
    if frames.shape[1:] != self.frame_shape:
      raise ValueError(
        f"frame_shape must be what the decoder's strides lead back to from latents "
        f"{latent.shape[1:]}, {frames.shape[1:]}, got {self.frame_shape}"
      )
    return frames

  def _resnet(self, x: jax.Array) -> jax.Array:
    config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
    for i in range(config.blocks):
      x = PreActivationBlock(config.channels, dtype, name=f"block_{i}")(x)
    outputs = (self.frame_shape[-1], *config.stem_channels[:-1])  # what each stem layer took
    for i in reversed(range(len(outputs))):
      x = nn.relu(nn.LayerNorm(dtype=dtype, name=f"norm_{i}")(x))
      kernel, stride = config.stem_kernels[i], config.stem_strides[i]
      x = self._upsampling(i, outputs[i], mirrored_kernel(kernel, stride), stride)(x)
    return x

  def _impala(self, x: jax.Array) -> jax.Array:
    config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
    outputs = (self.frame_shape[-1], *config.channels[:-1])
    for i in reversed(range(len(outputs))):
      for j in range(config.blocks_per_stack):
        x = ImpalaBlock(config.channels[i], dtype, name=f"stack_{i}_block_{j}")(x)
      x = self._upsampling(i, outputs[i], 3, 2)(nn.relu(x))
    return x

  def _upsampling(self, index: int, channels: int, kernel: int, stride: int) -> nn.Module:
    dtype = jnp.float32 if index == 0 else jnp.dtype(self.config.compute_dtype)
    return _Upsampling(channels, kernel, stride, dtype, name=f"upsampling_{index}")


class _Perceptron(nn.Module):
  """Dense layer, LayerNorm, relu, dense layer; float32 out."""

  hidden: int
  size: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, ...]` to `[B, P]` float32."""
    x = nn.Dense(self.hidden, dtype=self.dtype, name="dense_0")(x.reshape((x.shape[0], -1)))
    x = nn.relu(nn.LayerNorm(dtype=self.dtype, name="norm")(x))
    return nn.Dense(self.size, name="dense_1")(x.astype(jnp.float32))


class SelfSupervisionHeads(nn.Module):
  """Decoder, projectors and predictor on the latents of a world model.

  Each loss has parts of its own, so that switching one off takes its parameters away
  and leaves the others'.

  Attributes:
    backbone: of the representation, which the decoder mirrors.
    frame_shape: H, W, C.
    hidden: width of the projectors' and the predictor's hidden layer.
    projection_size: P.
  """

  backbone: BackboneConfig
  frame_shape: tuple[int, int, int]
  hidden: int
  projection_size: int

  def setup(self):
    dtype = jnp.dtype(self.backbone.compute_dtype)
    sizes = (self.hidden, self.projection_size, dtype)
    self.decoder = Decoder(self.backbone, self.frame_shape)
    self.contrastive_projector = _Perceptron(*sizes)
    self.spr_projector = _Perceptron(*sizes)
    self.spr_predictor = _Perceptron(*sizes)

  def decode(self, latent: jax.Array) -> jax.Array:
    """Maps latents `[B, h, w, D]` to frames `[B, H, W, C]` in units of [0, 1]."""
    return self.decoder(latent)

  def project_for_contrast(self, latent: jax.Array) -> jax.Array:
    """Maps latents `[B, h, w, D]` to `[B, P]`, queries and keys alike."""
    return self.contrastive_projector(latent)

  def project_for_spr(self, latent: jax.Array) -> jax.Array:
    """Maps latents `[B, h, w, D]` to `[B, P]`."""
    return self.spr_projector(latent)

  def predict_for_spr(self, latent: jax.Array) -> jax.Array:
    """Maps latents `[B, h, w, D]` to predictions `[B, P]` of the target's projection."""
    return self.spr_predictor(self.spr_projector(latent))
