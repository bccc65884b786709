"""What backbones there are and how large they are.

Plain dataclasses, checked when they are made; no jax, no flax.
"""

from collections.abc import Callable
import dataclasses
from types import MappingProxyType

COMPUTE_DTYPES = ("float32", "bfloat16")
FRAME_SCALINGS = ("standardised", "unit_interval")
DTYPE_BYTES = MappingProxyType({"float32": 4, "bfloat16": 2})


def _require_positive_integers(owner: str, field: str, values: object) -> None:
  """Raises ValueError unless `values` is a tuple of one or more positive integers."""
  good = isinstance(values, tuple) and len(values) > 0
  good = good and all(type(value) is int and value >= 1 for value in values)
  if not good:
    raise ValueError(
      f"{owner}.{field} must be a tuple of at least one positive integer, got {values!r}"
    )


def _require_integer(owner: str, field: str, value: object, *, at_least: int) -> None:
  """Raises ValueError unless `value` is an integer of at least `at_least`."""
  if type(value) is not int or value < at_least:
    raise ValueError(f"{owner}.{field} must be an integer of at least {at_least}, got {value!r}")


def _require_compute_dtype(owner: str, value: object) -> None:
  """Raises ValueError unless `value` names a compute dtype."""
  if value not in COMPUTE_DTYPES:
    allowed = ", ".join(COMPUTE_DTYPES)
    raise ValueError(f"{owner}.compute_dtype must be one of {allowed}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
  """A pre-activation residual network (ResNet-v2) behind a strided stem.

  Attributes:
    stem_kernels: side of every stem convolution's square kernel, first to last.
    stem_strides: stride of every stem convolution; their product is what the
      frame's sides are divided by.
    stem_channels: width of every stem convolution; the last is the width D of
      the residual blocks and of the latent.
    blocks: residual blocks of two 3x3 convolutions at the final resolution.
    frame_scaling: `standardised` gives every frame mean 0 and deviation 1,
      `unit_interval` divides its bytes by 255.
    compute_dtype: `float32` or `bfloat16`; parameters stay float32.

  Raises:
    ValueError: a tuple is empty or holds something else than positive
      integers, the three differ in length, `blocks` is not a non-negative
      integer, or `frame_scaling` or `compute_dtype` is unknown.
  """

  stem_kernels: tuple[int, ...] = (8, 4)
  stem_strides: tuple[int, ...] = (4, 2)
  stem_channels: tuple[int, ...] = (32, 32)
  blocks: int = 2
  frame_scaling: str = "standardised"
  compute_dtype: str = "float32"

  def __post_init__(self):
    for field in ("stem_kernels", "stem_strides", "stem_channels"):
      _require_positive_integers("ResNetConfig", field, getattr(self, field))
    for field in ("stem_strides", "stem_channels"):
      values = getattr(self, field)
      if len(values) != len(self.stem_kernels):
        raise ValueError(
          f"ResNetConfig.{field} must have as many entries as stem_kernels "
          f"({len(self.stem_kernels)}), got {values!r}"
        )
    _require_integer("ResNetConfig", "blocks", self.blocks, at_least=0)
    if self.frame_scaling not in FRAME_SCALINGS:
      allowed = ", ".join(FRAME_SCALINGS)
      raise ValueError(
        f"ResNetConfig.frame_scaling must be one of {allowed}, got {self.frame_scaling!r}"
      )
    _require_compute_dtype("ResNetConfig", self.compute_dtype)

  @property
  def channels(self) -> int:
    """D, the width of the residual blocks and of the latent."""
    return self.stem_channels[-1]

  def latent_shape(self, frame_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns (h, w, D) of the latent of frames (H, W, C)."""
    height, width = frame_shape[:2]
    for stride in self.stem_strides:
      height, width = -(-height // stride), -(-width // stride)
    return height, width, self.channels


@dataclasses.dataclass(frozen=True)
class ImpalaConfig:
  """The residual network of IMPALA (Espeholt et al. 2018, fig. 3), as Procgen uses it.

  Attributes:
    channels: width of every stack; each stack halves the frame's sides.
    blocks_per_stack: residual blocks of two 3x3 convolutions in every stack.
    compute_dtype: `float32` or `bfloat16`; parameters stay float32.

  Raises:
    ValueError: `channels` is not a tuple of positive integers,
      `blocks_per_stack` is not a non-negative integer, or `compute_dtype` is
      unknown.
  """

  channels: tuple[int, ...] = (16, 32, 32)
  blocks_per_stack: int = 2
  compute_dtype: str = "float32"

  def __post_init__(self):
    _require_positive_integers("ImpalaConfig", "channels", self.channels)
    _require_integer("ImpalaConfig", "blocks_per_stack", self.blocks_per_stack, at_least=0)
    _require_compute_dtype("ImpalaConfig", self.compute_dtype)

  def latent_shape(self, frame_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns (h, w, D) of the latent of frames (H, W, C)."""
    height, width = frame_shape[:2]
    for _ in self.channels:
      height, width = -(-height // 2), -(-width // 2)
    return height, width, self.channels[-1]


@dataclasses.dataclass(frozen=True)
class NatureCNNConfig:
  """The three convolutions of Nature DQN (Mnih et al. 2015), without padding.

  Attributes:
    kernels: side of every convolution's square kernel, first to last.
    strides: stride of every convolution.
    channels: width of every convolution; the last is D.
    compute_dtype: `float32` or `bfloat16`; parameters stay float32.

  Raises:
    ValueError: a tuple is empty or holds something else than positive integers, the three
      differ in length, or `compute_dtype` is unknown.
  """

  kernels: tuple[int, ...] = (8, 4, 3)
  strides: tuple[int, ...] = (4, 2, 1)
  channels: tuple[int, ...] = (32, 64, 64)
  compute_dtype: str = "float32"

  def __post_init__(self):
    for field in ("kernels", "strides", "channels"):
      values = getattr(self, field)
      _require_positive_integers("NatureCNNConfig", field, values)
      if len(values) != len(self.kernels):
        raise ValueError(
          f"NatureCNNConfig.{field} must have as many entries as kernels "
          f"({len(self.kernels)}), got {values!r}"
        )
    _require_compute_dtype("NatureCNNConfig", self.compute_dtype)

  def latent_shape(self, frame_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns (h, w, D) of the latent of frames (H, W, C)."""
    height, width = frame_shape[:2]
    for kernel, stride in zip(self.kernels, self.strides, strict=True):
      height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return height, width, self.channels[-1]


BackboneConfig = ResNetConfig | ImpalaConfig | NatureCNNConfig


def laptop() -> ResNetConfig:
  """The residual network for two CPU cores: 8x8x32 latent, two blocks.

  Chosen by measurement: a 64x64x3 frame costs 0.4 ms of one core forward and backward,
  its gradients taken 64 frames at a time (`networks.gradients`). A stem of (16, 32)
  channels with one block costs two thirds of it, (32, 64) with two blocks twice as much.
  """
  return ResNetConfig()


def paper() -> ResNetConfig:
  """The encoder of MuZero Unplugged and of the paper under study.

  10 blocks of 256 channels with LayerNorm (Schrittwieser et al. 2021, Anand et
  al. 2022); the papers do not document the stem for 64x64 frames: three 3x3/2
  convolutions to 8x8 are ours.
  """
  return ResNetConfig(
    stem_kernels=(3, 3, 3), stem_strides=(2, 2, 2), stem_channels=(64, 128, 256), blocks=10
  )


def impala() -> ImpalaConfig:
  """Procgen's own network (Cobbe et al. 2020): 626,256 parameters in PPO's form.

  A 64x64x3 frame costs 2.1 ms of one core forward and backward, its gradients taken 16 or
  32 frames at a time, and three times as much in minibatches of 2048 at once.
  """
  return ImpalaConfig()


def nature() -> NatureCNNConfig:
  """Nature DQN's convolutions (Mnih et al. 2015): 75,936 parameters on 64x64x3 frames.

  With its dense layer of 512 and one output for each of 15 actions, 608,431 in all; on the
  published 84x84x4 frames and 4 actions that form has 1,686,180.
  """
  return NatureCNNConfig()


BACKBONES: MappingProxyType[str, Callable[[], BackboneConfig]] = MappingProxyType(
  {"laptop": laptop, "paper": paper, "impala": impala, "nature": nature}
)
