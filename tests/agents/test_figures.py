"""Figures of shards, joined, against the same of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.figures import join_figures, masked_mean, variance_explained
from agents.interface import Ratio


def joined(make, *arrays, count):
  """Metrics of `make`'s figures of `count` equal shards."""
  shards = [make(*each) for each in zip(*(np.split(x, count) for x in arrays), strict=True)]
  return join_figures(jax.tree.map(lambda *each: jnp.stack(each), *shards))


def figures(x, y, mask):
  return {
    "mean": jnp.mean(x),
    "masked": masked_mean(x, mask),
    "explained": variance_explained(x, y),
  }


@pytest.mark.parametrize("count", [1, 2, 4])
def test_shards_make_the_whole(count):
  generator = np.random.default_rng(0)
  x = generator.normal(size=16).astype(np.float32)
  y = (x + generator.normal(size=16) + np.arange(16)).astype(np.float32)
  mask = np.float32(np.arange(16) < 7)  # the last of two, and two of four, have none
  metrics = joined(figures, x, y, mask, count=count)
  np.testing.assert_allclose(metrics["mean"], x.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["masked"].total, x[:7].sum(), rtol=1e-5)
  assert metrics["masked"].count == 7
  np.testing.assert_allclose(metrics["explained"].total, np.var(y) - np.var(y - x), rtol=1e-5)
  np.testing.assert_allclose(metrics["explained"].count, np.var(y), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_without_anything_to_say_they_say_so(count):
  """A large target that does not vary but by rounding, on each shard by another."""
  target = np.float32([50.0, 50.00001, 49.99999, 50.0])
  metrics = joined(figures, np.arange(4.0, dtype=np.float32), target, np.zeros(4), count=count)
  assert metrics["masked"] == Ratio(0.0, 0.0)
  assert metrics["explained"] == Ratio(0.0, 0.0)


def test_shapes_that_differ_are_refused():
  for figure in (masked_mean, variance_explained):
    with pytest.raises(AssertionError):
      figure(jnp.zeros(3), jnp.zeros((1,)))
