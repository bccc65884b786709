"""Gradients in chunks equal the gradient of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.gradients import value_and_grad_in_chunks

N = 12


def batch():
  generator = np.random.default_rng(0)
  return {
    "x": jnp.asarray(generator.standard_normal((N, 3)), jnp.float32),
    "y": jnp.asarray(generator.standard_normal(N), jnp.float32),
  }


def loss(params, chunk):
  """Mean squared error of a small network, and the mean of its outputs."""
  hidden = jnp.tanh(chunk["x"] @ params["in"])
  output = hidden @ params["out"]
  return jnp.mean((output - chunk["y"]) ** 2), {"output": output.mean()}


def params():
  generator = np.random.default_rng(1)
  return {
    "in": jnp.asarray(generator.standard_normal((3, 5)), jnp.float32),
    "out": jnp.asarray(generator.standard_normal(5), jnp.float32),
  }


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 6, 12])
def test_equals_the_whole_batch(chunk_size):
  expected = jax.value_and_grad(loss, has_aux=True)(params(), batch())
  chunked = jax.jit(lambda p, b: value_and_grad_in_chunks(loss, p, b, chunk_size=chunk_size))(
    params(), batch()
  )
  assert jax.tree.structure(chunked) == jax.tree.structure(expected)
  for got, wanted in zip(jax.tree.leaves(chunked), jax.tree.leaves(expected), strict=True):
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_every_entry_is_used_once():
  weights = jnp.arange(N, dtype=jnp.float32)

  def count(params, chunk):
    return jnp.mean(params[chunk]), {}

  _, gradient = value_and_grad_in_chunks(count, weights, jnp.arange(N), chunk_size=4)
  np.testing.assert_allclose(gradient, np.full(N, 1 / N), rtol=1e-6)


def test_a_batch_split_over_devices_stays_where_it_is():
  mesh = jax.sharding.Mesh(jax.devices()[:2], ("data",))
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  placed = jax.device_put(batch(), split)
  run = jax.jit(lambda p, b: value_and_grad_in_chunks(loss, p, b, chunk_size=4))
  text = run.lower(params(), placed).compile().as_text()
  for moves in ("all-gather", "all-to-all", "collective-permute"):
    assert moves not in text
  _, gradient = run(params(), placed)
  expected, _ = jax.grad(loss, has_aux=True)(params(), batch())
  np.testing.assert_allclose(gradient["in"], expected["in"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk_size", [0, -3, 5, 24])
def test_a_size_that_does_not_divide_is_refused(chunk_size):
  with pytest.raises(ValueError, match=f"positive divisor of 12 entries, got {chunk_size}"):
    value_and_grad_in_chunks(loss, params(), batch(), chunk_size=chunk_size)
