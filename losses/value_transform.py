"""Scalars as categorical targets: the h-transform, two-hot encoding, and back.

`[...]` stands for any leading axes; M is the number of atoms.
"""

import chex
import jax
import jax.numpy as jnp

from losses.categorical_support import CategoricalSupport


def transform(x: jax.Array, *, epsilon: float) -> jax.Array:
  """Squashes a scalar (Pohlen et al. 2018, proposition A.2).

    h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x

  Computed as x / (sqrt(|x| + 1) + 1) + epsilon x, the same without subtracting
  nearly equal numbers, so that small values keep float32's relative precision.

  Args:
    x: `[...]` returns or rewards.
    epsilon: weight of the linear part, not negative.

  Returns:
    `[...]`.
  """
  return x / (jnp.sqrt(jnp.abs(x) + 1.0) + 1.0) + epsilon * x


def inverse_transform(y: jax.Array, *, epsilon: float) -> jax.Array:
  """Inverse of `transform`, in closed form (Pohlen et al. 2018, proposition A.2).

    |u| = sqrt(|x| + 1) - 1 solves epsilon u^2 + (1 + 2 epsilon) |u| = |y|:
    u = 2 y / (1 + 2 epsilon + sqrt((1 + 2 epsilon)^2 + 4 epsilon |y|))
    x = u (|u| + 2)

  The published form, ((sqrt(1 + 4 eps (|y| + 1 + eps)) - 1) / (2 eps))^2 - 1,
  is the same root; in float32 it subtracts nearly equal numbers twice and is
  off by .2 % at y = .01. This one also holds at epsilon 0.

  Args:
    y: `[...]` transformed values.
    epsilon: as in `transform`.

  Returns:
    `[...]`.
  """
  linear = 1.0 + 2.0 * epsilon
  u = 2.0 * y / (linear + jnp.sqrt(linear**2 + 4.0 * epsilon * jnp.abs(y)))
  return u * (jnp.abs(u) + 2.0)


def two_hot(y: jax.Array, support: CategoricalSupport) -> jax.Array:
  """Puts a scalar on the two atoms next to it (Schrittwieser et al. 2020, appendix F).

    p_i = max(0, 1 - |y - atom_i| / spacing)

  Its expectation over the atoms is y. A y outside [low, high] cannot be
  represented and goes to the nearest end; `fraction_outside` says how often.

  Args:
    y: `[...]` in units of the support, that is, transformed.
    support: M atoms.

  Returns:
    `[..., M]`, each row of at most two neighbouring non-zeros, sum 1; nan where
    y is nan.
  """
  position = (jnp.clip(y, support.low, support.high) - support.low) / support.spacing
  index = jnp.arange(support.num_atoms, dtype=position.dtype)
  index = index.reshape((1,) * position.ndim + (support.num_atoms,))
  return jnp.maximum(0.0, 1.0 - jnp.abs(position[..., None] - index))


def scalar_to_probabilities(x: jax.Array, support: CategoricalSupport) -> jax.Array:
  """The categorical target of a scalar: two-hot of h(x).

  Args:
    x: `[...]` returns or rewards, not transformed.
    support: M atoms.

  Returns:
    `[..., M]`.
  """
  return two_hot(transform(x, epsilon=support.epsilon), support)


def logits_to_scalar(logits: jax.Array, support: CategoricalSupport) -> jax.Array:
  """The scalar that a categorical head predicts.

    h^-1(sum_i softmax(logits)_i atom_i)

  Args:
    logits: `[..., M]`.
    support: M atoms.

  Returns:
    `[...]`, not transformed.

  Raises:
    AssertionError: the last axis is not M.
  """
  chex.assert_axis_dimension(logits, -1, support.num_atoms)
  atoms = jnp.linspace(support.low, support.high, support.num_atoms, dtype=logits.dtype)
  expectation = jax.nn.softmax(logits) @ atoms
  return inverse_transform(expectation, epsilon=support.epsilon)


def categorical_value_loss(
  logits: jax.Array, target: jax.Array, support: CategoricalSupport
) -> jax.Array:
  """Cross-entropy of a categorical head to a scalar target (Schrittwieser et al. 2020, app. F).

    -sum_i p_i(target) log softmax(logits)_i

  For value and reward heads alike. Its least value is the entropy of the two-hot
  target, not 0.

  Args:
    logits: `[..., M]`.
    target: `[...]` returns or rewards, not transformed.
    support: M atoms.

  Returns:
    `[...]`, in nats.

  Raises:
    AssertionError: the shapes do not fit.
  """
  chex.assert_shape(logits, (*target.shape, support.num_atoms))
  probabilities = scalar_to_probabilities(target, support)
  return -jnp.sum(probabilities * jax.nn.log_softmax(logits), axis=-1)


def fraction_outside(x: jax.Array, support: CategoricalSupport) -> jax.Array:
  """Share of scalars that the support cannot represent; log it, it should be 0.

  Args:
    x: `[...]` returns or rewards, not transformed.
    support: M atoms.

  Returns:
    A scalar in [0, 1]: how many h(x) lie outside [low, high] or are nan.
  """
  y = transform(x, epsilon=support.epsilon)
  inside = (y >= support.low) & (y <= support.high)
  return jnp.mean(1.0 - inside.astype(jnp.float32))  # exactly 0 where all are inside
