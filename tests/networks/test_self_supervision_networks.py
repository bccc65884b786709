"""Decoder, projectors and predictor: shapes for every backbone, reach, parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.backbones import make_backbone
from networks.config import BACKBONES, ImpalaConfig, NatureCNNConfig, ResNetConfig
from networks.self_supervision import (
  Decoder,
  SelfSupervisionHeads,
  depth_to_space,
  mirrored_kernel,
)

KEY = jax.random.key(0)
TINY = ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(4,), blocks=0)


def latent_shape(config, frame_shape):
  frames = jax.ShapeDtypeStruct((2, *frame_shape), jnp.uint8)
  return jax.eval_shape(lambda x: make_backbone(config).init_with_output(KEY, x)[0], frames)


MIRRORED = {name: make() for name, make in BACKBONES.items() if name != "nature"}


@pytest.mark.parametrize("config", MIRRORED.values(), ids=MIRRORED)
def test_the_decoder_leads_back_to_frames(config):
  frame_shape = (64, 64, 3)
  latent = latent_shape(config, frame_shape)
  decoder = Decoder(config, frame_shape)
  frames, variables = jax.eval_shape(lambda x: decoder.init_with_output(KEY, x), latent)
  assert frames.shape == (2, *frame_shape)
  assert frames.dtype == jnp.float32
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))


def test_the_decoder_has_the_backbones_blocks_backwards():
  """Paper: 10 blocks of 256, then 256 -> 128 -> 64 -> 3 by strides of 2."""
  config = BACKBONES["paper"]()
  latent = latent_shape(config, (64, 64, 3))
  params = jax.eval_shape(Decoder(config, (64, 64, 3)).init, KEY, latent)["params"]
  kernels = {name: p["conv"]["kernel"].shape for name, p in params.items() if "upsampling" in name}
  assert kernels == {
    "upsampling_2": (3, 3, 256, 4 * 128),
    "upsampling_1": (3, 3, 128, 4 * 64),
    "upsampling_0": (3, 3, 64, 4 * 3),
  }
  assert sum("block" in name for name in params) == 10


@pytest.mark.parametrize("make", [ResNetConfig, ImpalaConfig])
def test_bfloat16_computes_in_between_and_ends_in_float32(make):
  config = make(compute_dtype="bfloat16")
  latent = latent_shape(config, (64, 64, 3))
  assert latent.dtype == jnp.bfloat16
  heads = SelfSupervisionHeads(config, (64, 64, 3), 8, 4)
  for method in (SelfSupervisionHeads.decode, SelfSupervisionHeads.predict_for_spr):
    output = jax.eval_shape(
      lambda x, method=method: heads.init_with_output(KEY, x, method=method)[0], latent
    )
    assert output.dtype == jnp.float32


def test_strides_that_do_not_lead_back_are_refused():
  latent = latent_shape(TINY, (10, 10, 3))  # 3 x 3: back to 12 x 12
  with pytest.raises(ValueError, match="frame_shape"):
    jax.eval_shape(Decoder(TINY, (10, 10, 3)).init, KEY, latent)


def test_depth_to_space_against_a_loop():
  x = np.arange(2 * 3 * 2 * 8.0).reshape(2, 3, 2, 8)
  y = depth_to_space(jnp.asarray(x), stride=2)
  assert y.shape == (2, 6, 4, 2)
  for i, j, c in np.ndindex(6, 4, 2):
    np.testing.assert_array_equal(
      y[:, i, j, c], x[:, i // 2, j // 2, (2 * (i % 2) + j % 2) * 2 + c]
    )


@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (4, 2), (3, 2), (4, 4), (7, 2), (2, 3)])
def test_the_mirrored_kernel_reaches_every_pixel_that_the_latent_saw(kernel, stride):
  """Counted on a line: which latents saw a pixel, and which the upsampling reads for it."""
  size = 12 * stride
  encode = nn.Conv(1, (kernel,), strides=(stride,), kernel_init=nn.initializers.ones)
  line = jnp.eye(size)[..., None]  # one pixel at a time
  saw = np.asarray(encode.init_with_output(KEY, line)[0])[..., 0] != 0  # [pixels, latents]
  reach = mirrored_kernel(kernel, stride) // 2
  pixel, latent = np.nonzero(saw)
  distance = np.abs(pixel // stride - latent)
  assert distance.max() == reach


def test_a_latent_position_is_decoded_where_it_is():
  """Without blocks and with patches, a change in one latent changes its own patch alone."""
  decoder = Decoder(TINY, (8, 8, 3))
  latent = jax.random.uniform(KEY, (1, 2, 2, 4))
  variables = decoder.init(KEY, latent)
  before = decoder.apply(variables, latent)
  after = decoder.apply(variables, latent.at[0, 1, 0, 2].add(1.0))
  changed = np.any(np.asarray(before != after)[0], axis=-1)
  expected = np.zeros((8, 8), bool)
  expected[4:, :4] = True
  np.testing.assert_array_equal(changed, expected)


def test_a_backbone_without_a_decoder_is_refused():
  decoder = Decoder(NatureCNNConfig(), (64, 64, 3))
  latent = jax.ShapeDtypeStruct((2, 4, 4, 64), jnp.float32)
  with pytest.raises(ValueError, match="mirrors a NatureCNNConfig"):
    jax.eval_shape(decoder.init, KEY, latent)


def test_parts_that_are_not_called_have_no_parameters():
  heads = SelfSupervisionHeads(TINY, (8, 8, 3), 8, 5)
  latent = jax.ShapeDtypeStruct((1, 2, 2, 4), jnp.float32)
  parts = {
    SelfSupervisionHeads.decode: {"decoder"},
    SelfSupervisionHeads.project_for_contrast: {"contrastive_projector"},
    SelfSupervisionHeads.predict_for_spr: {"spr_projector", "spr_predictor"},
  }
  for method, names in parts.items():
    init = jax.eval_shape(lambda x, method=method: heads.init(KEY, x, method=method), latent)
    assert set(init["params"]) == names
