"""Diagnostics of unrolled models that MuZero and Q-learning share."""

import jax
import jax.numpy as jnp

from agents.figures import MaskedMean, masked_mean


def errors_by_step(
  name: str, said: jax.Array, target: jax.Array, inside: jax.Array, *, first_step: int
) -> dict[str, MaskedMean]:
  """Mean absolute error after each number of model steps, over starts whose episode lasts.

  Args:
    name: of the quantity.
    said: `[K, R]`, after one model step more in every row.
    target: `[K, R]`.
    inside: `[K, R]`, 1 where a row counts.
    first_step: model steps that the first row has taken.

  Returns:
    `NAME_error_k` by the number k of model steps; of nothing where no start's episode lasts
    so long.
  """
  error = jnp.abs(said - target)
  return {
    f"{name}_error_{first_step + row}": masked_mean(error[row], inside[row])
    for row in range(error.shape[0])
  }
