"""What a K-step unroll of a learned model is trained on, for folded windows.

A sequence of L = S + K + n frames yields S starts, each unrolled K steps, each
unrolled position with an n-step value. A start at s takes the frames s .. s + K.
"""

import chex
from flax import struct
import jax
import jax.numpy as jnp

from losses import returns


@struct.dataclass
class UnrollTargets:
  """Targets of S starts, unrolled K steps; shared by planning and model-free agents."""

  value: jax.Array  # [K + 1, S, B], after k model steps; 0 past the end
  reward: jax.Array  # [K, S, B], row k - 1 of the k-th model step; 0 past the end
  action: jax.Array  # [K, S, B] integers, row k - 1 leads into the k-th model step
  inside: jax.Array  # [K + 1, S, B] float32, 1 while the start's episode lasts, else 0


def scale_gradient(x: jax.Array, factor: float) -> jax.Array:
  """Passes `x` on unchanged and its gradient times `factor`.

  MuZero halves the gradient into the dynamics' input at every model step
  (Schrittwieser et al. 2020, appendix G).

  Args:
    x: any array.
    factor: what the gradient is multiplied with.

  Returns:
    `x`, bit for bit where it is finite.
  """
  stopped = jax.lax.stop_gradient(x)
  return stopped + factor * (x - stopped)


def unroll_scale(unroll_steps: int) -> jax.Array:
  """Weights of an unroll's terms (Schrittwieser et al. 2020, appendix G).

  The root's terms count 1, those of each of the K model steps 1 / K, so that the
  model steps together weigh as much as the root whatever K is. Value and policy
  terms take all K + 1 weights, reward terms the last K.

  Args:
    unroll_steps: K.

  Returns:
    `[K + 1]` float32.

  Raises:
    ValueError: K is less than 1.
  """
  _check_positive(unroll_steps=unroll_steps)
  return jnp.full((unroll_steps + 1,), 1.0 / unroll_steps, jnp.float32).at[0].set(1.0)


def fold_windows(x: jax.Array, *, num_starts: int) -> jax.Array:
  """Overlapping windows of one sequence, one for every start.

    y[k, s] = x[s + k]

  Args:
    x: `[S + W - 1, ...]`.
    num_starts: S.

  Returns:
    `[W, S, ...]`, the W rows that follow each start, itself included.

  Raises:
    ValueError: S is less than 1 or larger than the sequence.
  """
  _check_positive(num_starts=num_starts)
  width = x.shape[0] - num_starts + 1
  if width < 1:
    raise ValueError(f"num_starts must be at most the {x.shape[0]} rows given, got {num_starts}")
  return jnp.stack([x[k : k + num_starts] for k in range(width)])


def inside_episode(discount: jax.Array, *, num_starts: int) -> jax.Array:
  """Which positions of an unroll belong to the episode that its start is in.

    i_{0,s} = 1,   i_{k,s} = i_{k-1,s} [g_{s+k-1} > 0]

  Position k is reached by k actions from the start; it is inside as long as none
  of them ended the episode. Once outside, always outside: the next episode's
  frames do not count.

  Args:
    discount: `[S + K - 1, B]` after each action, 0 where it ended the episode.
    num_starts: S.

  Returns:
    `[K + 1, S, B]` float32 of ones and zeros.

  Raises:
    AssertionError: `discount` is not of rank 2.
    ValueError: S is less than 1 or larger than the sequence.
  """
  chex.assert_rank(discount, 2)
  goes_on = (fold_windows(discount, num_starts=num_starts) > 0.0).astype(jnp.float32)
  return jnp.concatenate([jnp.ones_like(goes_on[:1]), jnp.cumprod(goes_on, axis=0)])


def unroll_targets(
  reward: jax.Array,
  discount: jax.Array,
  action: jax.Array,
  bootstrap: jax.Array,
  *,
  random_action: jax.Array,
  n: int,
) -> UnrollTargets:
  """Targets of every start of a folded sequence (Schrittwieser et al. 2020, appendix G and H).

  Row i holds frame o_i, the action a_i taken there, and what came after it: the
  reward r_i and the discount g_i, 0 if a_i ended the episode, in which case
  o_{i+1} opens another one. With i_{k,s} from `inside_episode`:

    value  z_{k,s} = i_{k,s} G_{s+k},       k = 0 .. K,  G the n-step return
    reward u_{k,s} = i_{k-1,s} r_{s+k-1},   k = 1 .. K
    action a_{k,s} = a_{s+k-1} where i_{k-1,s} = 1, else random

  So the reward of the ending action is trained, by the model step that takes it.
  Past the end the state is absorbing: value and reward are trained to 0 under
  actions that say nothing, and only the terms that have no target there (policy,
  self-supervision) are to be multiplied with `inside`.

  The last position, S - 1 + K, bootstraps from frame L - 1. Of row L - 1 nothing else
  is read, nor are bootstrap values of rows before n; G stops at a discount of 0.

  Args:
    reward: `[L, B]` after each action.
    discount: `[L, B]` with gamma (> 0) applied, 0 where an episode ended.
    action: `[L, B]` integers.
    bootstrap: `[L, B]` value of every frame, finite.
    random_action: `[K, S, B]` integers, drawn uniformly by the caller; S and K are its.
    n: steps before bootstrapping.

  Returns:
    UnrollTargets.

  Raises:
    ValueError: n, S or K is less than 1.
    AssertionError: L is not S + K + n, or the shapes or types do not fit.
  """
  chex.assert_rank([reward, random_action], [2, 3])
  unroll_steps, num_starts, batch_size = random_action.shape
  _check_positive(n=n, num_starts=num_starts, unroll_steps=unroll_steps)
  chex.assert_shape(
    [reward, discount, action, bootstrap], (num_starts + unroll_steps + n, batch_size)
  )
  chex.assert_type([action, random_action], int)
  value = returns.n_step_return(reward[:-1], discount[:-1], bootstrap, n=n)  # [S + K, B]
  steps = slice(num_starts + unroll_steps - 1)  # the rows whose action some start unrolls
  inside = inside_episode(discount[steps], num_starts=num_starts)
  return UnrollTargets(
    value=jnp.where(inside > 0.0, fold_windows(value, num_starts=num_starts), 0.0),
    reward=jnp.where(inside[:-1] > 0.0, fold_windows(reward[steps], num_starts=num_starts), 0.0),
    action=jnp.where(
      inside[:-1] > 0.0, fold_windows(action[steps], num_starts=num_starts), random_action
    ),
    inside=inside,
  )


def policy_targets(search_policy: jax.Array, inside: jax.Array) -> jax.Array:
  """The search policy of every unrolled position, zeros past the end.

  A row of zeros gives no cross-entropy and no gradient, so the policy is not
  trained past an episode's end. Each of the S + K positions is searched once,
  however many starts unroll over it; the last n frames are not searched.

  Args:
    search_policy: `[S + K, B, A]` probabilities at the first S + K frames.
    inside: `[K + 1, S, B]` from `unroll_targets`.

  Returns:
    `[K + 1, S, B, A]`.

  Raises:
    AssertionError: the shapes do not fit.
  """
  chex.assert_rank([search_policy, inside], 3)
  width, num_starts, batch_size = inside.shape
  chex.assert_shape(search_policy, (num_starts + width - 1, batch_size, None))
  policy = fold_windows(search_policy, num_starts=num_starts)
  return jnp.where(inside[..., None] > 0.0, policy, 0.0)


def _check_positive(**sizes: int) -> None:
  """Raises ValueError naming the first size that is less than 1."""
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f"{name} must be at least 1, got {size!r}")
