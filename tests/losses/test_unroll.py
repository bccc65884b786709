"""Folded unroll targets against a slow reference that knows episodes, not discounts.

A stream of episodes is written out one by one; every window of it, at every
start, is compared. Values, policies and actions are different at every frame.
"""

import functools
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses import unroll

GAMMA = 0.9
NUM_ACTIONS = 3
RANDOM_ACTION = 99  # what must stand where the episode is over
SIZES = [(1, 1, 1), (1, 5, 5), (4, 3, 2), (8, 5, 5), (3, 2, 7), (2, 4, 1)]  # (S, K, n)

unroll_targets = jax.jit(unroll.unroll_targets, static_argnames="n")


class Episode(NamedTuple):
  """One episode of N steps; frame i, action i, then reward i. The last action ends it."""

  value: np.ndarray  # [N] what the network says of every frame
  policy: np.ndarray  # [N, A]
  action: np.ndarray  # [N]
  reward: np.ndarray  # [N]


def make_episode(rng, length):
  return Episode(
    value=rng.normal(scale=10.0, size=length).astype(np.float32),
    policy=rng.dirichlet(np.ones(NUM_ACTIONS), size=length).astype(np.float32),
    action=rng.integers(0, 15, size=length).astype(np.int32),
    reward=rng.normal(size=length).astype(np.float32),
  )


def make_episodes(seed, unroll_steps, n):
  """Every length at which something could go wrong, shuffled, more than enough frames."""
  rng = np.random.default_rng(seed)
  edge = {1, 2, n, unroll_steps - 1, unroll_steps, unroll_steps + 1, unroll_steps + n}
  lengths = [length for length in (*edge, 1, unroll_steps + n + 1, 1) if length >= 1]
  rng.shuffle(lengths)
  return [make_episode(rng, length) for length in (*lengths, 40)]


def place(episodes):
  """(episode, index in it) of every frame of the stream."""
  return [(e, i) for e, episode in enumerate(episodes) for i in range(len(episode.reward))]


def windows(episodes, length):
  """All windows of the stream as columns: arguments of `unroll_targets`, `[L, B]` each."""
  fields = [np.concatenate(parts) for parts in zip(*episodes, strict=True)]
  discount = np.concatenate([[GAMMA] * (len(e.reward) - 1) + [0.0] for e in episodes])
  value, policy, action, reward = fields
  num_windows = len(reward) - length + 1
  index = np.arange(length)[:, None] + np.arange(num_windows)[None, :]
  return {
    "reward": reward[index],
    "discount": discount.astype(np.float32)[index],
    "action": action[index],
    "bootstrap": value[index],
    "policy": policy[index],
  }


def targets(window, size):
  """The functions under test, on a window of `windows`."""
  num_starts, unroll_steps, n = size
  shape = (unroll_steps, num_starts, window["reward"].shape[1])
  result = unroll_targets(
    window["reward"],
    window["discount"],
    window["action"],
    window["bootstrap"],
    random_action=jnp.full(shape, RANDOM_ACTION, jnp.int32),
    n=n,
  )
  searched = window["policy"][: num_starts + unroll_steps]
  return result, unroll.policy_targets(searched, result.inside)


def slow_position(episodes, start, k, n):
  """Value, policy, reward of the k-th step and the action into it, from one episode alone."""
  e, i = start
  episode = episodes[e]
  length = len(episode.reward)
  step_taken = k >= 1 and i + k - 1 < length
  reward = episode.reward[i + k - 1] if step_taken else 0.0
  action = episode.action[i + k - 1] if step_taken else RANDOM_ACTION
  if i + k >= length:
    return 0.0, np.zeros(NUM_ACTIONS), reward, action, False
  value = 0.0
  for j in range(n):
    if i + k + j < length:
      value += GAMMA**j * float(episode.reward[i + k + j])
  if i + k + n < length:
    value += GAMMA**n * float(episode.value[i + k + n])
  return value, episode.policy[i + k], reward, action, True


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_start_of_every_window_equals_the_slow_reference(size, seed):
  num_starts, unroll_steps, n = size
  episodes = make_episodes(seed, unroll_steps, n)
  frames = place(episodes)
  window = windows(episodes, num_starts + unroll_steps + n)
  result, policy = targets(window, size)
  num_windows = window["reward"].shape[1]
  assert result.value.shape == (unroll_steps + 1, num_starts, num_windows)
  assert result.reward.shape == result.action.shape == (unroll_steps, num_starts, num_windows)
  expected = {
    "value": np.zeros(result.value.shape),
    "policy": np.zeros(policy.shape),
    "reward": np.zeros((unroll_steps + 1, num_starts, num_windows)),
    "action": np.zeros((unroll_steps + 1, num_starts, num_windows)),
    "inside": np.zeros(result.value.shape),
  }
  for index in np.ndindex(result.value.shape):
    k, s, b = index
    position = slow_position(episodes, frames[b + s], k, n)
    for name, entry in zip(
      ("value", "policy", "reward", "action", "inside"), position, strict=True
    ):
      expected[name][index] = entry
  np.testing.assert_allclose(result.value, expected["value"], atol=1e-4)
  np.testing.assert_array_equal(policy, expected["policy"].astype(np.float32))
  np.testing.assert_array_equal(result.reward, expected["reward"][1:].astype(np.float32))
  np.testing.assert_array_equal(result.action, expected["action"][1:])
  np.testing.assert_array_equal(result.inside, expected["inside"])
  assert 0.0 < expected["inside"].mean() < 1.0  # the stream has both kinds


