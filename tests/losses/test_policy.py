"""Categorical policies and PPO's surrogate against distrax, rlax and worked examples."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from losses import policy


def random_logits(seed, shape=(6, 5)):
  return jnp.asarray(np.random.default_rng(seed).normal(scale=2.0, size=shape), jnp.float32)


def probabilities(logits):
  """Softmax in float64, by the definition."""
  exponential = np.exp(np.asarray(logits, np.float64))
  return exponential / exponential.sum(-1, keepdims=True)


def test_log_prob_picks_the_action():
  logits = random_logits(0)
  action = jnp.array([0, 1, 2, 3, 4, 0])
  expected = np.log(probabilities(logits))[np.arange(6), np.asarray(action)]
  np.testing.assert_allclose(policy.log_prob(logits, action), expected, atol=1e-5)


def test_log_prob_over_more_axes_equals_row_by_row():
  logits = random_logits(1, (2, 3, 5))
  action = jnp.array([[0, 4, 2], [1, 1, 3]])
  flat = policy.log_prob(logits.reshape(6, 5), action.reshape(6))
  np.testing.assert_array_equal(policy.log_prob(logits, action), flat.reshape(2, 3))


def test_entropy_by_definition_and_at_its_ends():
  logits = random_logits(2)
  p = probabilities(logits)
  np.testing.assert_allclose(policy.entropy(logits), -(p * np.log(p)).sum(-1), atol=1e-5)
  np.testing.assert_allclose(policy.entropy(jnp.full((1, 15), 3.0)), [np.log(15.0)], rtol=1e-6)
  certain = jnp.zeros((1, 15)).at[0, 3].set(200.0)  # exp(-200) is 0 in float32
  np.testing.assert_array_equal(policy.entropy(certain), [0.0])


def test_entropy_and_kl_equal_distrax():
  logits, other = random_logits(3), random_logits(4)
  p, q = distrax.Categorical(logits=logits), distrax.Categorical(logits=other)
  np.testing.assert_allclose(policy.entropy(logits), p.entropy(), atol=1e-5)
  np.testing.assert_allclose(policy.categorical_kl(logits, other), p.kl_divergence(q), atol=1e-5)


def test_kl_is_directed_and_zero_on_itself():
  # p = (1/2, 1/2), q = (1/4, 3/4):
  # KL(p||q) = .5 log 2 + .5 log(2/3) = .1438; KL(q||p) = .25 log .5 + .75 log 1.5 = .1308.
  p, q = jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.25, 0.75]]))
  np.testing.assert_allclose(policy.categorical_kl(p, q), [0.143841], atol=1e-5)
  np.testing.assert_allclose(policy.categorical_kl(q, p), [0.130812], atol=1e-5)
  np.testing.assert_array_equal(policy.categorical_kl(p + 7.0, p + 7.0), [0.0])


def test_cross_entropy_is_kl_plus_entropy():
  logits, target = random_logits(5), random_logits(6)
  cross_entropy = policy.policy_cross_entropy(logits, jax.nn.softmax(target))
  expected = policy.categorical_kl(target, logits) + policy.entropy(target)
  np.testing.assert_allclose(cross_entropy, expected, rtol=1e-5)


def test_cross_entropy_gradient_is_policy_minus_target_and_zero_for_a_zero_row():
  logits = random_logits(7)
  target = jax.nn.softmax(random_logits(8)).at[2].set(0.0)
  gradient = jax.grad(lambda z: policy.policy_cross_entropy(z, target).sum())(logits)
  expected = probabilities(logits) - np.asarray(target)
  expected[2] = 0.0
  np.testing.assert_allclose(gradient, expected, atol=1e-6)
  np.testing.assert_array_equal(gradient[2], np.zeros(5))


def test_normalised_advantage_has_mean_0_and_deviation_1():
  # mean 3, population deviation sqrt((4 + 0 + 4) / 3) = 1.632993
  result = policy.normalise_advantage(jnp.array([1.0, 3.0, 5.0]))
  np.testing.assert_allclose(result, [-1.224745, 0.0, 1.224745], atol=1e-6)
  constant = policy.normalise_advantage(jnp.full(4, 2.0))
  np.testing.assert_array_equal(constant, np.zeros(4))


def test_surrogate_worked_by_hand():
  # clip .2; rows: (ratio, A) -> -min(ratio A, clipped A)
  #   (2,  1): min(2, 1.2) -> -1.2     gain is capped
  #   (2, -1): min(-2, -1.2) -> 2      harm is not
  #   (.5, 1): min(.5, .8) -> -.5      harm is not
  #   (.5,-1): min(-.5, -.8) -> .8     gain is capped
  #   (1.1, 3): -3.3                   inside
  ratio = jnp.array([2.0, 2.0, 0.5, 0.5, 1.1])
  advantage = jnp.array([1.0, -1.0, 1.0, -1.0, 3.0])
  loss = policy.clipped_surrogate(jnp.log(ratio), jnp.zeros(5), advantage, clip=0.2)
  np.testing.assert_allclose(loss, [-1.2, 2.0, -0.5, 0.8, -3.3], rtol=1e-6)
  gradient = jax.grad(
    lambda x: policy.clipped_surrogate(x, jnp.zeros(5), advantage, clip=0.2).sum()
  )(jnp.log(ratio))
  # d(-ratio A)/d(log prob) = -ratio A where it is not capped, 0 where it is.
  np.testing.assert_allclose(gradient, [0.0, 2.0, -0.5, 0.0, -3.3], rtol=1e-6)
  np.testing.assert_allclose(policy.clip_fraction(ratio, clip=0.2), 0.8)


def test_surrogate_equals_rlax():
  rng = np.random.default_rng(9)
  log_prob, old, advantage = rng.normal(scale=0.5, size=(3, 200)).astype(np.float32)
  ours = policy.clipped_surrogate(log_prob, old, advantage, clip=0.2)
  ratio = policy.probability_ratio(jnp.asarray(log_prob), jnp.asarray(old))
  oracle = rlax.clipped_surrogate_pg_loss(ratio, jnp.asarray(advantage), 0.2)
  np.testing.assert_allclose(ours.mean(), oracle, rtol=1e-5)


def test_surrogate_at_the_old_policy_is_the_policy_gradient():
  logits = random_logits(10)
  action = jnp.array([4, 0, 1, 1, 2, 3])
  advantage = jnp.array([1.0, -2.0, 0.5, 3.0, -1.0, 0.0])
  old = policy.log_prob(logits, action)

  def surrogate(z):
    return policy.clipped_surrogate(policy.log_prob(z, action), old, advantage, clip=0.2).sum()

  # d log pi(a) / d logits = onehot(a) - pi
  expected = -(np.eye(5)[np.asarray(action)] - probabilities(logits)) * advantage[:, None]
  np.testing.assert_allclose(jax.grad(surrogate)(logits), expected, atol=1e-5)


def test_approximate_kl_averages_to_the_kl_of_old_and_new():
  old, new = random_logits(11, (1, 7)), random_logits(12, (1, 7))
  old_log_probs, new_log_probs = jax.nn.log_softmax(old), jax.nn.log_softmax(new)
  estimate = policy.approximate_kl(new_log_probs, old_log_probs)
  assert np.all(estimate >= 0.0)
  # the average over actions of the old policy, enumerated
  average = (probabilities(old) * np.asarray(estimate)).sum()
  np.testing.assert_allclose(average, policy.categorical_kl(old, new)[0], rtol=1e-5)


def test_approximate_kl_keeps_small_differences():
  # (rho - 1) - log rho = x^2 / 2 + x^3 / 6 at log rho = x: 5e-7 at x = 1e-3, to one part in
  # a few thousand in float32; exp(x) - 1 - x would be off by a tenth.
  estimate = policy.approximate_kl(jnp.array([1e-3]), jnp.array([0.0]))
  np.testing.assert_allclose(estimate, [5.0017e-7], rtol=1e-3)


def test_bad_arguments_are_refused():
  x = jnp.zeros(3)
  for clip in (0.0, 1.0, -0.2):
    with pytest.raises(ValueError, match="clip"):
      policy.clipped_surrogate(x, x, x, clip=clip)
  with pytest.raises(AssertionError):
    policy.clipped_surrogate(x, x, jnp.zeros((3, 1)), clip=0.2)
  with pytest.raises(AssertionError):
    policy.clipped_surrogate(x, x, jnp.zeros(1), clip=0.2)
  with pytest.raises(AssertionError):
    policy.log_prob(jnp.zeros((3, 4)), jnp.zeros((2,), jnp.int32))
  with pytest.raises(AssertionError):
    policy.log_prob(jnp.zeros((3, 4)), jnp.zeros(3))  # actions are integers
  with pytest.raises(AssertionError):
    policy.policy_cross_entropy(jnp.zeros((3, 4)), jnp.zeros((1, 4)))
  with pytest.raises(AssertionError):
    policy.categorical_kl(jnp.zeros((3, 4)), jnp.zeros((1, 4)))
  with pytest.raises(AssertionError):
    policy.normalise_advantage(jnp.zeros((3, 4)))
