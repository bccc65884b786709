"""What minibatches are drawn from: segments of an environment's steps, `[N, L, ...]`."""

from typing import Any

import jax
import jax.numpy as jnp

from agents.ppo.loss import PPOBatch
from replay.interface import Record


def columns(record: Record) -> PPOBatch:
  """Whole environment columns: `[T, B, ...]` to B segments of T steps."""
  return PPOBatch(**{name: jnp.swapaxes(x, 0, 1) for name, x in record.items()})


def single_steps(record: Record) -> PPOBatch:
  """Steps by themselves: `[T, B, ...]` to T * B segments of one step."""
  return PPOBatch(**{name: x.reshape((-1, 1, *x.shape[2:])) for name, x in record.items()})


def join_segments(batch: Any) -> Any:
  """Their steps: a tree of `[N, L, ...]` to one of `[N * L, ...]`."""
  return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), batch)
