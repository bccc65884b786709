"""Moments of equal parts against those of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses.moments import Moments, join_moments, moments_of


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_parts_make_the_whole(count, offset):
  """About 100, E[x^2] - E[x]^2 in float32 would be off by 1e-3 or so: here by rounding alone."""
  x = np.random.default_rng(0).normal(scale=0.1, size=40) + offset
  parts = [moments_of(jnp.asarray(part, jnp.float32)) for part in np.split(x, count)]
  joined = join_moments(jax.tree.map(lambda *each: jnp.stack(each), *parts))
  np.testing.assert_allclose(joined.mean, x.mean(), rtol=1e-6)
  np.testing.assert_allclose(joined.variance, x.var(), rtol=2e-3 if offset else 1e-5)


def test_one_part_is_the_whole_bit_for_bit():
  x = jnp.asarray(np.random.default_rng(1).normal(size=1000), jnp.float32)
  own = moments_of(x)
  joined = jax.jit(lambda x: join_moments(Moments(*(m[None] for m in moments_of(x)))))(x)
  assert joined.mean == jax.jit(jnp.mean)(x)
  assert joined.variance == jax.jit(jnp.var)(x)
  np.testing.assert_allclose(joined, own, rtol=1e-6)


def test_by_hand():
  # (1, 3) and (5, 7): means 2 and 6, variances 1; together mean 4, variance 1 + 4.
  parts = Moments(jnp.asarray([2.0, 6.0]), jnp.asarray([1.0, 1.0]))
  assert join_moments(parts) == (4.0, 5.0)
