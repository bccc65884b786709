"""What an update reports, of a minibatch that may lie in equal shards in several places.

Every shard gives a figure of its own; those of all shards, along a leading axis D, make a
metric. An array is a mean over the shard's entries, and the metric the mean of these; what is
more than a mean says itself how it is joined.
"""

from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from agents.interface import Ratio
from losses.moments import Moments, join_moments, moments_of
from losses.value import explained_variance


class MaskedMean(NamedTuple):
  """A mean over what a mask of ones and zeros lets through."""

  total: jax.Array  # [], joined from [D]
  count: jax.Array  # [], joined from [D]

  def joined(self) -> Ratio:
    """Returns the sums over all shards: how many count differs from minibatch to minibatch."""
    return Ratio(jnp.sum(self.total), jnp.sum(self.count))


class ExplainedVariance(NamedTuple):
  """The share of a target's variance that a prediction explains."""

  residual: Moments  # [] each, joined from [D]
  target: Moments  # [] each, joined from [D]

  def joined(self) -> Ratio:
    """Returns what `losses.value.explained_variance` says of all shards together."""
    return Ratio(*explained_variance(join_moments(self.residual), join_moments(self.target)))


Figure = jax.Array | MaskedMean | ExplainedVariance
Figures = Mapping[str, Figure]


def masked_mean(x: jax.Array, mask: jax.Array) -> MaskedMean:
  """The mean of `x` where `mask` is 1, equal shapes.

  Raises:
    AssertionError: the shapes differ.
  """
  chex.assert_equal_shape([x, mask])
  return MaskedMean(jnp.sum(x * mask), jnp.sum(mask))


def variance_explained(prediction: jax.Array, target: jax.Array) -> ExplainedVariance:
  """How much of the target's variance the prediction explains, equal shapes.

  Raises:
    AssertionError: the shapes differ.
  """
  chex.assert_equal_shape([prediction, target])
  return ExplainedVariance(moments_of(target - prediction), moments_of(target))


def join_figures(figures: Figures) -> dict[str, jax.Array | Ratio]:
  """Metrics by name of what all shards give.

  Args:
    figures: by name, `[D]` in the place of every scalar.
  """
  return {
    name: jnp.mean(each) if isinstance(each, jax.Array) else each.joined()
    for name, each in figures.items()
  }
