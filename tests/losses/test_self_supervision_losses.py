"""Self-supervised losses against worked numbers and slow references in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses.self_supervision import contrastive_loss, mean_inside, reconstruction_loss, spr_loss

K, R, P = 3, 5, 4


def normals(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def ends(seed: int = 0) -> jax.Array:
  """`[K, R]`: start 0 stays inside, start 1 is outside from the first step, others vary."""
  last = np.random.default_rng(seed).integers(0, K + 1, R)
  last[:2] = K, 0
  return jnp.asarray(np.arange(K)[:, None] < last[None, :], jnp.float32)


def frames(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_reconstruction_on_worked_numbers():
  """Bytes 0 and 255 are 0 and 1: errors .5 and -.25 give (.25 + .0625) / 2."""
  decoded = jnp.asarray([0.5, 0.75]).reshape(1, 1, 1, 2, 1)
  shown = jnp.asarray([0, 255], jnp.uint8).reshape(1, 1, 1, 2, 1)
  loss = reconstruction_loss(decoded, shown, jnp.ones((1, 1)))
  np.testing.assert_allclose(loss, [[0.15625]], rtol=1e-6)


def test_reconstruction_is_zero_for_the_frames_themselves():
  shown = frames(0, K, R, 2, 2, 3)
  loss = reconstruction_loss(jnp.asarray(shown, jnp.float32) / 255, shown, jnp.ones((K, R)))
  np.testing.assert_allclose(loss, np.zeros((K, R)), atol=1e-12)


def test_reconstruction_refuses_frames_that_were_scaled_before():
  with pytest.raises(AssertionError):
    reconstruction_loss(jnp.zeros((1, 1, 2, 2, 3)), jnp.zeros((1, 1, 2, 2, 3)), jnp.ones((1, 1)))


def test_infonce_on_worked_numbers():
  """Orthogonal keys, queries equal to them: cosines 1 and 0, so log(1 + e^{-1/t})."""
  vectors = jnp.asarray([[[2.0, 0.0], [0.0, 3.0]]])
  loss = contrastive_loss(vectors, 5 * vectors, jnp.ones((1, 2)), temperature=0.5)
  np.testing.assert_allclose(loss, np.full((1, 2), np.log1p(np.exp(-2.0))), rtol=1e-6)


def test_infonce_of_equal_keys_is_the_log_of_the_candidates():
  inside = jnp.asarray([[1.0, 1.0, 1.0, 0.0, 0.0]])
  loss = contrastive_loss(normals(0, 1, R, P), jnp.ones((1, R, P)), inside, temperature=0.1)
  np.testing.assert_allclose(loss, np.log(3) * inside, rtol=1e-5)


def test_infonce_against_a_slow_reference():
  query, key, inside = normals(1, K, R, P), normals(2, K, R, P), ends()
  loss = contrastive_loss(query, key, inside, temperature=0.3)
  for k in range(K):
    for r in range(R):
      if not inside[k, r]:
        assert loss[k, r] == 0
        continue
      scores = {}
      for q in range(R):
        if inside[k, q]:
          a, b = np.asarray(query[k, r], np.float64), np.asarray(key[k, q], np.float64)
          scores[q] = np.exp(a @ b / np.linalg.norm(a) / np.linalg.norm(b) / 0.3)
      np.testing.assert_allclose(loss[k, r], -np.log(scores[r] / sum(scores.values())), rtol=1e-4)


def test_infonces_gradient_is_the_closed_form():
  """Of unit queries and keys, d/dc of -log softmax(c / t)_r is (softmax - 1_r) / t.

  Keys are the unit vectors, so c_q = x_q / |x|, with Jacobian (I - u u^T) / |x|.
  """
  query, temperature = normals(3, 1, P, P), 0.4
  key = jnp.eye(P)[None]
  gradient = jax.grad(
    lambda x: jnp.sum(contrastive_loss(x, key, jnp.ones((1, P)), temperature=temperature))
  )(query)[0]
  for r, x in enumerate(np.asarray(query[0], np.float64)):
    unit = x / np.linalg.norm(x)
    softmax = np.exp(unit / temperature) / np.exp(unit / temperature).sum()
    of_cosines = (softmax - np.eye(P)[r]) / temperature
    expected = (np.eye(P) - np.outer(unit, unit)) @ of_cosines / np.linalg.norm(x)
    np.testing.assert_allclose(gradient[r], expected, rtol=1e-4, atol=1e-5)


def test_spr_on_worked_numbers():
  """Same direction 0, opposite 2, orthogonal 1, (1, 0) to (1, 1): 1 - 1 / sqrt 2."""
  prediction = jnp.asarray([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
  target = jnp.asarray([[[3.0, 0.0], [-2.0, 0.0], [0.0, 9.0], [1.0, 1.0]]])
  loss = spr_loss(prediction, target, jnp.ones((1, 4)))
  np.testing.assert_allclose(loss, [[0, 2, 1, 1 - 2**-0.5]], atol=1e-6)


def test_sprs_gradient_is_half_that_of_the_squared_distance_of_unit_vectors():
  """|u - v|^2 = 2 (1 - u v): the form in which the authors' code computes it."""
  prediction, target = normals(4, K, R, P), normals(5, K, R, P)

  def squared_distance(x):
    u = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    v = target / jnp.linalg.norm(target, axis=-1, keepdims=True)
    return 0.5 * jnp.sum(jnp.square(u - v))

  gradient = jax.grad(lambda x: jnp.sum(spr_loss(x, target, jnp.ones((K, R)))))(prediction)
  np.testing.assert_allclose(gradient, jax.grad(squared_distance)(prediction), atol=1e-5)


