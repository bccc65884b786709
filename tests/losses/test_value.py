"""Scalar value losses against worked examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses import value
from losses.moments import moments_of


def test_squared_loss_and_its_gradient():
  prediction, target = jnp.array([1.0, -2.0, 3.0]), jnp.array([3.0, -2.0, 0.0])
  np.testing.assert_array_equal(value.squared_value_loss(prediction, target), [2.0, 0.0, 4.5])
  gradient = jax.grad(lambda v: value.squared_value_loss(v, target).sum())(prediction)
  np.testing.assert_array_equal(gradient, prediction - target)


def test_clipped_loss_worked_by_hand():
  # old value 1, clip .25, target 2; v_clipped is v held to [.75, 1.25].
  #   v = 1.125: inside, .5 * .875^2 = .3828125
  #   v = 2:     clipped to 1.25, .5 * .75^2 = .28125 > 0: no reward for moving so far
  #   v = 0:     clipped to .75, .5 max(4, 1.5625) = 2: moving away is not forgiven
  prediction = jnp.array([1.125, 2.0, 0.0])
  arguments = (jnp.ones(3), jnp.full(3, 2.0))
  loss = value.clipped_value_loss(prediction, *arguments, clip=0.25)
  np.testing.assert_array_equal(loss, [0.3828125, 0.28125, 2.0])
  gradient = jax.grad(lambda v: value.clipped_value_loss(v, *arguments, clip=0.25).sum())(
    prediction
  )
  # v - target where the unclipped term is the larger (or both are one), else 0.
  np.testing.assert_allclose(gradient, [-0.875, 0.0, -2.0], atol=1e-6)


def test_clipped_loss_reduces_to_the_squared_loss():
  rng = np.random.default_rng(0)
  prediction, old, target = jnp.asarray(rng.normal(size=(3, 50)), jnp.float32)
  wide = value.clipped_value_loss(prediction, old, target, clip=100.0)
  plain = value.squared_value_loss(prediction, target)
  np.testing.assert_allclose(wide, plain, rtol=1e-4, atol=1e-6)
  narrow = value.clipped_value_loss(prediction, old, target, clip=0.2)
  assert np.all(narrow >= plain - 1e-6)
  assert np.any(narrow > plain + 1e-3)


def explained(prediction, target):
  share, whole = value.explained_variance(moments_of(target - prediction), moments_of(target))
  return share / whole


def test_explained_variance():
  target = jnp.array([[1.0, 2.0], [3.0, 4.0]])  # variance 1.25
  assert explained(target, target) == 1.0
  assert explained(target + 5.0, target) == 1.0  # a constant is not seen
  assert explained(jnp.full((2, 2), 7.0), target) == 0.0
  assert explained(-target, target) == -3.0  # 1 - 4 * 1.25 / 1.25
  # errors (.5, -.5, .5, -.5): variance .25, 1 - .25 / 1.25 = .8
  prediction = target - jnp.array([[0.5, -0.5], [0.5, -0.5]])
  np.testing.assert_allclose(explained(prediction, target), 0.8, rtol=1e-6)


@pytest.mark.parametrize("target", [[3.0, 3.0, 3.0], [1.0, 1.0 + 1e-6, 1.0 - 1e-6]])
def test_a_target_that_varies_by_rounding_alone_has_no_variance_to_explain(target):
  residual = moments_of(jnp.array([0.9, 1.1, 1.0]))
  assert value.explained_variance(residual, moments_of(jnp.array(target))) == (0.0, 0.0)


def test_explained_variance_of_batches_of_one_mean_adds_up_to_that_of_all():
  """One batch hardly varies; the mean of the two quotients would be -5,000 or so."""
  target = np.array([[-0.001, 0.001, -0.001, 0.001], [-1.0, 1.0, -2.0, 2.0]])
  prediction = target - [[-0.1, 0.1, 0.1, -0.1], [-0.5, 0.5, 0.5, -0.5]]
  parts = [
    value.explained_variance(moments_of(t - p), moments_of(t))
    for p, t in zip(prediction, target, strict=True)
  ]
  share, whole = np.sum(parts, axis=0)
  expected = 1 - np.var(target - prediction) / np.var(target)
  np.testing.assert_allclose(share / whole, expected, rtol=1e-5)
  assert expected == pytest.approx(0.896, abs=1e-3)


def test_bad_arguments_are_refused():
  x = jnp.zeros(3)
  with pytest.raises(ValueError, match="clip"):
    value.clipped_value_loss(x, x, x, clip=0.0)
  with pytest.raises(AssertionError):
    value.clipped_value_loss(x, x, jnp.zeros((3, 1)), clip=0.2)
  with pytest.raises(AssertionError):
    value.squared_value_loss(x, jnp.zeros((1,)))


def test_huber_loss_worked_by_hand():
  # delta 2: errors .5, 2 and 5 give .125, 2 and 2 (5 - 1) = 8; the gradient is held to [-2, 2].
  prediction, target = jnp.array([1.5, -2.0, 0.0]), jnp.array([1.0, 0.0, 5.0])
  loss = value.huber_value_loss(prediction, target, delta=2.0)
  np.testing.assert_array_equal(loss, [0.125, 2.0, 8.0])
  gradient = jax.grad(lambda v: value.huber_value_loss(v, target, delta=2.0).sum())(prediction)
  np.testing.assert_array_equal(gradient, [0.5, -2.0, -2.0])
  with pytest.raises(ValueError, match="delta must be positive, got 0"):
    value.huber_value_loss(prediction, target, delta=0)
