"""All code that knows about devices: one mesh with one axis, `data`.

The train state is replicated, batches are split along `data`. What treats batch entries
independently runs under `shard_map`, so that no collective can appear inside it; what
takes statistics over a batch is left to XLA's partitioner.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

AXIS = "data"
REPLICATED = PartitionSpec()
BATCH_FIRST = PartitionSpec(AXIS)  # [B, ...]
TIME_FIRST = PartitionSpec(None, AXIS)  # [T, B, ...]


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
  """Returns the mesh over `devices`, by default all of this process."""
  return Mesh(np.asarray(devices or jax.devices()), (AXIS,))


def place(tree: Any, mesh: Mesh, specs: Any) -> Any:
  """Puts host arrays on the mesh; `specs` is one spec or a tree of them."""
  if isinstance(specs, PartitionSpec):
    return jax.device_put(tree, NamedSharding(mesh, specs))
  return jax.device_put(tree, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))


def on_mesh(function: Callable, mesh: Mesh, *, results: Any, **jit_options: Any) -> Callable:
  """Compiles `function` and leaves it to XLA how to split the work.

  Args:
    function: of arrays that are on the mesh.
    mesh: the devices.
    results: how the results are split: one spec, or a tree of them. Left to XLA, a
      result that is fed back could come split otherwise than at the start, and the
      second call would compile again.
    **jit_options: of `jax.jit`.

  Returns:
    The compiled function.
  """
  shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), results)
  # `jax.jit` keeps one cache per function; a partial has its own, and so its own count.
  return jax.jit(functools.partial(function), out_shardings=shardings, **jit_options)


def on_shards(function: Callable, mesh: Mesh, *, record: PartitionSpec) -> Callable:
  """Compiles `function(replicated, record, key)` to run on every shard by itself.

  Args:
    function: returns a tree of `[B, ...]` arrays and treats batch entries independently.
    mesh: the devices.
    record: how the second argument's arrays are split.

  Returns:
    The compiled function; each shard folds its index into the key. Results are
    split along their first axis.
  """

  def run(replicated, shard, key):
    return function(replicated, shard, jax.random.fold_in(key, jax.lax.axis_index(AXIS)))

  mapped = jax.shard_map(
    run,
    mesh=mesh,
    in_specs=(REPLICATED, record, REPLICATED),
    out_specs=BATCH_FIRST,
    check_vma=False,
  )
  return jax.jit(mapped)


def take(batch: Any, indices: jax.Array, mesh: Mesh) -> Any:
  """Returns the entries `indices` of a batch, every shard from its own part.

  Args:
    batch: a tree of `[N, ...]` arrays, split along N.
    indices: `[M]` int32, split the same way; positions within the shard's own part.
    mesh: the devices.

  Returns:
    A tree of `[M, ...]` arrays, split along M.
  """

  def run(shard, shard_indices):
    return jax.tree.map(lambda x: x[shard_indices], shard)

  return jax.shard_map(
    run, mesh=mesh, in_specs=(BATCH_FIRST, BATCH_FIRST), out_specs=BATCH_FIRST, check_vma=False
  )(batch, indices)


def shuffled_minibatches(
  size: int, num_minibatches: int, *, mesh: Mesh, generator: np.random.Generator
) -> np.ndarray:
  """Returns `[num_minibatches, size / num_minibatches]` int32 indices for `take`.

  Every shard's entries are shuffled among themselves, so that no entry moves between
  devices.
  """
  shards = mesh.shape[AXIS]
  local = np.stack([generator.permutation(size // shards) for _ in range(shards)])
  by_minibatch = local.astype(np.int32).reshape(shards, num_minibatches, -1).transpose(1, 0, 2)
  return by_minibatch.reshape(num_minibatches, -1)


def check_divides(size: int, num_minibatches: int, *, mesh: Mesh, what: str) -> None:
  """Raises ValueError unless `size` entries split over devices and minibatches."""
  parts = mesh.shape[AXIS] * num_minibatches
  if size % parts:
    raise ValueError(
      f"{what}: {size} entries do not split into {num_minibatches} minibatches on "
      f"{mesh.shape[AXIS]} devices; the number must be a multiple of {parts}"
    )
