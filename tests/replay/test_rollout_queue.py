"""Every rollout once, in groups, in order; a half-filled group survives a restart."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from replay.factory import make_source
from replay.interface import Rollouts
from replay.rollout_queue import RolloutQueue

T, B = 3, 2


def _rollout(number, to=np.asarray):
  """A rollout whose every entry tells (rollout, t, b)."""
  t, b = np.meshgrid(np.arange(T), np.arange(B), indexing="ij")
  code = 100 * number + 10 * t + b
  frame = np.repeat(code[:, :, None], 4, axis=2).astype(np.uint8)
  return {"frame": to(frame), "value": to(code.astype(np.float32))}


def test_count_one_passes_the_record_itself():
  queue = RolloutQueue(Rollouts())
  for number in range(3):
    record = _rollout(number, jnp.asarray)
    assert queue.updates_due() == 0
    queue.add(record)
    assert queue.updates_due() == 1
    assert queue.draw() is record
    assert queue.updates_due() == 0


@pytest.mark.parametrize("to", [np.asarray, jnp.asarray])
@settings(deadline=None, max_examples=20)
@given(count=st.integers(2, 5), groups=st.integers(1, 3))
def test_groups_hold_each_rollout_once_and_in_order(to, count, groups):
  queue = RolloutQueue(Rollouts(count))
  for group in range(groups):
    for number in range(group * count, (group + 1) * count):
      assert queue.updates_due() == 0
      queue.add(_rollout(number, to))
    assert queue.updates_due() == 1
    drawn = queue.draw()
    expected = [_rollout(n) for n in range(group * count, (group + 1) * count)]
    for name in ("frame", "value"):
      np.testing.assert_array_equal(drawn[name], np.concatenate([r[name] for r in expected], 1))
    assert drawn["frame"].dtype == np.uint8


def test_a_group_is_released_without_a_second_copy():
  queue = RolloutQueue(Rollouts(2))
  drawn = []
  for number in range(4):
    queue.add(_rollout(number))
    if queue.updates_due():
      drawn.append(queue.draw())
  assert np.shares_memory(drawn[0]["frame"], drawn[1]["frame"])
  assert drawn[0]["frame"][0, 0, 0] == 200  # the second group stands where the first stood


def test_draw_and_add_out_of_turn_raise():
  queue = RolloutQueue(Rollouts(2))
  with pytest.raises(RuntimeError, match="2 of 2 rollouts are missing"):
    queue.draw()
  queue.add(_rollout(0))
  queue.add(_rollout(1))
  with pytest.raises(RuntimeError, match="draw it before adding"):
    queue.add(_rollout(2))
  with pytest.raises(RuntimeError, match="draw it before saving"):
    queue.save_state()


@pytest.mark.parametrize(
  ("record", "named"),
  [
    ({"a": np.zeros((T, B)), "b": np.zeros(T)}, "'b'"),
    ({"a": np.zeros((T, B)), "b": np.zeros((T, B + 1))}, "share"),
  ],
)
def test_leaves_that_are_no_rollout_are_named(record, named):
  with pytest.raises(ValueError, match=named):
    RolloutQueue(Rollouts(2)).add(record)


@pytest.mark.parametrize(
  "second",
  [
    {"a": np.zeros((T, B), np.float64)},
    {"a": np.zeros((T + 1, B), np.float32)},
    {"a": np.zeros((T, B, 1), np.float32)},
    {"a": np.zeros((T, B), np.float32), "b": np.zeros((T, B))},
  ],
)
def test_a_rollout_unlike_the_first_is_refused_and_changes_nothing(second):
  queue = RolloutQueue(Rollouts(2))
  queue.add({"a": np.ones((T, B), np.float32)})
  with pytest.raises(ValueError, match=r"leaf 'a' is float|differ.*\['b'\]"):
    queue.add(second)
  queue.add({"a": np.full((T, B), 2, np.float32)})
  assert queue.draw()["a"].tolist() == [[1, 1, 2, 2]] * T


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("stop", range(7))
def test_a_restart_anywhere_changes_nothing(count, stop):
  whole, first, second = (RolloutQueue(Rollouts(count)) for _ in range(3))

  def step(queue, number):
    queue.add(_rollout(number))
    return queue.draw()["frame"].copy() if queue.updates_due() else None

  expected = [step(whole, number) for number in range(8)]
  found = [step(first, number) for number in range(stop)]
  state = first.save_state()
  step(first, 77)  # later writes do not reach the saved state
  second.restore_state(state)
  again = second.save_state()  # saving before the first add keeps the group as well
  assert state.keys() == again.keys()
  for name in state:
    np.testing.assert_array_equal(state[name], again[name])
  found += [step(second, number) for number in range(stop, 8)]
  for one, other in zip(expected, found, strict=True):
    np.testing.assert_equal(one, other)


def test_a_state_that_does_not_fit_is_refused():
  queue = RolloutQueue(Rollouts(3))
  queue.add(_rollout(0))
  state = queue.save_state()
  with pytest.raises(ValueError, match="count is 2, the state has count 3"):
    RolloutQueue(Rollouts(2)).restore_state(state)
  with pytest.raises(ValueError, match="rollouts_added"):
    RolloutQueue(Rollouts(3)).restore_state({"count": np.int64(3)})
  with pytest.raises(ValueError, match="extra"):
    RolloutQueue(Rollouts(3)).restore_state(state | {"extra": np.zeros(1)})
  lost = {name: value for name, value in state.items() if not name.startswith("rollouts/")}
  with pytest.raises(ValueError, match="rollouts_added is 1"):
    RolloutQueue(Rollouts(3)).restore_state(lost)
  restored = RolloutQueue(Rollouts(3))
  restored.restore_state(state | {"rollouts/frame": np.zeros((T, B, 5), np.uint8)})
  with pytest.raises(ValueError, match="'frame'"):
    restored.add(_rollout(1))


def test_factory():
  assert isinstance(make_source(Rollouts(2)), RolloutQueue)
  with pytest.raises(TypeError, match="str"):
    make_source("rollouts")


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_bad_counts_are_refused(count):
  with pytest.raises(ValueError, match="count"):
    Rollouts(count)
