"""Backbones against hand-written numpy, and what every backbone promises."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.backbones import PreActivationBlock, make_backbone, scale_frames
from networks.config import ImpalaConfig, NatureCNNConfig, ResNetConfig

TINY = {
  "resnet": ResNetConfig(stem_kernels=(4, 3), stem_strides=(2, 2), stem_channels=(4, 6), blocks=1),
  "impala": ImpalaConfig(channels=(4, 6), blocks_per_stack=1),
  "nature": NatureCNNConfig(kernels=(4, 3), strides=(2, 1), channels=(4, 6)),
}


def frames(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).integers(0, 256, shape), jnp.uint8)


def with_dtype(config, dtype):
  return type(config)(**{**vars(config), "compute_dtype": dtype})


def initialise(module, x):
  return jax.jit(module.init)(jax.random.key(0), x)


def random_params(module, x, *, seed=0):
  """Parameters in which no bias is zero and no norm the identity."""
  params = jax.eval_shape(module.init, jax.random.key(0), x)
  leaves, structure = jax.tree.flatten(params)
  generator = np.random.default_rng(seed)
  return jax.tree.unflatten(
    structure, [jnp.asarray(0.3 * generator.standard_normal(p.shape), p.dtype) for p in leaves]
  )


def pad_same(x, kernel, stride, value):
  """Pads rows and columns of `[B, H, W, C]` as TensorFlow's SAME does."""
  pads = []
  for size in x.shape[1:3]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    pads.append((total // 2, total - total // 2))
  return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def windows(x, kernel, stride, value=0.0):
  """Yields (row, column, `[B, k, k, C]`) for every window of padding SAME."""
  padded = pad_same(x, kernel, stride, value)
  for i in range(-(-x.shape[1] // stride)):
    for j in range(-(-x.shape[2] // stride)):
      rows = slice(i * stride, i * stride + kernel)
      columns = slice(j * stride, j * stride + kernel)
      yield i, j, padded[:, rows, columns]


def numpy_conv(x, params, stride=1):
  kernel, bias = np.asarray(params["kernel"], np.float64), np.asarray(params["bias"], np.float64)
  rows, columns = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
  out = np.zeros((x.shape[0], rows, columns, kernel.shape[3]))
  for i, j, window in windows(x, kernel.shape[0], stride):
    for d in range(kernel.shape[3]):
      out[:, i, j, d] = (window * kernel[None, :, :, :, d]).sum(axis=(1, 2, 3)) + bias[d]
  return out


def numpy_pool(x):
  out = np.zeros((x.shape[0], -(-x.shape[1] // 2), -(-x.shape[2] // 2), x.shape[3]))
  for i, j, window in windows(x, 3, 2, -np.inf):
    out[:, i, j] = window.max(axis=(1, 2))
  return out


def numpy_norm(x, params):
  mean = x.mean(axis=-1, keepdims=True)
  variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
  scale, bias = (
    np.asarray(params[name], np.float64)[None, None, None] for name in ("scale", "bias")
  )
  return (x - mean) / np.sqrt(variance + 1e-6) * scale + bias


def relu(x):
  return np.maximum(x, 0)


def numpy_block(x, params):
  inner = numpy_conv(relu(numpy_norm(x, params["norm_0"])), params["conv_0"])
  return x + numpy_conv(relu(numpy_norm(inner, params["norm_1"])), params["conv_1"])


def test_block_is_pre_activation_with_layer_norm_over_channels():
  x = np.random.default_rng(1).standard_normal((2, 5, 4, 3)).astype(np.float32)
  block = PreActivationBlock(3, jnp.dtype("float32"))
  params = random_params(block, x)
  expected = numpy_block(x.astype(np.float64), params["params"])
  np.testing.assert_allclose(jax.jit(block.apply)(params, x), expected, atol=1e-5)


def numpy_standardised(x):
  x = np.asarray(x, np.float64) / 255
  return np.stack([(each - each.mean()) / np.sqrt(each.var() + 1e-5) for each in x])


def test_resnet_against_numpy():
  x = frames(2, 13, 16, 3)
  backbone = make_backbone(TINY["resnet"])
  params = random_params(backbone, x)
  p = params["params"]
  y = numpy_conv(numpy_standardised(x), p["stem_conv_0"], stride=2)
  y = numpy_conv(relu(numpy_norm(y, p["stem_norm_1"])), p["stem_conv_1"], stride=2)
  expected = relu(numpy_norm(numpy_block(y, p["block_0"]), p["final_norm"]))
  assert expected.shape == (2, 4, 4, 6)
  np.testing.assert_allclose(jax.jit(backbone.apply)(params, x), expected, atol=1e-4)


def test_impala_against_numpy():
  x = frames(2, 13, 16, 3)
  backbone = make_backbone(TINY["impala"])
  params = random_params(backbone, x)
  p = params["params"]
  y = np.asarray(x, np.float64) / 255
  for stack in (0, 1):
    y = numpy_pool(numpy_conv(y, p[f"stack_{stack}_conv"]))
    block = p[f"stack_{stack}_block_0"]
    y = y + numpy_conv(relu(numpy_conv(relu(y), block["conv_0"])), block["conv_1"])
  assert y.shape == (2, 4, 4, 6)
  np.testing.assert_allclose(jax.jit(backbone.apply)(params, x), relu(y), atol=1e-4)


def numpy_unpadded_conv(x, params, stride):
  kernel, bias = np.asarray(params["kernel"], np.float64), np.asarray(params["bias"], np.float64)
  size = kernel.shape[0]
  rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
  out = np.zeros((x.shape[0], rows, columns, kernel.shape[3]))
  for i in range(rows):
    for j in range(columns):
      window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
      out[:, i, j] = np.einsum("bklc,klcd->bd", window, kernel) + bias[None]
  return out


def test_nature_against_numpy():
  x = frames(2, 13, 16, 3)
  backbone = make_backbone(TINY["nature"])
  params = random_params(backbone, x)
  y = np.asarray(x, np.float64) / 255
  y = relu(numpy_unpadded_conv(y, params["params"]["conv_0"], 2))
  y = relu(numpy_unpadded_conv(y, params["params"]["conv_1"], 1))
  assert y.shape == (2, 3, 5, 6)
  np.testing.assert_allclose(jax.jit(backbone.apply)(params, x), y, atol=1e-4)


@pytest.mark.parametrize(
  ("frame", "latent", "parameters"),
  [
    # by hand: 8*8*C*32 + 32, 4*4*32*64 + 64 = 32,832, 3*3*64*64 + 64 = 36,928
    ((84, 84, 4), (7, 7, 64), 8_224 + 32_832 + 36_928),
    ((64, 64, 3), (4, 4, 64), 6_176 + 32_832 + 36_928),
  ],
)
def test_nature_has_the_published_sizes(frame, latent, parameters):
  backbone = make_backbone(NatureCNNConfig())
  x = jax.ShapeDtypeStruct((1, *frame), jnp.uint8)
  output, params = jax.eval_shape(backbone.init_with_output, jax.random.key(0), x)
  assert output.shape == (1, *latent) == (1, *NatureCNNConfig().latent_shape(frame))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters


def test_nature_refuses_frames_that_its_kernels_do_not_fit():
  x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)  # 32, 7, 2: too small for 3 x 3
  with pytest.raises(ValueError, match=r"\(8, 4, 3\) do not fit frames of \(32, 32, 3\)"):
    jax.eval_shape(make_backbone(NatureCNNConfig()).init, jax.random.key(0), x)


def test_impala_starts_glorot_uniform_with_zero_biases():
  params = initialise(make_backbone(ImpalaConfig()), frames(1, 8, 8, 3))["params"]
  conv = params["stack_1_block_0"]["conv_0"]  # 3x3x32x32: uniform within sqrt(6 / (288 + 288))
  limit = np.sqrt(6 / 576)
  assert np.abs(conv["kernel"]).max() <= limit
  assert np.abs(conv["kernel"]).max() > 0.99 * limit
  np.testing.assert_allclose(np.std(conv["kernel"]), limit / np.sqrt(3), rtol=0.05)
  assert not np.any(conv["bias"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TINY)
def test_latent_has_the_compute_dtype_and_parameters_are_float32(name, dtype):
  backbone = make_backbone(with_dtype(TINY[name], dtype))
  x = frames(3, 16, 12, 3)
  params = initialise(backbone, x)
  latent = jax.jit(backbone.apply)(params, x)
  assert latent.shape == (3, 5, 3, 6) if name == "nature" else (3, 4, 3, 6)
  assert latent.dtype == dtype
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_is_the_same_network_coarsely(name):
  x = frames(4, 16, 16, 3)
  exact = make_backbone(TINY[name])
  params = initialise(exact, x)
  coarse = jax.jit(make_backbone(with_dtype(TINY[name], "bfloat16")).apply)(params, x)
  expected = np.asarray(jax.jit(exact.apply)(params, x))
  error = np.abs(np.asarray(coarse, np.float32) - expected).mean()
  assert 0 < error < 0.03 * np.abs(expected).mean()


@pytest.mark.parametrize("name", TINY)
def test_entries_of_a_batch_are_independent(name):
  x = frames(5, 16, 16, 3)
  backbone = make_backbone(TINY[name])
  params = random_params(backbone, x)
  apply = jax.jit(backbone.apply)
  together = apply(params, x)
  for i in range(5):
    np.testing.assert_allclose(apply(params, x[i : i + 1])[0], together[i], atol=1e-5)


def test_bytes_are_scaled_once():
  scaled = scale_frames(jnp.asarray([0, 51, 255], jnp.uint8).reshape(1, 1, 3, 1), jnp.float32)
  np.testing.assert_allclose(scaled[0, 0, :, 0], [0, 0.2, 1])


def test_brightness_and_contrast_of_a_whole_frame_are_no_matter():
  """Frames that differ by factor and offset only give one latent; in [0, 1] they do not."""
  dark = np.random.default_rng(0).integers(0, 100, (1, 16, 16, 3), dtype=np.uint8)
  both = np.concatenate([dark, 2 * dark + 40])
  for scaling, same in (("standardised", True), ("unit_interval", False)):
    backbone = make_backbone(dataclasses.replace(TINY["resnet"], frame_scaling=scaling))
    latent = backbone.apply(random_params(backbone, both), both)
    assert np.allclose(latent[0], latent[1], atol=1e-2) == same


def test_a_frame_of_one_value_is_zeros():
  backbone = make_backbone(TINY["resnet"])
  white = np.full((1, 16, 16, 3), 255, np.uint8)
  params = random_params(backbone, white)
  black = backbone.apply(params, 0 * white)
  np.testing.assert_allclose(backbone.apply(params, white), black, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_scaled_frames_are_refused(name):
  with pytest.raises(TypeError, match="uint8 frames and scales them itself, got float32"):
    jax.eval_shape(make_backbone(TINY[name]).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


def test_an_unknown_config_is_refused():
  with pytest.raises(TypeError, match="got dict"):
    make_backbone({"blocks": 1})
