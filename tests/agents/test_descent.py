"""One step of descent: in chunks, and over shards, against gradients by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agents.descent import descend
from agents.figures import variance_explained
from agents.interface import WHOLE
from training import sharding

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=24).astype(np.float32)
W = np.float32([0.5, -1.0, 2.0])


def squared_error(weights, batch):
  error = batch["x"] @ weights - batch["y"]
  return jnp.mean(error**2), {"error": jnp.mean(error)}


def step(weights, batch, key, shards=WHOLE, *, chunk_size=0, loss=squared_error):
  del key
  optimizer = optax.sgd(0.1)
  weights, _, metrics = descend(
    loss,
    optimizer,
    weights,
    optimizer.init(weights),
    batch=batch,
    chunk_size=chunk_size,
    shards=shards,
  )
  return weights, metrics


def check(weights, metrics):
  error = X @ W - Y
  gradient = 2 * X.T @ error / 24
  np.testing.assert_allclose(weights, W - 0.1 * gradient, rtol=1e-5)
  np.testing.assert_allclose(metrics["error"], error.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient), rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("chunk_size", [0, 1, 8, 24])
def test_a_step_is_that_of_the_whole_minibatch(devices, chunk_size):
  """8 is no divisor of the 12 entries on each of two devices: they take 4 at once."""
  mesh = sharding.make_mesh(jax.devices()[:devices])

  def run(*arguments):
    return step(*arguments, chunk_size=chunk_size)

  batch = sharding.place({"x": X, "y": Y}, mesh, sharding.BATCH_FIRST)
  check(*sharding.on_shards_together(run, mesh)(W, batch, jax.random.key(0)))


def test_figures_that_are_more_than_means_become_metrics():
  def loss(weights, batch):
    value, _ = squared_error(weights, batch)
    return value, {"explained": variance_explained(batch["x"] @ weights, batch["y"])}

  _, metrics = step(jnp.asarray(W), {"x": X, "y": Y}, None, loss=loss)
  assert metrics.keys() == {"explained", "gradient_norm"}
  expected = (np.var(Y) - np.var(Y - X @ W), np.var(Y))
  np.testing.assert_allclose(metrics["explained"], expected, rtol=1e-5)