def test_sprs_target_gets_no_gradient():
  prediction, target = normals(4, K, R, P), normals(5, K, R, P)
  gradient = jax.grad(lambda x: jnp.sum(spr_loss(prediction, x, jnp.ones((K, R)))))(target)
  assert not np.any(gradient)


def test_nothing_past_the_end_gets_a_gradient():
  """Nor does its content matter to anything inside; every other position gets one."""
  inside = ends()
  outside = inside == 0
  shown = frames(0, K, R, 2, 2, 3)
  losses = {
    "reconstruction": lambda x: reconstruction_loss(x, shown, inside),
    "query": lambda x: contrastive_loss(x, normals(7, K, R, P), inside, temperature=0.2),
    "key": lambda x: contrastive_loss(normals(7, K, R, P), x, inside, temperature=0.2),
    "spr": lambda x: spr_loss(x, normals(7, K, R, P), inside),
  }
  assert np.any(outside)
  assert np.sum(np.asarray(inside)[0]) > 1
  for name, loss in losses.items():
    x = normals(6, *(shown.shape if name == "reconstruction" else (K, R, P)))
    where = outside.reshape(K, R, *(1,) * (x.ndim - 2))
    gradient = np.asarray(jax.grad(lambda x, loss=loss: jnp.sum(loss(x)))(x))
    assert not np.any(gradient[np.asarray(outside)]), name
    alone = np.asarray(inside).sum(axis=1) == 1  # a row without negatives has nothing to learn
    lively = np.asarray(inside > 0) & ~(alone[:, None] & (name in ("query", "key")))
    assert np.all(np.any(gradient != 0, axis=tuple(range(2, x.ndim)))[lively]), name
    np.testing.assert_array_equal(loss(jnp.where(where, x + 5, x)), loss(x), err_msg=name)


def test_zero_vectors_have_finite_losses_and_gradients():
  zeros, inside = jnp.zeros((K, R, P)), ends()
  for loss in (
    lambda x: contrastive_loss(x, x, inside, temperature=0.1),
    lambda x: spr_loss(x, zeros, inside),
  ):
    value, gradient = jax.value_and_grad(lambda x, loss=loss: jnp.sum(loss(x)))(zeros)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_the_mean_counts_positions_inside_and_weighs_starts():
  """(1 * 2 + 2 * .5 + 3 * 2) / 3; the 100 lies past the end."""
  term = jnp.asarray([[1.0, 2.0], [3.0, 100.0]])
  inside = jnp.asarray([[1.0, 1.0], [1.0, 0.0]])
  mean = mean_inside(term, inside, jnp.asarray([2.0, 0.5]), count=jnp.asarray(3.0))
  np.testing.assert_allclose(mean, 3.0, rtol=1e-6)
  assert mean_inside(term, jnp.zeros((2, 2)), jnp.ones(2), count=jnp.zeros(())) == 0


def test_parts_of_a_batch_make_its_mean():
  """Parts with 3 and with 1 of 4 positions inside: 2 on average; one without any counts too."""
  term, inside = normals(8, 2, 4), jnp.asarray([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
  weight = jnp.asarray([0.5, 2.0, 1.0, 3.0])
  parts = [
    mean_inside(term[:, part], inside[:, part], weight[part], count=jnp.asarray(2.0))
    for part in (slice(0, 2), slice(2, 4))
  ]
  expected = mean_inside(term, inside, weight, count=jnp.sum(inside))
  np.testing.assert_allclose(np.mean(parts), expected, rtol=1e-6)


@pytest.mark.parametrize("first", [0, 1, 3])
def test_rows_of_a_batch_are_told_apart_from_all_its_keys(first):
  query, key, inside = normals(9, K, R, P), normals(10, K, R, P), ends()
  rows = slice(first, first + 2)
  found = contrastive_loss(query[:, rows], key, inside, temperature=0.3, first=first)
  expected = contrastive_loss(query, key, inside, temperature=0.3)[:, rows]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