@pytest.mark.parametrize("size", [(1, 5, 5), (1, 1, 1), (1, 3, 2)], ids=str)
def test_nothing_after_the_episode_changes_any_target(size):
  _, unroll_steps, n = size
  window = windows(make_episodes(2, unroll_steps, n), 1 + unroll_steps + n)
  before = targets(window, size)
  # after[i]: frame i is of a later episode than frame 0, whose start is the only one
  ended = np.cumsum(window["discount"] == 0.0, axis=0) > 0
  after = np.concatenate([np.zeros_like(ended[:1]), ended[:-1]])
  assert after.any()
  rng = np.random.default_rng(0)
  changed = {
    "reward": window["reward"] + 1e6 * after,
    "discount": np.where(after, rng.choice([0.0, GAMMA], size=after.shape), window["discount"]),
    "action": np.where(after, 7777, window["action"]),
    "bootstrap": window["bootstrap"] + 1e6 * after,
    "policy": window["policy"] + 1e6 * after[..., None],
  }
  changed = {name: x.astype(window[name].dtype) for name, x in changed.items()}
  jax.tree.map(np.testing.assert_array_equal, before, targets(changed, size))


@pytest.mark.parametrize("name", ["reward", "bootstrap", "action"])
def test_what_lies_inside_does_change_targets(name):
  # the counterpart of the test above: it must be able to see a change
  size = (1, 5, 5)
  window = windows([make_episode(np.random.default_rng(3), 30)], 11)
  before = targets(window, size)
  changed = {**window, name: window[name] + np.asarray(1, window[name].dtype)}
  after = targets(changed, size)
  differs = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
  assert any(jax.tree.leaves(differs))


def test_the_window_has_no_frame_too_few_or_too_many():
  num_starts, unroll_steps, n = size = (4, 3, 2)
  window = windows([make_episode(np.random.default_rng(4), 9)], 9)  # one window, L = 9, no end
  window["discount"] = np.full_like(window["discount"], GAMMA)
  before, _ = targets(window, size)
  last = {name: x.copy() for name, x in window.items()}
  last["bootstrap"][-1] += 1.0  # frame L - 1 bootstraps the last position of the last start alone
  after, _ = targets(last, size)
  moved = np.asarray(after.value - before.value)[..., 0]
  expected = np.zeros((unroll_steps + 1, num_starts))
  expected[unroll_steps, num_starts - 1] = GAMMA**n
  np.testing.assert_allclose(moved, expected, atol=1e-5)

  unread = {name: x.copy() for name, x in window.items()}
  for name in ("reward", "discount", "action"):
    unread[name][-1] = 55
  unread["bootstrap"][:n] = 1e6
  unread["policy"][num_starts + unroll_steps :] = 1e6
  jax.tree.map(np.testing.assert_array_equal, targets(window, size), targets(unread, size))

  for length in (8, 10):
    wrong = windows([make_episode(np.random.default_rng(4), length)], length)
    with pytest.raises(AssertionError):
      targets(wrong, size)


