"""One optimiser step on the mean of a loss over a minibatch, for all agents."""

from collections.abc import Callable
import math
from typing import Any

import jax
import optax

from agents.figures import Figures, join_figures
from agents.interface import Metrics, Shards
from networks.gradients import value_and_grad_in_chunks


def descend(
  loss: Callable[[Any, Any], tuple[jax.Array, Figures]],
  optimizer: optax.GradientTransformation,
  params: Any,
  optimizer_state: Any,
  *,
  batch: Any,
  chunk_size: int,
  shards: Shards,
) -> tuple[Any, Any, Metrics]:
  """Descends the gradient of a mean loss; all shards come to the same parameters.

    g = 1/D sum_d grad L_d

  The one place where shards tell one another gradients and figures, all in one message.

  Args:
    loss: (params, shard) -> (L_d, whose mean over the shards is descended; figures by name).
    optimizer: turns the gradient into a change of the parameters.
    params: to be changed.
    optimizer_state: of these parameters.
    batch: a tree of `[N, ...]` arrays, the own shard.
    chunk_size: entries whose gradient is computed at once: the greatest common divisor of
      this and N, so that on one shard a divisor of N is taken as it is; 0 takes all. In
      chunks every figure has to be a mean over entries.
    shards: of the minibatch.

  Returns:
    The next parameters, the next state of the optimiser, and the metrics with the
    gradient's norm, `gradient_norm`, before any limit.
  """
  size = jax.tree.leaves(batch)[0].shape[0]
  (_, figures), gradient = value_and_grad_in_chunks(
    loss, params, batch, chunk_size=math.gcd(chunk_size, size)
  )
  gradient, figures = shards.combine(gradient, figures)
  updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
  metrics = {**join_figures(figures), "gradient_norm": optax.tree.norm(gradient)}
  return optax.apply_updates(params, updates), optimizer_state, metrics
