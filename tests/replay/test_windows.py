"""Index arithmetic against a ring that is filled one frame after another."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np

from replay import windows


def _slow_ring(frames, capacity):
  """What each slot holds, and the frames of the windows that never cross the write head."""
  slots = {}
  for frame in range(frames):
    slots[frame % capacity] = frame
  return slots


@settings(deadline=None)
@given(
  frames=st.integers(0, 60),
  capacity=st.integers(1, 20),
  length=st.integers(1, 20),
  environments=st.integers(1, 4),
)
def test_windows_are_those_of_a_slow_ring(frames, capacity, length, environments):
  slots = _slow_ring(frames, capacity)
  expected = {
    (environment, first)
    for environment in range(environments)
    for first in slots.values()
    if all(slots.get((first + i) % capacity) == first + i for i in range(length))
    and length <= capacity
  }
  count = windows.num_windows(frames, capacity, length=length)
  assert environments * count == len(expected)
  if count:
    index = np.arange(environments * count)
    environment, first = windows.locate_window(index, frames, capacity, length=length)
    assert set(zip(environment.tolist(), first.tolist(), strict=True)) == expected


@settings(deadline=None)
@given(frames=st.integers(1, 60), capacity=st.integers(1, 20))
def test_frame_in_slot(frames, capacity):
  slots = _slow_ring(frames, capacity)
  found = windows.frame_in_slot(np.array(list(slots)), frames, capacity)
  assert found.tolist() == list(slots.values())
  assert windows.oldest_frame(frames, capacity) == min(slots.values())


def test_window_frames():
  assert windows.window_frames(np.array([5, 9]), 3).tolist() == [[5, 9], [6, 10], [7, 11]]