def test_step_k_is_trained_on_the_reward_of_the_action_that_leads_to_it():
  # reward i = frame i; the k-th model step of start s takes the action of frame s + k - 1
  size = (3, 4, 2)
  window = windows([make_episode(np.random.default_rng(5), 9)], 9)
  window["reward"] = np.arange(9, dtype=np.float32)[:, None]
  window["action"] = np.arange(9, dtype=np.int32)[:, None]
  window["discount"] = np.full((9, 1), GAMMA, np.float32)
  result, _ = targets(window, size)
  expected = [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
  np.testing.assert_array_equal(result.reward[..., 0], expected)
  np.testing.assert_array_equal(result.action[..., 0], expected)


def test_window_that_starts_at_the_ending_step():
  # frame 0's action ends its episode with reward 5; K = 2, n = 2
  size = (1, 2, 2)
  window = windows([make_episode(np.random.default_rng(6), 1), *make_episodes(6, 2, 2)], 5)
  window = {name: x[:, :1].copy() for name, x in window.items()}
  window["reward"][0] = 5.0
  result, policy = targets(window, size)
  np.testing.assert_array_equal(result.value[:, 0, 0], [5.0, 0.0, 0.0])
  np.testing.assert_array_equal(result.reward[:, 0, 0], [5.0, 0.0])
  np.testing.assert_array_equal(
    result.action[:, 0, 0], [int(window["action"][0, 0]), RANDOM_ACTION]
  )
  np.testing.assert_array_equal(result.inside[:, 0, 0], [1.0, 0.0, 0.0])
  np.testing.assert_array_equal(policy[0, 0, 0], window["policy"][0, 0])
  np.testing.assert_array_equal(policy[1:], np.zeros((2, 1, 1, NUM_ACTIONS)))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_constant_reward_and_its_value_are_a_fixed_point(size):
  num_starts, unroll_steps, n = size
  length = num_starts + unroll_steps + n
  window = windows([make_episode(np.random.default_rng(7), length)], length)
  window["reward"][:] = 1.0
  window["discount"][:] = 0.75
  window["bootstrap"][:] = 4.0  # 1 / (1 - .75)
  result, _ = targets(window, size)
  np.testing.assert_array_equal(result.value, np.full(result.value.shape, 4.0))
  np.testing.assert_array_equal(result.reward, np.ones(result.reward.shape))


def test_constant_reward_with_m_steps_left_is_worth_the_geometric_sum():
  size = (1, 4, 3)
  window = windows(make_episodes(8, 4, 3), 8)
  window["reward"][:] = 1.0
  window["bootstrap"][:] = 1.0 / (1.0 - GAMMA)
  result, _ = targets(window, size)
  for b in range(window["reward"].shape[1]):
    (ends,) = np.nonzero(window["discount"][:, b] == 0.0)
    steps_left = np.arange(ends[0], ends[0] - 5, -1) + 1 if len(ends) else np.full(5, 100)
    expected = [
      (1 - GAMMA**m) / (1 - GAMMA) if 0 < m <= 3 else (10.0 if m > 3 else 0.0) for m in steps_left
    ]
    np.testing.assert_allclose(result.value[:, 0, b], expected, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), end_probability=st.floats(0.0, 1.0))
def test_folding_equals_independent_windows(seed, end_probability):
  num_starts, unroll_steps, n = size = (5, 3, 2)
  rng = np.random.default_rng(seed)
  length = num_starts + unroll_steps + n
  window = {
    "reward": rng.normal(size=(length, 2)).astype(np.float32),
    "discount": (GAMMA * (rng.random((length, 2)) >= end_probability)).astype(np.float32),
    "action": rng.integers(0, 15, size=(length, 2)).astype(np.int32),
    "bootstrap": rng.normal(size=(length, 2)).astype(np.float32),
    "policy": rng.dirichlet(np.ones(NUM_ACTIONS), size=(length, 2)).astype(np.float32),
  }
  folded = targets(window, size)
  for s in range(num_starts):
    single = {name: x[s : s + 1 + unroll_steps + n] for name, x in window.items()}
    alone = targets(single, (1, unroll_steps, n))
    here = jax.tree.map(functools.partial(np.take, indices=[s], axis=1), folded)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), here, alone)


def test_entries_of_the_batch_are_independent():
  size = (4, 3, 2)
  window = windows(make_episodes(9, 3, 2), 9)
  together = targets(window, size)
  for b in (0, 3, 11):
    alone = targets({name: x[:, b : b + 1] for name, x in window.items()}, size)
    # the batch is the third axis of every target
    here = jax.tree.map(functools.partial(np.take, indices=[b], axis=2), together)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), here, alone)


