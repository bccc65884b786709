"""Minibatches over several devices, and what stays where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training import sharding


@pytest.fixture(scope="module", params=[1, 2], ids=["one device", "two devices"])
def mesh(request):
  return sharding.make_mesh(jax.devices()[: request.param])


def compiled_take(mesh):
  """Takes `(batch, indices)` as the learner does, and puts what is taken side by side."""

  def run(nothing, drawn, key, shards):
    del nothing, key
    return jax.tree.map(lambda x: shards.gather(x, 0), sharding.take(*drawn))

  compiled = sharding.on_shards_together(run, mesh)
  return lambda batch, indices: compiled((), (batch, indices), jax.random.key(0))


@pytest.mark.parametrize(("size", "count"), [(24, 3), (24, 1), (8, 4), (40, 5)])
def test_minibatches_hold_every_entry_once(mesh, size, count):
  generator = np.random.default_rng(0)
  batch = {"x": np.arange(size), "y": np.arange(2 * size).reshape(size, 2)}
  placed = sharding.place(batch, mesh, sharding.BATCH_FIRST)
  take = compiled_take(mesh)
  epochs = []
  for _ in range(2):
    rows = sharding.shuffled_minibatches(size, count, mesh=mesh, generator=generator)
    assert rows.shape == (count, size // count)
    assert rows.dtype == np.int32
    taken = [take(placed, sharding.place(row, mesh, sharding.BATCH_FIRST)) for row in rows]
    for minibatch in taken:
      # Leaves stay aligned with one another.
      np.testing.assert_array_equal(minibatch["y"][:, 0], 2 * minibatch["x"])
    epochs.append(np.concatenate([minibatch["x"] for minibatch in taken]))
    np.testing.assert_array_equal(np.sort(epochs[-1]), np.arange(size))
  assert not np.array_equal(*epochs), "the second epoch has the same order"


def test_every_device_takes_from_its_own_part(mesh):
  """`take` equals numpy's indexing shard by shard, so no entry moves between devices."""
  shards = mesh.shape[sharding.AXIS]
  generator = np.random.default_rng(1)
  batch = generator.normal(size=(12, 3)).astype(np.float32)
  indices = generator.integers(0, 12 // shards, 6).astype(np.int32)
  taken = compiled_take(mesh)(
    sharding.place(batch, mesh, sharding.BATCH_FIRST),
    sharding.place(indices, mesh, sharding.BATCH_FIRST),
  )
  parts, index_parts = np.split(batch, shards), np.split(indices, shards)
  expected = np.concatenate([part[i] for part, i in zip(parts, index_parts, strict=True)])
  np.testing.assert_array_equal(taken, expected)


def test_a_batch_that_does_not_divide_is_named():
  mesh = sharding.make_mesh(jax.devices()[:2])
  sharding.check_divides(12, 3, mesh=mesh, what="phase x")
  for size in (9, 15):  # 3 minibatches, but not on 2 devices
    message = f"phase x: {size} entries do not split into 3 minibatches on 2 dev.*multiple of 6"
    with pytest.raises(ValueError, match=message):
      sharding.check_divides(size, 3, mesh=mesh, what="phase x")


def test_shards_run_by_themselves_with_keys_of_their_own(mesh):
  def act(params, observation, key):
    # What a function does on a shard must not depend on the others.
    return observation + params, jax.random.uniform(key, observation.shape)

  compiled = sharding.on_shards(act, mesh, record=sharding.BATCH_FIRST)
  observation = np.arange(8.0, dtype=np.float32)
  placed = sharding.place(observation, mesh, sharding.BATCH_FIRST)
  result, noise = compiled(jnp.float32(1), placed, jax.random.key(0))
  np.testing.assert_array_equal(result, observation + 1)
  assert len(np.unique(noise)) == 8
  assert result.sharding.is_equivalent_to(placed.sharding, 1)


def test_results_stay_where_they_were_asked_to_be(mesh):
  """A result that is fed back must come back in the same way, or the next call recompiles."""

  def step(state, batch):
    return {"x": state["x"] + batch}, batch * 2

  compiled = sharding.on_mesh(step, mesh, results=(sharding.REPLICATED, sharding.BATCH_FIRST))
  state = sharding.place({"x": np.zeros(4, np.float32)}, mesh, sharding.REPLICATED)
  for _ in range(3):
    batch = sharding.place(np.ones(4, np.float32), mesh, sharding.BATCH_FIRST)
    state, doubled = compiled(state, batch)
  np.testing.assert_array_equal(state["x"], 3 * np.ones(4))
  assert state["x"].sharding.is_fully_replicated
  assert doubled.sharding.is_equivalent_to(batch.sharding, 1)
  assert compiled._cache_size() == 1


def test_shards_are_brought_together(mesh):
  """Means, every shard's own and gathered arrays against numpy on the whole."""
  count = mesh.shape[sharding.AXIS]
  generator = np.random.default_rng(2)
  x = generator.normal(size=(8, 3)).astype(np.float32)

  def run(weight, shard, key, shards):
    del key
    mean = {"sum": shard.sum(axis=0), "none": jnp.zeros((2, 0)), "scalar": weight * shard[0, 0]}
    each = (shard[0], shard.max())
    index = jnp.asarray(shards.index, jnp.float32)
    return *shards.combine(mean, (*each, index)), shards.gather(shard.T, 1)

  compiled = sharding.on_shards_together(run, mesh)
  placed = sharding.place(x, mesh, sharding.BATCH_FIRST)
  mean, each, gathered = compiled(jnp.float32(3), placed, jax.random.key(0))
  parts = np.split(x, count)
  np.testing.assert_allclose(mean["sum"], x.sum(axis=0) / count, rtol=1e-5)
  np.testing.assert_allclose(mean["scalar"], 3 * np.mean([p[0, 0] for p in parts]), rtol=1e-5)
  assert mean["none"].shape == (2, 0)
  np.testing.assert_array_equal(each[0], [p[0] for p in parts])
  np.testing.assert_array_equal(each[1], [p.max() for p in parts])
  np.testing.assert_array_equal(each[2], np.arange(count))
  np.testing.assert_array_equal(gathered, x.T)


def test_a_gradient_flows_back_to_the_shard_that_an_entry_came_from(mesh):
  """sum_ij a_i b_j over rows i of a shard and all j: the mean of the shards' gradients of it."""
  count = mesh.shape[sharding.AXIS]
  x = np.arange(1.0, 9.0, dtype=np.float32)

  def run(scale, shard, key, shards):
    del key

    def loss(scale):
      return shards.count * jnp.sum(scale * shard) * jnp.sum(shards.gather(scale**2 * shard, 0))

    return shards.combine(jax.grad(loss)(scale), ())[0]

  compiled = sharding.on_shards_together(run, mesh)
  placed = sharding.place(x, mesh, sharding.BATCH_FIRST)
  gradient = compiled(jnp.float32(2), placed, jax.random.key(count))
  np.testing.assert_allclose(gradient, 3 * 2.0**2 * x.sum() ** 2, rtol=1e-6)
