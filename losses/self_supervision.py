"""Self-supervised losses on the latents of an unrolled model, one term per position.

Every function returns a term for each of the positions given, 0 and without gradient
where the position lies past its episode's end; `mean_inside` averages over the others.
"""

import chex
import jax
import jax.numpy as jnp


def reconstruction_loss(decoded: jax.Array, frames: jax.Array, inside: jax.Array) -> jax.Array:
  """Squared error of decoded frames, mean over pixels and channels (Anand et al. 2022).

    l_{k,r} = i_{k,r} 1/(H W C) |d_{k,r} - o_{k,r} / 255|^2

  The paper names a per-pixel loss without its form; the squared error is ours.

  Args:
    decoded: `[K, R, H, W, C]` in units of frames scaled to [0, 1].
    frames: `[K, R, H, W, C]` uint8, what came.
    inside: `[K, R]` float32, 1 inside the start's episode, else 0.

  Returns:
    `[K, R]` float32.

  Raises:
    AssertionError: the shapes do not fit, or the frames are not uint8.
  """
  chex.assert_rank(decoded, 5)
  chex.assert_equal_shape([decoded, frames])
  chex.assert_shape(inside, decoded.shape[:2])
  chex.assert_type(frames, jnp.uint8)
  error = decoded.astype(jnp.float32) - frames.astype(jnp.float32) / 255.0
  return _inside_only(jnp.mean(jnp.square(error), axis=(2, 3, 4)), inside)


def contrastive_loss(
  query: jax.Array,
  key: jax.Array,
  inside: jax.Array,
  *,
  temperature: float,
  first: jax.Array | int = 0,
) -> jax.Array:
  """InfoNCE with negatives from the batch (van den Oord et al. 2018, eq. 4).

    l_{k,r} = - i_{k,f+r} log (exp(c_{k,r,f+r} / t) / sum_{q in Q_k} exp(c_{k,r,q} / t))
    c_{k,r,q} = cos(query_{k,r}, key_{k,q}),   Q_k = {q: i_{k,q} = 1}

  with f = 0 and R = Q where all rows of the batch are here.

  Negatives have the positive's k: with folded windows the frame of (k, s) is that of
  (k - 1, s + 1) too, so that keys of another k can be the positive itself. Positions
  past the end are no negatives, no rows, and get no gradient as either. Gradients flow
  into queries and keys.

  Args:
    query: `[K, R, P]` projections of unrolled latents.
    key: `[K, Q, P]` projections of the encodings of the frames that came, of the whole batch.
    inside: `[K, Q]` float32, 1 inside the start's episode, else 0.
    temperature: t, above 0.
    first: f, which key is the first row's own.

  Returns:
    `[K, R]` float32; log of the number of candidates where nothing is told apart.

  Raises:
    AssertionError: the shapes do not fit.
  """
  chex.assert_rank(query, 3)
  rows, columns = query.shape[1], inside.shape[1]
  chex.assert_shape(key, (query.shape[0], columns, query.shape[2]))
  chex.assert_shape(inside, key.shape[:2])
  similarity = jnp.einsum("krp,kqp->krq", _unit(query), _unit(key)) / temperature
  own = jnp.arange(columns)[None, :] == first + jnp.arange(rows)[:, None]
  candidates = (inside[:, None, :] > 0.0) | own[None]  # one at least: every row's sum is above 0
  log_sum = jax.nn.logsumexp(jnp.where(candidates, similarity, -jnp.inf), axis=-1)
  positive = jax.lax.dynamic_slice_in_dim(similarity, first, rows, axis=2)
  own_inside = jax.lax.dynamic_slice_in_dim(inside, first, rows, axis=1)
  return _inside_only(log_sum - jnp.diagonal(positive, axis1=1, axis2=2), own_inside)


def spr_loss(prediction: jax.Array, target: jax.Array, inside: jax.Array) -> jax.Array:
  """Self-predictive representations (Schwarzer et al. 2021, eq. 4), plus 1.

    l_{k,r} = i_{k,r} (1 - cos(prediction_{k,r}, target_{k,r}))

  The 1 makes the loss non-negative and leaves its gradient.

  Args:
    prediction: `[K, R, P]` predictor's output for projected unrolled latents.
    target: `[K, R, P]` target network's projections of the frames that came; stopped.
    inside: `[K, R]` float32, 1 inside the start's episode, else 0.

  Returns:
    `[K, R]` float32 between 0 and 2.

  Raises:
    AssertionError: the shapes do not fit.
  """
  chex.assert_rank(prediction, 3)
  chex.assert_equal_shape([prediction, target])
  chex.assert_shape(inside, prediction.shape[:2])
  cosine = jnp.sum(_unit(prediction) * _unit(jax.lax.stop_gradient(target)), axis=-1)
  return _inside_only(1.0 - cosine, inside)


def mean_inside(
  term: jax.Array, inside: jax.Array, weight: jax.Array, *, count: jax.Array
) -> jax.Array:
  """Mean over the positions inside their episode, importance-weighted.

    sum_{k,r} i_{k,r} w_r l_{k,r} / count

  Args:
    term: `[K, R]`.
    inside: `[K, R]` float32 of ones and zeros.
    weight: `[R]` of every start.
    count: a scalar, sum_{k,r} i_{k,r}. Of one of several equal parts of a batch: that of
      a part on average, so that the mean over the parts is the batch's.

  Returns:
    A float32 scalar; 0 where no position is inside.

  Raises:
    AssertionError: the shapes do not fit.
  """
  chex.assert_equal_shape([term, inside])
  chex.assert_shape(weight, term.shape[1:])
  total = jnp.sum(_inside_only(term, inside) * weight[None])
  return total / jnp.where(count > 0.0, count, 1.0)


def _inside_only(term: jax.Array, inside: jax.Array) -> jax.Array:
  """Zeros, and no gradient, where `inside` is 0."""
  return jnp.where(inside > 0.0, term, 0.0)


def _unit(x: jax.Array) -> jax.Array:
  """Vectors `[..., P]` scaled to length 1; 0 stays 0, with a finite gradient."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)