def test_fold_windows_worked_by_hand():
  np.testing.assert_array_equal(
    unroll.fold_windows(jnp.arange(5), num_starts=3), [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
  )
  assert unroll.fold_windows(jnp.zeros((5, 2, 4)), num_starts=5).shape == (1, 5, 2, 4)


def test_inside_episode_worked_by_hand():
  # S = 2, K = 3, discounts of rows 0 .. 3; environment 1 ends at row 1.
  discount = jnp.array([[0.9, 0.9], [0.9, 0.0], [0.9, 0.9], [0.9, 0.9]])
  inside = unroll.inside_episode(discount, num_starts=2)
  np.testing.assert_array_equal(inside[..., 0], np.ones((4, 2)))
  # start 0 is inside for k = 0, 1; start 1, the ending step, for k = 0 alone
  np.testing.assert_array_equal(inside[..., 1], [[1, 1], [1, 0], [0, 0], [0, 0]])


def test_scale_gradient_keeps_the_value_bit_for_bit():
  x = jnp.asarray(np.random.default_rng(0).normal(scale=1e3, size=1000), jnp.float32)
  for factor in (0.5, 1.0 / 3.0, 0.0, 2.0):
    np.testing.assert_array_equal(
      jax.jit(functools.partial(unroll.scale_gradient, factor=factor))(x), x
    )
    gradient = jax.grad(lambda y, f=factor: jnp.sum(3.0 * unroll.scale_gradient(y, f)))(x)
    np.testing.assert_allclose(gradient, np.full(1000, 3.0 * factor), rtol=1e-6)


def test_unroll_scale():
  np.testing.assert_array_equal(unroll.unroll_scale(4), [1.0, 0.25, 0.25, 0.25, 0.25])
  np.testing.assert_array_equal(unroll.unroll_scale(1), [1.0, 1.0])
  for unroll_steps in (1, 3, 7):
    np.testing.assert_allclose(unroll.unroll_scale(unroll_steps).sum(), 2.0, rtol=1e-6)


def linear_unroll_loss(a, b):
  """h_0 = a x, h_k = b h_{k-1} with the gradient into h_{k-1} halved, x = 3, K = 3."""
  hidden = a * 3.0
  loss = unroll.unroll_scale(3)[0] * hidden
  for weight in unroll.unroll_scale(3)[1:]:
    hidden = b * unroll.scale_gradient(hidden, 0.5)
    loss += weight * hidden
  return loss


def test_half_gradient_and_one_over_k_on_a_linear_model():
  # a = 2, b = 4: h = 6, 24, 96, 384; the loss is 6 + (24 + 96 + 384) / 3 = 174.
  # One step back through the dynamics multiplies a gradient with b / 2 = 2:
  #   dL/da = x (1 + (2 + 4 + 8) / 3) = 3 * 17 / 3 = 17
  #   dh_1/db = h_0 = 6, dh_2/db = h_1 + 2 * 6 = 36, dh_3/db = h_2 + 2 * 36 = 168
  #   dL/db = (6 + 36 + 168) / 3 = 70
  loss, (da, db) = jax.value_and_grad(linear_unroll_loss, argnums=(0, 1))(2.0, 4.0)
  np.testing.assert_allclose([loss, da, db], [174.0, 17.0, 70.0], rtol=1e-6)


def test_bad_arguments_are_refused():
  window = windows([make_episode(np.random.default_rng(0), 9)], 9)
  arguments = [window[name] for name in ("reward", "discount", "action", "bootstrap")]
  random_action = jnp.zeros((3, 4, 1), jnp.int32)
  unroll.unroll_targets(*arguments, random_action=random_action, n=2)
  with pytest.raises(ValueError, match="n must be at least 1"):
    unroll.unroll_targets(*arguments, random_action=random_action, n=0)
  with pytest.raises(ValueError, match="unroll_steps"):
    unroll.unroll_targets(*arguments, random_action=random_action[:0], n=5)
  with pytest.raises(AssertionError):
    unroll.unroll_targets(*arguments, random_action=random_action.astype(float), n=2)
  with pytest.raises(AssertionError):
    unroll.unroll_targets(*arguments, random_action=jnp.zeros((3, 4, 2), jnp.int32), n=2)
  with pytest.raises(ValueError, match="unroll_steps"):
    unroll.unroll_scale(0)
  for num_starts in (0, 6):
    with pytest.raises(ValueError, match="num_starts"):
      unroll.fold_windows(jnp.zeros(5), num_starts=num_starts)
  with pytest.raises(AssertionError):
    unroll.policy_targets(jnp.zeros((8, 1, 3)), jnp.zeros((4, 4, 1)))  # S + K = 7
