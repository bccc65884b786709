"""Catch, against hand-worked games and the distribution of a random walk."""

import numpy as np
import pytest

from environments.catch import BALL_COLOUR, PADDLE_COLOUR, CatchEnvironment
from environments.levels import parse_levels

LEFT, STAY, RIGHT = range(3)


def open_catch(levels="easy-200", *, num_environments=1, seed=0, **board):
  return CatchEnvironment(
    parse_levels(levels), num_environments=num_environments, seed=seed, **board
  )


def position_of(colour, frames, *, pixels):
  """Returns (row, column) of `colour`, `[B]` each, read from the frames' pixels."""
  cells = frames[:, ::pixels, ::pixels]
  return [np.argmax((cells == colour).all(-1).any(axis), axis=1) for axis in (2, 1)]


def catching_action(observation, *, pixels=4):
  """Moves under the ball, from the pixels alone."""
  _, ball = position_of(BALL_COLOUR, observation, pixels=pixels)
  _, paddle = position_of(PADDLE_COLOUR, observation, pixels=pixels)
  return (1 + np.sign(ball - paddle)).astype(np.int32)


def returns_of(environment, policy, *, episodes):
  """Returns `[episodes, B]`; every reward but the last of an episode must be 0."""
  result = []
  for _ in range(episodes):
    for _ in range(environment.spec.time_limit - 1):
      environment.act(policy(environment.observe()))
      assert not environment.observe().reward.any()
      assert not environment.observe().first.any()
    environment.act(policy(environment.observe()))
    assert environment.observe().first.all()
    result.append(environment.observe().reward)
  return np.stack(result)


