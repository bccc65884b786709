"""Mean and variance of a batch, also of one that lies in equal parts in several places."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Moments(NamedTuple):
  """Mean and population variance."""

  mean: jax.Array  # [...]
  variance: jax.Array  # [...]


def moments_of(x: jax.Array) -> Moments:
  """Returns the moments, scalars, of all entries of `x`, of any shape."""
  return Moments(jnp.mean(x), jnp.var(x))


def join_moments(parts: Moments) -> Moments:
  """Moments of D equally large parts together (Chan, Golub & LeVeque 1983).

    m = mean_d m_d
    v = mean_d v_d + mean_d (m_d - m)^2

  No difference of sums of squares: a small variance about a large mean keeps its precision.
  Of one part they are its own, bit for bit.

  Args:
    parts: `[D]` each.

  Returns:
    Scalars.
  """
  mean = jnp.mean(parts.mean)
  return Moments(mean, jnp.mean(parts.variance) + jnp.mean(jnp.square(parts.mean - mean)))
