"""Levels named one by one: what is parsed, refused and played."""

import numpy as np
import pytest

from environments.catch import CatchEnvironment
from environments.factory import make_environment, make_one_per_level
from environments.joined import JoinedEnvironment
from environments.level_list import MOST_LEVELS, is_level_list, parse_level_list
from environments.levels import parse_levels


@pytest.mark.parametrize(
  ("text", "mode", "seeds"),
  [
    ("seeds:5", "easy", (5,)),
    ("seeds:3,17,40-43", "easy", (3, 17, 40, 41, 42, 43)),
    ("hard-seeds:9-9, 1", "hard", (9, 1)),
  ],
)
def test_lists(text, mode, seeds):
  found = parse_level_list(text, mode="easy")
  assert (found.mode, found.seeds) == (mode, seeds)
  assert is_level_list(text)
  assert parse_level_list(found.name, mode="hard") == found
  ranges = [list(levels.seeds) for levels in found.single_levels()]
  assert ranges == [[seed] for seed in seeds]


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("seeds:", "must be seeds:LIST"),
    ("seeds:3,,4", "must be seeds:LIST"),
    ("seeds:a", "must be seeds:LIST"),
    ("seeds:9-3", "ends before it begins"),
    ("seeds:1-4,3", "names level 3 twice"),
    ("seeds:2147483647", "must be in"),
    ("seeds:0-4000000000", f"1 to {MOST_LEVELS}"),
    (f"seeds:0-{MOST_LEVELS}", f"1 to {MOST_LEVELS}"),
  ],
)
def test_wrong_lists_are_refused(text, expected):
  assert is_level_list(text)
  with pytest.raises(ValueError, match=expected):
    parse_level_list(text, mode="easy")


def test_a_level_distribution_is_no_list():
  assert not is_level_list("easy-200")
  with pytest.raises(ValueError, match="must be seeds:LIST"):
    parse_level_list("easy-200", mode="easy")


def test_every_environment_stays_in_its_own_level():
  """By Catch's rules: level s drops the ball in column s mod 8."""
  levels = parse_level_list("seeds:3,17,40-42", mode="easy")
  environment = make_one_per_level("catch", levels=levels, seed=5)
  assert environment.spec.num_environments == 5
  for step in range(20):
    shown = environment.observe()
    assert shown.level_seed.tolist() == [3, 17, 40, 41, 42]
    assert (shown.first == (step % 7 == 0)).all()
    if step % 7 == 0:
      balls = [
        int(np.flatnonzero((frame[0] == 255).all(-1))[0]) // 4 for frame in shown.observation
      ]
      assert balls == [3, 1, 0, 1, 2]
    environment.act(np.ones(5, np.int32))
  environment.close()


def test_levels_of_procgen_are_those_that_a_range_draws():
  """By another route: whichever of the 6 levels a range draws looks the same there."""
  levels = parse_level_list("seeds:20-25", mode="easy")
  ours = make_one_per_level("coinrun", levels=levels, seed=1)
  drawn = make_environment("coinrun", levels=parse_levels("easy-6@20"), num_environments=12, seed=9)
  frames = dict(zip(levels.seeds, ours.observe().observation, strict=True))
  shown = drawn.observe()
  assert len(set(shown.level_seed.tolist())) > 2
  for seed, frame in zip(shown.level_seed.tolist(), shown.observation, strict=True):
    np.testing.assert_array_equal(frame, frames[seed])
  ours.close()
  drawn.close()


def parts():
  return [
    CatchEnvironment(parse_levels(name), num_environments=count, seed=seed)
    for name, count, seed in (("easy-5", 2, 0), ("easy-all", 1, 1), ("hard-all", 3, 2))
  ]


def test_joined_environments_are_their_parts_side_by_side():
  joined, alone = JoinedEnvironment(parts()), parts()
  generator = np.random.default_rng(0)
  for step in range(30):
    shown = joined.observe()
    for name in shown._fields:
      expected = np.concatenate([getattr(part.observe(), name) for part in alone])
      np.testing.assert_array_equal(getattr(shown, name), expected)
    if step == 10:
      states = joined.save_state()
    action = generator.integers(0, 3, 6).astype(np.int32)
    joined.act(action)
    for part, own in zip(alone, (action[:2], action[2:3], action[3:]), strict=True):
      part.act(own)
  fresh = JoinedEnvironment(parts())
  fresh.restore_state(states)
  assert fresh.save_state() == states
  with pytest.raises(ValueError, match="do not fit"):
    fresh.restore_state(states[1:])
  with pytest.raises(ValueError, match="int32"):
    fresh.act(np.zeros(5, np.int32))


def test_what_cannot_be_joined_is_refused():
  with pytest.raises(ValueError, match="at least one"):
    JoinedEnvironment([])
  small = CatchEnvironment(parse_levels("easy-all"), num_environments=1, seed=0, pixels=2)
  with pytest.raises(ValueError, match="different games"):
    JoinedEnvironment([*parts(), small])
  small.close()
  small.close()
