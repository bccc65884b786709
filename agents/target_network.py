"""The target network: a copy of the parameters, refreshed every so many updates."""

from typing import Any

import jax
import jax.numpy as jnp


def refresh_target(target_params: Any, params: Any, *, updates: jax.Array, interval: int) -> Any:
  """Returns `params` where `updates` is a multiple of `interval`, else `target_params`.

  Args:
    target_params: a tree of arrays.
    params: a tree of the same structure.
    updates: `[]` integer, optimiser steps made.
    interval: optimiser steps between copies.
  """
  due = updates % interval == 0
  return jax.tree.map(lambda old, new: jnp.where(due, new, old), target_params, params)
