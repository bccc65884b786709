"""All code that knows about devices: one mesh with one axis, `data`.

The train state is replicated, batches are split along `data`. What treats batch entries
independently runs under `shard_map`, so that no collective can appear inside it. So do
updates, with those collectives alone that `Shards` stands for; what else takes statistics
over a batch is left to XLA's partitioner.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from agents.interface import WHOLE, Shards

AXIS = "data"
REPLICATED = PartitionSpec()
BATCH_FIRST = PartitionSpec(AXIS)  # [B, ...]
TIME_FIRST = PartitionSpec(None, AXIS)  # [T, B, ...]


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
  """Returns the mesh over `devices`, by default those of all processes, one's beside another's."""
  devices = devices or sorted(jax.devices(), key=lambda each: (each.process_index, each.id))
  return Mesh(np.asarray(devices), (AXIS,))


def make_own_mesh() -> Mesh:
  """Returns the mesh over this process's devices, for what it does without the others."""
  return make_mesh(jax.local_devices())


def place(tree: Any, mesh: Mesh, specs: Any) -> Any:
  """Puts host arrays on the mesh; `specs` is one spec or a tree of them.

  On a mesh of several processes, each gives its own part of what is split, in the order of the
  processes, and the same of what is not.
  """
  if isinstance(specs, PartitionSpec):
    shardings = jax.tree.map(lambda _: NamedSharding(mesh, specs), tree)
  else:
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
  if mesh.is_multi_process:
    return jax.tree.map(_place_own_part, tree, shardings)
  return jax.device_put(tree, shardings)


def _place_own_part(x: Any, sharding: NamedSharding) -> jax.Array:
  if isinstance(x, jax.Array) and not x.is_fully_addressable:
    return x  # is there already
  return jax.make_array_from_process_local_data(sharding, np.asarray(x))


def place_whole(x: np.ndarray, mesh: Mesh, spec: PartitionSpec) -> jax.Array:
  """Puts an array on the mesh that every process has the whole of."""
  return jax.make_array_from_callback(x.shape, NamedSharding(mesh, spec), lambda part: x[part])


def own_part(tree: Any) -> Any:
  """Returns the parts of arrays that are on this process's devices.

  Where it has all of an array, the array itself; else numpy, its parts one behind the other.
  """
  return jax.tree.map(_own_part, tree)


def _own_part(x: Any) -> Any:
  if not isinstance(x, jax.Array) or x.is_fully_addressable:
    return x
  shards = sorted(x.addressable_shards, key=lambda shard: [s.start or 0 for s in shard.index])
  parts = [np.asarray(shard.data) for shard in shards]
  split = [axis for axis, size in enumerate(x.shape) if size != parts[0].shape[axis]]
  return np.concatenate(parts, axis=split[0]) if split else parts[0]


def own_copy(tree: Any, mesh: Mesh) -> Any:
  """Returns arrays that all processes hold whole as arrays on `mesh`, this process's own."""
  sharding = NamedSharding(mesh, REPLICATED)

  def copy(x):
    shards = [shard.data for shard in x.addressable_shards]
    return jax.make_array_from_single_device_arrays(x.shape, sharding, shards)

  return jax.tree.map(copy, tree)


def first_shard(mesh: Mesh) -> int:
  """Returns how many devices of other processes come before those of an own mesh."""
  everywhere = make_mesh().devices.tolist()
  return everywhere.index(mesh.devices[0]) if jax.process_count() > 1 else 0


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
    The compiled function; each shard folds its index among those of all processes into the
    key. Results are split along their first axis.
  """

  first = 0 if mesh.is_multi_process else first_shard(mesh)

  def run(replicated, shard, key):
    own_key = jax.random.fold_in(key, first + jax.lax.axis_index(AXIS))
    return function(replicated, shard, own_key)

  mapped = jax.shard_map(
    run,
    mesh=mesh,
    in_specs=(REPLICATED, record, REPLICATED),
    out_specs=BATCH_FIRST,
    check_vma=False,
  )
  return jax.jit(mapped)


def on_shards_together(function: Callable, mesh: Mesh, **jit_options: Any) -> Callable:
  """Compiles `function(replicated, batch, key, shards)` to run on all shards of a batch together.

  Args:
    function: returns a tree of arrays, the same on every shard. What the devices send one
      another is what it asks `shards` for; one device sends nothing.
    mesh: the devices.
    **jit_options: of `jax.jit`.

  Returns:
    The compiled function of (replicated, batch, key), the batch a tree of `[N, ...]` arrays
    split along N; the key is the same for all shards. Its results are on every device.
  """

  def run(replicated, shard, key):
    return function(replicated, shard, key, _shards(mesh))

  mapped = jax.shard_map(
    run,
    mesh=mesh,
    in_specs=(REPLICATED, BATCH_FIRST, REPLICATED),
    out_specs=REPLICATED,
    check_vma=False,
  )
  return on_mesh(mapped, mesh, results=REPLICATED, **jit_options)


def _shards(mesh: Mesh) -> Shards:
  """How the devices of a mesh bring their shards together, inside `shard_map`."""
  count = mesh.shape[AXIS]
  if count == 1:
    return WHOLE
  index = jax.lax.axis_index(AXIS)

  def gather(x, axis):
    return jax.lax.all_gather(x, AXIS, axis=axis, tiled=True)

  def combine(mean, each):
    # All in one vector, so that there is one all-reduce. What is not averaged has a row for
    # every device, of which each fills its own.
    flat, restore = ravel_pytree(mean)
    own, restore_row = ravel_pytree(each)
    rows = jnp.where(jnp.arange(count)[:, None] == index, own[None], 0.0)
    total = jax.lax.psum(jnp.concatenate([flat, rows.reshape(-1)]), AXIS)
    rows = total[flat.size :].reshape(rows.shape)
    return restore(total[: flat.size] / count), jax.vmap(restore_row)(rows)

  return Shards(count=count, index=index, gather=gather, combine=combine)


def take(shard: Any, indices: jax.Array) -> Any:
  """Returns the entries `indices`, `[M]` integers, of a tree of `[N, ...]` arrays."""
  return jax.tree.map(lambda x: x[indices], shard)


def shuffled_minibatches(
  size: int, num_minibatches: int, *, mesh: Mesh, generator: np.random.Generator
) -> np.ndarray:
  """Returns `[num_minibatches, size / num_minibatches]` int32 indices for `take`.

  Split over the devices as the batch is, they are positions in each one's own shard. Its
  entries are shuffled among themselves, so that no entry moves between devices.
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
