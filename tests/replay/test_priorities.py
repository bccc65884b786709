"""Prioritised windows against enumerated probabilities and a slow table of priorities."""

from coded_frames import request
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from replay.priorities import Priorities, priority_bytes

B, CAPACITY = 3, 12


def _request(**fields):
  return request(capacity=CAPACITY * B, length=4, starts=2, min_size=4 * B, **fields)


def _table(asked, priorities, frames):
  """Probability of every window (environment, first), the slow way."""
  oldest = max(0, frames - CAPACITY)
  weights = {
    (e, f): priorities[e, f] ** asked.priority_exponent
    for e in range(B)
    for f in range(oldest, frames - asked.length + 1)
  }
  total = sum(weights.values())
  return {window: weight / total for window, weight in weights.items()}


def _filled(asked, rng):
  """A table that has been through adds and updates; with its slow twin."""
  table = Priorities(asked, num_environments=B, capacity=CAPACITY)
  slow, largest, frames = {}, 1.0, 0
  for added in (3, 5, 1, 7, 12, 2):
    table.add(frames, added)
    slow |= {(e, f): largest for e in range(B) for f in range(frames, frames + added)}
    frames += added
    environment = rng.integers(0, B, 9)
    frame = rng.integers(max(0, frames - CAPACITY), frames, 9)
    priority = rng.random(9) * 3 + 0.01
    table.update(environment, frame, priority, frames=frames)
    for e, f, p in zip(environment.tolist(), frame.tolist(), priority.tolist(), strict=True):
      slow[e, f] = p
      largest = max(largest, p)
  return table, slow, frames


def _chi_square(counts, probabilities):
  """P-value that counts come from the probabilities; the two must have the same keys."""
  keys = sorted(probabilities)
  assert set(counts) <= set(keys)
  observed = np.array([counts.get(key, 0) for key in keys])
  expected = np.array([probabilities[key] for key in keys]) * observed.sum()
  return stats.chisquare(observed, expected).pvalue


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_windows_are_drawn_in_proportion_to_priority_to_the_alpha(alpha):
  asked = _request(priority_exponent=alpha, batch_size=100_000)
  table, slow, frames = _filled(asked, np.random.default_rng(0))
  environment, first = table.draw(np.random.default_rng(1), frames=frames)
  windows, counts = np.unique(np.stack([environment, first]), axis=1, return_counts=True)
  counts = {tuple(window): count for window, count in zip(windows.T.tolist(), counts, strict=True)}
  assert _chi_square(counts, _table(asked, slow, frames)) > 1e-3
  other = _table(_request(priority_exponent=1.5 - alpha), slow, frames)
  assert _chi_square(counts, other) < 1e-9  # the check above can fail


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), beta=st.sampled_from([0.0, 0.4, 1.0]))
def test_importance_weights_are_those_of_every_sample(seed, beta):
  asked = _request(priority_exponent=0.7, importance_exponent=beta)
  rng = np.random.default_rng(seed)
  table, slow, frames = _filled(asked, rng)
  window = _table(asked, slow, frames)
  sample = {}  # probability that a sample of a draw is this one, over all windows that hold it
  for (e, f), p in window.items():
    for start in range(asked.starts):
      sample[e, f + start] = sample.get((e, f + start), 0) + p / asked.starts
  assert sum(sample.values()) == pytest.approx(1)
  environment, first = table.draw(rng, frames=frames)
  found = table.importance_weights(environment, first)
  expected = np.array(
    [
      [
        sample[e, f + start] ** -beta
        for e, f in zip(environment.tolist(), first.tolist(), strict=True)
      ]
      for start in range(asked.starts)
    ]
  )
  np.testing.assert_allclose(found, expected / expected.max(), rtol=1e-6)
  assert found.dtype == np.float32


def test_full_importance_weights_make_every_sample_count_alike():
  # With beta = 1, the sum of the weights with which a sample is drawn is the same for all of them.
  asked = _request(priority_exponent=1.0, importance_exponent=1.0, batch_size=50_000)
  table, _, frames = _filled(asked, np.random.default_rng(3))
  environment, first = table.draw(np.random.default_rng(4), frames=frames)
  weight = table.importance_weights(environment, first)
  sums = {}
  for start in range(asked.starts):
    key = environment * 1000 + first + start
    for name in np.unique(key):
      sums[name] = sums.get(name, 0) + weight[start, key == name].sum()
  total = np.array(list(sums.values()))
  np.testing.assert_allclose(total, total.mean(), rtol=0.2)


def test_a_restored_table_goes_on_bit_for_bit():
  asked = _request(priority_exponent=0.6, importance_exponent=0.5, batch_size=64)
  rng = np.random.default_rng(5)
  table, _, frames = _filled(asked, rng)
  restored = Priorities(asked, num_environments=B, capacity=CAPACITY)
  restored.restore_state(*table.save_state(frames), frames=frames)
  for each in (table, restored):
    each.add(frames, 5)
    each.update(np.array([1]), np.array([frames + 2]), np.array([0.3]), frames=frames + 5)
  one, other = (
    each.draw(np.random.default_rng(6), frames=frames + 5) for each in (table, restored)
  )
  np.testing.assert_array_equal(one, other)
  np.testing.assert_array_equal(table.importance_weights(*one), restored.importance_weights(*other))
  with pytest.raises(ValueError, match=r"weights must be \[3, 12\], got \[3, 11\]"):
    Priorities(asked, num_environments=B, capacity=CAPACITY).restore_state(
      np.ones((3, 11)), np.ones(()), frames=30
    )


def test_bytes():
  table = Priorities(_request(priority_exponent=1.0), num_environments=B, capacity=CAPACITY)
  assert table.nbytes == priority_bytes(B * CAPACITY)
