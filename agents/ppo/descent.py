"""One optimiser step on the mean of a loss over steps."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from agents.interface import Metrics
from networks.gradients import value_and_grad_in_chunks


def descend(
  loss: Callable[[Any, Any], tuple[jax.Array, Metrics]],
  optimizer: optax.GradientTransformation,
  params: Any,
  optimizer_state: Any,
  *,
  batch: Any,
  chunk_size: int,
) -> tuple[Any, Any, dict[str, jax.Array]]:
  """Descends the gradient of a mean loss.

  Args:
    loss: (params, steps) -> (mean over the steps, such means by name).
    optimizer: turns the gradient into a change of the parameters.
    params: to be changed.
    optimizer_state: of these parameters.
    batch: a tree of `[N, ...]` arrays.
    chunk_size: steps whose gradient is computed at once, a divisor of N; 0 takes all.

  Returns:
    The next parameters, the next state of the optimiser, and the means with the
    gradient's norm, `gradient_norm`, before any limit.
  """
  size = jax.tree.leaves(batch)[0].shape[0]
  (_, means), gradient = value_and_grad_in_chunks(
    loss, params, batch, chunk_size=chunk_size or size
  )
  updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
  metrics = {**means, "gradient_norm": optax.tree.norm(gradient)}
  return optax.apply_updates(params, updates), optimizer_state, metrics