def random_walk(rows, columns):
  """Returns where a uniformly random paddle is after `rows - 1` steps, `[columns]`."""
  step = np.zeros((columns, columns))
  for column in range(columns):
    for move in (-1, 0, 1):
      step[column, min(max(column + move, 0), columns - 1)] += 1 / 3
  return np.linalg.matrix_power(step, rows - 1)[columns // 2]


def test_a_game_by_hand():
  # Level 6 of an 8 x 8 board: the ball is in column 6, the paddle starts in column 4 and must
  # move right twice. Seven steps bring the ball from row 0 to row 7.
  environment = open_catch("easy-1@6")
  paddle = 4
  for step, action in enumerate([RIGHT, LEFT, RIGHT, STAY, STAY, RIGHT]):
    environment.act(np.array([action], np.int32))
    paddle += action - 1
    time_step = environment.observe()
    assert position_of(BALL_COLOUR, time_step.observation, pixels=4) == [[step + 1], [6]]
    assert position_of(PADDLE_COLOUR, time_step.observation, pixels=4) == [[7], [paddle]]
    assert (time_step.reward[0], time_step.first[0]) == (0, False)
  environment.act(np.array([STAY], np.int32))
  time_step = environment.observe()
  assert (time_step.reward[0], time_step.first[0]) == (1, True)
  assert time_step.previous_level_complete[0]
  # The terminal frame is not shown: the ball is back in the top row, the paddle in the middle.
  assert position_of(BALL_COLOUR, time_step.observation, pixels=4) == [[0], [6]]
  assert position_of(PADDLE_COLOUR, time_step.observation, pixels=4) == [[7], [4]]
  for _ in range(7):
    environment.act(np.array([STAY], np.int32))
  time_step = environment.observe()
  assert (time_step.reward[0], time_step.first[0]) == (-1, True)
  assert not time_step.previous_level_complete[0]


def test_walls_stop_the_paddle():
  environment = open_catch("easy-1@0", rows=9, columns=4)  # starts in column 2
  for expected in (1, 0, 0, 0):
    environment.act(np.array([LEFT], np.int32))
    frames = environment.observe().observation
    assert position_of(PADDLE_COLOUR, frames, pixels=4)[1] == [expected]
  for expected in (1, 2, 3):
    environment.act(np.array([RIGHT], np.int32))
    frames = environment.observe().observation
    assert position_of(PADDLE_COLOUR, frames, pixels=4)[1] == [expected]


@pytest.mark.parametrize(
  ("pixels", "rows", "columns"), [(4, 8, 8), (8, 8, 8), (1, 3, 5), (3, 10, 7)]
)
def test_frames_are_two_squares(pixels, rows, columns):
  environment = open_catch(rows=rows, columns=columns, pixels=pixels, num_environments=6)
  environment.act(np.full(6, STAY, np.int32))
  time_step = environment.observe()
  assert environment.spec.observation_shape == (rows * pixels, columns * pixels, 3)
  expected = np.zeros((6, rows * pixels, columns * pixels, 3), np.uint8)
  for frame, seed in zip(expected, time_step.level_seed, strict=True):
    column, middle = seed % columns * pixels, columns // 2 * pixels
    frame[-pixels:, middle : middle + pixels] = PADDLE_COLOUR
    frame[pixels : 2 * pixels, column : column + pixels] = BALL_COLOUR
  np.testing.assert_array_equal(time_step.observation, expected)


@pytest.mark.parametrize("levels", ["easy-200", "hard-10", "easy-all", "hard-3@1000-held-out"])
def test_the_best_mean_return_is_one(levels):
  environment = open_catch(levels, num_environments=32)
  returns = returns_of(environment, lambda t: catching_action(t.observation), episodes=10)
  assert (returns == 1).all()


def test_the_worst_case_can_be_caught():
  # Three steps reach column 0 from column 3, the farthest there is.
  environment = open_catch("easy-1@0", rows=4, columns=6)
  assert returns_of(environment, lambda t: np.zeros(1, np.int32), episodes=1) == 1


def test_random_return_by_hand():
  # Two rows, three columns: one step from the middle, each column with chance 1/3.
  np.testing.assert_allclose(random_walk(2, 3), [1 / 3, 1 / 3, 1 / 3])
  # Three rows, two columns, start in column 1. A wall keeps 2/3 in place each step:
  # column 1 after one step 2/3, after two steps 2/3 * 2/3 + 1/3 * 1/3 = 5/9.
  np.testing.assert_allclose(random_walk(3, 2), [4 / 9, 5 / 9])


@pytest.mark.parametrize(("levels", "columns"), [("easy-1@0", 8), ("easy-1@4", 8), ("easy-1@4", 5)])
def test_random_return_on_one_level(levels, columns):
  environment = open_catch(levels, num_environments=4096, columns=columns)
  rng = np.random.default_rng(0)
  returns = returns_of(
    environment, lambda t: rng.integers(3, size=4096, dtype=np.int32), episodes=4
  )
  chance = random_walk(8, columns)[parse_levels(levels).start_level % columns]
  standard_error = 2 * np.sqrt(chance * (1 - chance) / returns.size)
  assert abs(returns.mean() - (2 * chance - 1)) < 4 * standard_error


def test_random_return_over_all_levels():
  # Where the ball is uniform over 8 columns, any policy that does not look catches one in
  # eight: 2 / 8 - 1.
  environment = open_catch("easy-200", num_environments=4096)
  rng = np.random.default_rng(0)
  returns = returns_of(
    environment, lambda t: rng.integers(3, size=4096, dtype=np.int32), episodes=4
  )
  standard_error = 2 * np.sqrt(1 / 8 * 7 / 8 / returns.size)
  assert abs(returns.mean() + 0.75) < 4 * standard_error


@pytest.mark.parametrize("levels", ["hard-10", "easy-200", "easy-7@1000", "easy-all"])
def test_levels_are_drawn_uniformly_from_their_range(levels):
  environment = open_catch(levels, num_environments=2000)
  drawn = [environment.observe().level_seed]
  for _ in range(4):
    for _ in range(7):
      environment.act(np.ones(2000, np.int32))
    drawn.append(environment.observe().level_seed)
  seeds = parse_levels(levels).seeds
  offsets = np.concatenate(drawn).astype(np.int64) - seeds.start
  assert offsets.min() >= 0
  assert offsets.max() < len(seeds)
  cells = min(len(seeds), 200)
  counts = np.bincount(offsets * cells // len(seeds), minlength=cells)
  # The statistic is chi-squared: mean cells - 1, variance 2 (cells - 1).
  statistic = ((counts - offsets.size / cells) ** 2).sum() / (offsets.size / cells)
  assert abs(statistic - (cells - 1)) < 4 * np.sqrt(2 * (cells - 1))


def test_restored_environments_may_be_at_different_steps():
  # A state is one environment's own: states of two moments continue side by side.
  environment = open_catch(num_environments=2, seed=5)
  early = environment.save_state()[0]
  for _ in range(3):
    environment.act(np.array([LEFT, RIGHT], np.int32))
  late = environment.save_state()[1]
  mixed = open_catch(num_environments=2, seed=6)
  mixed.restore_state([early, late])
  firsts = []
  for _ in range(14):
    mixed.act(np.ones(2, np.int32))
    firsts.append(mixed.observe().first)
  assert np.flatnonzero(np.stack(firsts)[:, 0]).tolist() == [6, 13]
  assert np.flatnonzero(np.stack(firsts)[:, 1]).tolist() == [3, 10]


def test_another_board_is_refused():
  with pytest.raises(ValueError, match="board is '8x8x4', needed '8x8x8'"):
    open_catch(pixels=8).restore_state(open_catch().save_state())


@pytest.mark.parametrize(
  ("board", "said"),
  [
    ({"rows": 3, "columns": 6}, "got 3 rows, 6 columns"),
    ({"rows": 1}, "rows must be"),
    ({"columns": 0}, "columns must be"),
    ({"pixels": 2.5}, "pixels must be an integer, got 2.5"),
  ],
)
def test_wrong_boards_are_refused(board, said):
  with pytest.raises(ValueError, match=said):
    open_catch(**board)
