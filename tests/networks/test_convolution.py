"""Convolution against XLA's own, in values and gradients."""

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.convolution import convolution, convolution_by_blocks

NHWC = ("NHWC", "HWIO", "NHWC")
# Rows, columns, input channels, output channels, kernel, stride.
CASES = [
  (8, 8, 5, 4, 3, 1),
  (7, 9, 5, 4, 3, 1),
  (8, 12, 3, 4, 3, 1),  # few channels: by blocks
  (8, 9, 3, 4, 3, 1),  # few channels, but rows that do not split into blocks
  (16, 16, 3, 4, 8, 4),
  (16, 14, 5, 4, 4, 2),
  (15, 11, 5, 4, 3, 2),
  (5, 5, 5, 4, 1, 1),
  (3, 2, 5, 4, 5, 4),  # a kernel larger than the input
  (9, 10, 5, 4, 2, 3),
]


def operands(rows, columns, inputs, outputs, kernel):
  generator = np.random.default_rng(0)
  x = generator.standard_normal((3, rows, columns, inputs)).astype(np.float32)
  w = generator.standard_normal((kernel, kernel, inputs, outputs)).astype(np.float32)
  return jnp.asarray(x), jnp.asarray(w)


def plain(x, w, strides, padding):
  return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=NHWC)


def outputs_and_gradients(conv, x, w, *, stride, padding):
  values, vjp = jax.vjp(lambda x, w: conv(x, w, (stride, stride), padding), x, w)
  return values, *vjp(jnp.sin(values))


@pytest.mark.parametrize("padding", ["SAME", ((1, 2), (3, 3)), ((5, 0), (1, 4))])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_conv_general_dilated(case, padding):
  *shape, stride = case
  x, w = operands(*shape)

  def run(conv):
    return jax.jit(lambda x, w: outputs_and_gradients(conv, x, w, stride=stride, padding=padding))

  expected, ours = run(plain)(x, w), run(convolution)(x, w)
  for wanted, got in zip(expected, ours, strict=True):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_valid_padding_is_none():
  x, w = operands(8, 12, 3, 4, 3)
  np.testing.assert_allclose(
    convolution(x, w, (1, 1), "VALID"), plain(x, w, (1, 1), "VALID"), atol=1e-5
  )


@pytest.mark.parametrize("block", [1, 2, 3, 6])
def test_blocks_of_any_size_give_the_same(block):
  x, w = operands(5, 6, 3, 4, 3)
  blocks = convolution_by_blocks(x, w, padding=((1, 1), (1, 1)), block=block)
  np.testing.assert_allclose(blocks, plain(x, w, (1, 1), "SAME"), atol=1e-5)


def test_inside_a_scan_and_under_vmap():
  x, w = operands(8, 8, 5, 4, 3)
  xs = jnp.stack([x, 2 * x])

  def gradient(conv):
    return jax.grad(lambda w, x: (conv(x, w, (1, 1), "SAME") ** 2).sum())

  expected = np.stack([jax.jit(gradient(plain))(w, x) for x in xs])
  scanned = jax.jit(lambda w: lax.map(lambda x: gradient(convolution)(w, x), xs))(w)
  np.testing.assert_allclose(scanned, expected, rtol=1e-4, atol=1e-3)
  mapped = jax.jit(jax.vmap(gradient(convolution), in_axes=(None, 0)))(w, xs)
  np.testing.assert_allclose(mapped, expected, rtol=1e-4, atol=1e-3)


def test_inside_a_scan_every_convolution_is_in_the_form_of_the_fast_kernel():
  x, w = operands(8, 8, 5, 4, 3)

  def loss(w, x):
    hidden = convolution(x, w, (1, 1), "SAME")
    return (convolution(hidden, jnp.concatenate([w] * 2, 2)[:, :, :4], (2, 2), "SAME") ** 2).sum()

  def run(w, x):
    return lax.scan(lambda w, x: (w - 1e-3 * jax.grad(loss)(w, x), None), w, jnp.stack([x, x]))[0]

  text = jax.jit(run).lower(w, x).compile().as_text()
  calls = [line for line in text.splitlines() if " convolution(" in line]
  assert len(calls) >= 5
  assert all("dim_labels=b01f_01io->b01f" in line for line in calls)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_flax_takes_it(dtype):
  x, _ = operands(8, 8, 5, 4, 3)

  def layer(**options):
    return nn.Conv(6, (3, 3), strides=(2, 2), dtype=dtype, **options)

  params = layer().init(jax.random.key(0), x)
  ours = layer(conv_general_dilated=convolution)

  def gradient(layer):
    return jax.jit(jax.grad(lambda p: (layer.apply(p, x).astype(jnp.float32) ** 2).mean()))(params)

  np.testing.assert_array_equal(ours.apply(params, x), layer().apply(params, x))
  for got, wanted in zip(
    jax.tree.leaves(gradient(ours)), jax.tree.leaves(gradient(layer())), strict=True
  ):
    assert got.dtype == wanted.dtype
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
  "options",
  [
    {"lhs_dilation": (2, 1)},
    {"rhs_dilation": (1, 2)},
    {"feature_group_count": 5},
    {"precision": lax.Precision.HIGHEST},
    {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
    {"batch_group_count": 3},
  ],
  ids=str,
)
def test_what_is_not_served_is_refused(options):
  x, w = operands(8, 8, 5, 4, 3)
  with pytest.raises(ValueError, match=f"does not serve {next(iter(options))}="):
    convolution(x, w, (1, 1), "SAME", **options)


def test_other_ranks_are_refused():
  with pytest.raises(ValueError, match="4 axes each"):
    convolution(jnp.zeros((2, 8, 5)), jnp.zeros((3, 5, 4)), (1,), "SAME")
