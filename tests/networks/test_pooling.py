"""Max-pooling against XLA's own, in values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.pooling import max_pool

SIZES = [(8, 8), (7, 7), (6, 9), (9, 4), (1, 1), (2, 1), (3, 3), (1, 5)]


def plain(x):
  return nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")


def both_gradients(x, *, seed=0):
  """Returns values and gradients of XLA's pooling and of ours."""
  # Small integers: sums of gradients are exact in any order.
  shape = jax.eval_shape(plain, x).shape
  g = jnp.asarray(np.random.default_rng(seed).integers(-8, 9, shape), x.dtype)

  def run(pool):
    values, vjp = jax.vjp(pool, x)
    return values, vjp(g)[0]

  return jax.jit(lambda: (run(plain), run(max_pool)))()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [2, 1000], ids=["ties", "no ties"])
def test_equals_reduce_window(size, levels, dtype):
  x = np.random.default_rng(1).integers(0, levels, (3, *size, 4)) - levels // 2
  expected, ours = both_gradients(jnp.asarray(x, dtype))
  for wanted, got in zip(expected, ours, strict=True):
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, wanted)


def test_the_first_of_equal_entries_gets_the_gradient():
  # 4x4 zeros under SAME: windows start at rows and columns 0 and 2, and each sends its
  # gradient to its upper left corner.
  gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.zeros((1, 4, 4, 1)))
  expected = np.zeros((4, 4))
  expected[np.ix_([0, 2], [0, 2])] = 1
  np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


def test_one_entry_may_be_the_maximum_of_four_windows():
  x = jnp.zeros((1, 6, 6, 1)).at[0, 2, 2, 0].set(1)
  gradient = jax.grad(lambda x: max_pool(x).sum())(x)
  assert gradient[0, 2, 2, 0] == 4


def test_nan_is_handed_on_when_differentiated_and_when_not():
  x = jnp.zeros((1, 6, 6, 2)).at[0, 3, 3, 0].set(jnp.nan)
  values, _ = jax.vjp(max_pool, x)
  np.testing.assert_array_equal(np.isnan(values), np.isnan(plain(x)))
  np.testing.assert_array_equal(np.isnan(max_pool(x)), np.isnan(plain(x)))
  assert np.isnan(values).sum() == 1  # row and column 3 belong to window (1, 1) alone


def test_minus_infinity_is_a_value_like_any_other():
  x = jnp.full((1, 5, 5, 1), -jnp.inf)
  np.testing.assert_array_equal(max_pool(x), plain(x))
  values, vjp = jax.vjp(max_pool, x)
  np.testing.assert_array_equal(values, plain(x))
  assert vjp(jnp.ones_like(values))[0].sum() <= values.size


def test_inside_jit_scan_and_vmap():
  x = jnp.asarray(np.random.default_rng(2).integers(0, 5, (3, 2, 8, 8, 4)), jnp.float32)

  def loss(pool):
    return lambda x: (pool(x) ** 2).sum()

  expected = np.stack([jax.jit(jax.grad(loss(plain)))(entry) for entry in x])
  scanned = jax.jit(lambda x: jax.lax.map(jax.grad(loss(max_pool)), x))(x)
  np.testing.assert_array_equal(scanned, expected)
  np.testing.assert_array_equal(jax.jit(jax.vmap(jax.grad(loss(max_pool))))(x), expected)
