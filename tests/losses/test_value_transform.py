"""The value transform and two-hot targets against the published formulas, in float64, and rlax."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from losses import value_transform
from losses.categorical_support import CategoricalSupport

PAPER = CategoricalSupport(low=-300.0, high=300.0, num_atoms=601)
NARROW = CategoricalSupport(low=-1.0, high=8.0, num_atoms=37)  # spacing .25

transform = jax.jit(lambda x: value_transform.transform(x, epsilon=0.001))
inverse = jax.jit(lambda y: value_transform.inverse_transform(y, epsilon=0.001))
two_hot_narrow = jax.jit(lambda y: value_transform.two_hot(y, NARROW))


def published_transform(x, epsilon):
  """h, as printed, in float64."""
  x = np.asarray(x, np.float64)
  return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + epsilon * x


def published_inverse(y, epsilon):
  """The closed form, as printed, in float64."""
  y = np.asarray(y, np.float64)
  root = np.sqrt(1 + 4 * epsilon * (np.abs(y) + 1 + epsilon))
  return np.sign(y) * (((root - 1) / (2 * epsilon)) ** 2 - 1)


def test_transform_worked_by_hand():
  # h(3) = sqrt(4) - 1 + .003; h(-8) = -(3 - 1) - .008; h(99) = 9 + .099; h(0) = 0.
  x = jnp.array([3.0, -8.0, 99.0, 0.0])
  np.testing.assert_allclose(transform(x), [1.003, -2.008, 9.099, 0.0], rtol=1e-6)
  np.testing.assert_allclose(inverse(jnp.array([1.003, -2.008, 9.099, 0.0])), x, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.001, 0.01, 0.5])
def test_float32_keeps_the_relative_precision_of_the_published_formulas(epsilon):
  x = np.concatenate([s * np.logspace(-2, 5, 200) for s in (-1.0, 1.0)]).astype(np.float32)
  h = value_transform.transform(jnp.asarray(x), epsilon=epsilon)
  np.testing.assert_allclose(h, published_transform(x, epsilon), rtol=1e-6)
  h_inverse = value_transform.inverse_transform(jnp.asarray(x), epsilon=epsilon)
  np.testing.assert_allclose(h_inverse, published_inverse(x, epsilon), rtol=1e-6)


def test_transform_equals_rlax():
  x = jnp.linspace(-100.0, 100.0, 401)
  np.testing.assert_allclose(transform(x), rlax.signed_hyperbolic(x, 1e-3), atol=1e-5)
  y = jnp.linspace(-10.0, 10.0, 401)
  # rlax evaluates the printed form in float32: some 3e-4 off near 0.
  np.testing.assert_allclose(inverse(y), rlax.signed_parabolic(y, 1e-3), rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(st.floats(-(2.0**30), 2.0**30, width=32, allow_subnormal=False))
def test_inverse_undoes_the_transform(x):
  x = np.float32(x)
  np.testing.assert_allclose(inverse(transform(x)), x, rtol=2e-6, atol=1e-30)


def test_epsilon_0_is_the_square_root_alone():
  x = jnp.array([-15.0, 0.0, 24.0])
  y = value_transform.transform(x, epsilon=0.0)
  np.testing.assert_array_equal(y, [-3.0, 0.0, 4.0])
  np.testing.assert_array_equal(value_transform.inverse_transform(y, epsilon=0.0), x)


def test_derivatives_at_0():
  # h'(0) = 1/2 + epsilon and the inverse's is 1 over it.
  slope = jax.grad(lambda x: value_transform.transform(x, epsilon=0.001))(0.0)
  np.testing.assert_allclose(slope, 0.501, rtol=1e-6)
  slope = jax.grad(lambda y: value_transform.inverse_transform(y, epsilon=0.001))(0.0)
  np.testing.assert_allclose(slope, 1 / 0.501, rtol=1e-6)


def test_two_hot_worked_by_hand():
  support = CategoricalSupport(low=-2.0, high=2.0, num_atoms=5)
  y = jnp.array([0.25, -2.0, 2.0, 1.0, 7.0, -2.5])
  expected = [
    [0.0, 0.0, 0.75, 0.25, 0.0],  # a quarter of the way from 0 to 1
    [1.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 1.0],
    [0.0, 0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 1.0],  # outside: the nearest end
    [1.0, 0.0, 0.0, 0.0, 0.0],
  ]
  np.testing.assert_array_equal(value_transform.two_hot(y, support), expected)


@pytest.mark.parametrize("support", [PAPER, NARROW], ids=["paper", "narrow"])
def test_two_hot_equals_rlax(support):
  y = jnp.linspace(support.low - 1.0, support.high + 1.0, 203)
  with jax.numpy_rank_promotion("allow"):
    oracle = rlax.transform_to_2hot(y, support.low, support.high, support.num_atoms)
  np.testing.assert_allclose(value_transform.two_hot(y, support), oracle, atol=1e-4)


@settings(deadline=None)
@given(st.floats(-1.0, 8.0, width=32))
def test_two_hot_is_a_distribution_on_two_neighbours_with_the_right_mean(y):
  p = np.asarray(two_hot_narrow(np.float32(y)), np.float64)
  (support,) = np.nonzero(p)
  assert p.min() >= 0.0
  np.testing.assert_allclose(p.sum(), 1.0, atol=1e-5)
  assert 1 <= len(support) <= 2
  assert support[-1] - support[0] == len(support) - 1
  np.testing.assert_allclose(p @ np.linspace(-1.0, 8.0, 37), y, atol=1e-5)


def test_two_hot_of_nan_is_nan():
  assert np.all(np.isnan(value_transform.two_hot(jnp.array([jnp.nan]), NARROW)))


@pytest.mark.parametrize("support", [PAPER, NARROW], ids=["paper", "narrow"])
def test_scalars_survive_encoding_and_decoding(support):
  x = jnp.array([[-0.9, -0.01, 0.0], [0.003, 1.0, 10.0], [37.5, 64.0, 0.2]])
  probabilities = value_transform.scalar_to_probabilities(x, support)
  assert probabilities.shape == (3, 3, support.num_atoms)
  logits = jnp.log(jnp.maximum(probabilities, 1e-30))
  decoded = value_transform.logits_to_scalar(logits, support)
  # float32 atoms up to 300 are 3e-5 apart: that is what is left of precision near 0
  np.testing.assert_allclose(decoded, x, rtol=1e-4, atol=2e-4)


def test_decoding_takes_the_mean_before_the_inverse_transform():
  # half on h = 0, half on h = 4: the mean is 2, h^-1(2) = 8 at epsilon 0
  # (the mean of the untransformed atoms, 0 and 24, would be 12).
  support = CategoricalSupport(low=0.0, high=4.0, num_atoms=2, epsilon=0.0)
  decoded = value_transform.logits_to_scalar(jnp.zeros((1, 2)), support)
  np.testing.assert_allclose(decoded, [8.0], rtol=1e-6)


def test_untrained_head_on_a_symmetric_support_predicts_0():
  decoded = value_transform.logits_to_scalar(jnp.full((3, 601), 0.7), PAPER)
  np.testing.assert_allclose(decoded, np.zeros(3), atol=1e-3)


def test_loss_equals_the_cross_entropy_written_out():
  # target 3 with epsilon 0: h = 1, halfway between the atoms 0 and 2: p = (.5, .5, 0).
  support = CategoricalSupport(low=0.0, high=4.0, num_atoms=3, epsilon=0.0)
  logits = jnp.log(jnp.array([[0.25, 0.5, 0.25]]))
  loss = value_transform.categorical_value_loss(logits, jnp.array([3.0]), support)
  np.testing.assert_allclose(loss, [-(0.5 * np.log(0.25) + 0.5 * np.log(0.5))], rtol=1e-6)


def test_loss_gradient_is_prediction_minus_target():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(4, 2, 37)), jnp.float32)
  target = jnp.asarray(rng.uniform(0.0, 60.0, size=(4, 2)), jnp.float32)
  gradient = jax.grad(lambda z: value_transform.categorical_value_loss(z, target, NARROW).sum())(
    logits
  )
  exponential = np.exp(np.asarray(logits, np.float64))
  softmax = exponential / exponential.sum(-1, keepdims=True)
  position = (published_transform(target, 0.001) + 1.0) / 0.25
  expected = softmax.copy()
  for index in np.ndindex(4, 2):
    lower = int(np.floor(position[index]))
    weight = position[index] - lower
    expected[(*index, lower)] -= 1.0 - weight
    expected[(*index, lower + 1)] -= weight
  np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_descending_the_loss_finds_the_target():
  target = jnp.array([0.0, 5.0, 40.0])
  gradient = jax.jit(
    jax.grad(lambda z: value_transform.categorical_value_loss(z, target, NARROW).sum())
  )
  logits = jnp.zeros((3, 37))
  for _ in range(400):
    logits = logits - 2.0 * gradient(logits)
  np.testing.assert_allclose(
    value_transform.logits_to_scalar(logits, NARROW), target, rtol=0.05, atol=0.05
  )


def test_fraction_outside_makes_clamping_visible():
  # The narrow support ends at h = -1 and h = 8, that is x = -2.988 and x = 78.59.
  np.testing.assert_allclose(published_inverse([-1.0, 8.0], 0.001), [-2.988, 78.591], atol=1e-3)
  x = jnp.array([[0.0, 78.0, 79.0, -2.9], [-3.1, jnp.nan, 10.0, 1e6]])
  # outside: 79, -3.1, nan, 1e6
  assert value_transform.fraction_outside(x, NARROW) == 0.5
  assert value_transform.fraction_outside(x[0, :2], NARROW) == 0.0
  # 49 x (1 / 49) is not 1 in float32: a share taken from 1 would be above or below 0.
  assert value_transform.fraction_outside(jnp.zeros(49), NARROW) == 0.0


def test_shapes_are_checked():
  with pytest.raises(AssertionError):
    value_transform.categorical_value_loss(jnp.zeros((3, 36)), jnp.zeros(3), NARROW)
  with pytest.raises(AssertionError):
    value_transform.categorical_value_loss(jnp.zeros((3, 37)), jnp.zeros((3, 1)), NARROW)
  with pytest.raises(AssertionError):
    value_transform.logits_to_scalar(jnp.zeros((3, 36)), NARROW)
