"""Rollouts that wait at a checkpoint, against the loop's own rule turn by turn."""

from hypothesis import example, given
from hypothesis import strategies as st
import pytest

from experiments.open_rollouts import most_waiting, waiting


def counted_turn_by_turn(counts, *, turns, steps_per_turn, checkpoint_every):
  most = 0
  for turn in range(1, turns + 1):
    before, now = (turn - 1) * steps_per_turn, turn * steps_per_turn
    if now // checkpoint_every > before // checkpoint_every:
      most = max(most, sum(turn % count for count in counts))
  return most


@given(
  counts=st.lists(st.integers(1, 6), max_size=3),
  turns=st.integers(0, 400),
  steps_per_turn=st.integers(1, 12),
  checkpoint_every=st.integers(1, 60),
)
@example(counts=[1, 4], turns=7, steps_per_turn=512, checkpoint_every=2048)
@example(counts=[5, 6], turns=400, steps_per_turn=12, checkpoint_every=12 * 30 + 1)
def test_as_many_wait_as_are_counted_turn_by_turn(counts, **settings):
  assert most_waiting(counts, **settings) == counted_turn_by_turn(counts, **settings)


@pytest.mark.timeout(60)
def test_no_turn_of_a_run_without_end_is_walked():
  endless = {"turns": 10**20, "steps_per_turn": 2**14}
  assert most_waiting([], **endless, checkpoint_every=1) == 0
  assert most_waiting([1, 1], **endless, checkpoint_every=1) == 0
  assert most_waiting([1, 32], **endless, checkpoint_every=1) == 31
  assert most_waiting([1, 32], **endless, checkpoint_every=32 * 2**14) == 0
  assert most_waiting([1, 32], **endless, checkpoint_every=48 * 2**14) == 16
  assert most_waiting([1, 32], **endless, checkpoint_every=10**6 + 1) == 31
  assert waiting([1, 32], turn=10**20 + 5) == 10**20 % 32 + 5
