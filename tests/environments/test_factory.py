"""What every family of environments promises, and that Catch loads no library."""

import subprocess
import sys

import numpy as np
import pytest

from environments.catch import CatchEnvironment
from environments.factory import make_environment
from environments.games import GAMES
from environments.levels import parse_levels
from environments.procgen import ProcgenEnvironment

B = 5


@pytest.fixture(params=["catch", "fruitbot"])
def game(request):
  return request.param


def open_game(game, *, levels="easy-200", seed=3, num_environments=B):
  return make_environment(
    game, levels=parse_levels(levels), num_environments=num_environments, seed=seed
  )


def play(environment, steps, *, seed=0):
  """Acts at random; returns the time steps, stacked in time."""
  rng = np.random.default_rng(seed)
  spec, time_steps = environment.spec, []
  for _ in range(steps):
    time_steps.append(environment.observe())
    environment.act(rng.integers(spec.num_actions, size=spec.num_environments, dtype=np.int32))
  return type(time_steps[0])(*map(np.stack, zip(*time_steps, strict=True)))


def assert_equal(a, b):
  for name in a._fields:
    np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_family_of_every_game(monkeypatch):
  monkeypatch.setattr(ProcgenEnvironment, "__init__", lambda self, *args, **kwargs: None)
  for name, row in GAMES.items():
    family = {"procgen": ProcgenEnvironment, "catch": CatchEnvironment}[row.family]
    assert type(open_game(name)) is family


def test_unknown_game():
  with pytest.raises(ValueError, match="nearest is 'fruitbot'"):
    open_game("fruitbots")


def test_spec_and_types(game):
  environment = open_game(game)
  spec, time_step = environment.spec, environment.observe()
  assert (spec.name, spec.num_environments) == (game, B)
  assert spec.time_limit == GAMES[game].time_limit
  found = {name: (array.dtype.name, array.shape) for name, array in time_step._asdict().items()}
  assert found == {
    "observation": ("uint8", (B, *spec.observation_shape)),
    "reward": ("float32", (B,)),
    "first": ("bool", (B,)),
    "level_seed": ("int32", (B,)),
    "previous_level_complete": ("bool", (B,)),
  }
  environment.close()


def test_opens_with_a_first_step(game):
  environment = open_game(game)
  time_step = environment.observe()
  assert time_step.first.all()
  assert not time_step.reward.any()
  assert not time_step.previous_level_complete.any()
  environment.close()


def test_arrays_belong_to_the_caller(game):
  environment = open_game(game)
  before = environment.observe()
  kept = type(before)(*(array.copy() for array in before))
  assert_equal(environment.observe(), kept)  # observing again changes nothing
  for array in environment.observe():
    array[...] = 1  # writing into what was returned changes nothing either
  assert_equal(environment.observe(), kept)
  environment.act(np.zeros(B, np.int32))
  after = environment.observe()
  assert_equal(before, kept)  # and acting does not write into it
  assert not np.array_equal(after.observation, before.observation)
  environment.close()


def test_same_seed_same_steps_other_seed_other_levels(game):
  a, b, c = (play(open_game(game, seed=seed), 60) for seed in (3, 3, 4))
  assert_equal(a, b)
  assert not np.array_equal(a.level_seed, c.level_seed)
  assert not np.array_equal(a.observation, c.observation)
  assert len({tuple(column) for column in a.level_seed.T}) == B  # environments differ too


@pytest.mark.parametrize(
  ("action", "said"),
  [
    (np.zeros(B - 1, np.int32), r"int32 \[5\], got int32 \[4\]"),
    (np.zeros((B, 1), np.int32), r"got int32 \[5, 1\]"),
    (np.zeros(B, np.int64), "got int64"),
    (np.zeros(B, np.float32), "got float32"),
    ([0] * B, "got int64"),
    (np.array([0, 0, 0, 0, -1], np.int32), "got -1 to 0"),
    (np.array([0, 0, 0, 0, 15], np.int32), r"\[0, (3|15)\), got 0 to 15"),
  ],
)
def test_wrong_actions_are_refused_and_change_nothing(game, action, said):
  environment = open_game(game)
  before = environment.observe()
  with pytest.raises(ValueError, match=said):
    environment.act(action)
  assert_equal(environment.observe(), before)
  environment.close()


@pytest.mark.parametrize(
  ("wrong", "said"),
  [
    ({"seed": -1}, "seed must be an integer in"),
    ({"seed": 2**31}, "seed must be an integer in"),
    ({"seed": 1.5}, "seed must be an integer, got 1.5"),
    ({"num_environments": 0}, "num_environments must be an integer in"),
    ({"num_environments": True}, "num_environments must be an integer in"),
  ],
)
def test_wrong_numbers_are_refused(game, wrong, said):
  with pytest.raises(ValueError, match=said):
    open_game(game, **wrong)


def test_use_after_close_is_an_error(game):
  environment = open_game(game)
  states = environment.save_state()
  environment.close()
  environment.close()
  for call in (
    environment.observe,
    environment.save_state,
    lambda: environment.act(np.zeros(B, np.int32)),
    lambda: environment.restore_state(states),
  ):
    with pytest.raises(RuntimeError, match=f"the {game} environments are closed"):
      call()


def test_restore_continues_bit_for_bit(game):
  environment, other = open_game(game), open_game(game, seed=99)
  for steps in (0, 1, 6, 31):  # before any act, in an episode, at Catch's last step, later
    if steps:
      play(environment, steps, seed=steps)
    states = environment.save_state()
    other.restore_state(states)
    assert other.save_state() == states
    expected = play(environment, 70)
    assert_equal(play(other, 70), expected)
    environment.restore_state(states)  # back in time, in the same object
    assert_equal(play(environment, 70), expected)
    assert expected.first[1:].any()
  environment.close()
  other.close()


@pytest.mark.parametrize(
  ("changed", "said"),
  [
    ({"num_environments": B + 1}, "5 states do not fit 6 environments"),
    ({"levels": "hard-200"}, "mode is 'easy', needed 'hard'"),
    ({"levels": "easy-100"}, "num_levels is 200, needed 100"),
    ({"levels": "easy-200@1"}, "start_level is 0, needed 1"),
    ({"levels": "easy-all"}, "num_levels is 200, needed 0"),
  ],
)
def test_a_state_that_does_not_fit_is_refused(game, changed, said):
  states = open_game(game).save_state()
  other = open_game(game, **changed)
  before = other.observe()
  with pytest.raises(ValueError, match=said):
    other.restore_state(states)
  assert_equal(other.observe(), before)
  other.close()


def test_a_state_of_another_game_is_refused(game):
  for another in ("coinrun", "catch" if game != "catch" else "maze"):
    with pytest.raises(ValueError, match=f"game is '{another}', needed '{game}'"):
      open_game(game).restore_state(open_game(another).save_state())


def test_one_damaged_state_is_refused_before_any_is_used(game):
  environment = open_game(game)
  play(environment, 20)
  states = environment.save_state()
  play(environment, 20)
  now = environment.observe()
  for position in (0, 20, 60, len(states[-1]) // 2, -1):
    damaged = bytearray(states[-1])
    damaged[position] ^= 0x10
    with pytest.raises(ValueError, match="environment 4 is"):
      environment.restore_state([*states[:-1], bytes(damaged)])
  with pytest.raises(ValueError, match="environment 2 is damaged"):
    environment.restore_state([*states[:2], states[2][:-100], *states[3:]])
  assert_equal(environment.observe(), now)
  environment.close()


def test_catch_loads_no_procgen():
  code = (
    "import sys\n"
    "from environments.factory import make_environment\n"
    "from environments.levels import parse_levels\n"
    "levels = parse_levels('easy-200')\n"
    "make_environment('catch', levels=levels, num_environments=2, seed=0).observe()\n"
    "assert not {'gym', 'gym3', 'procgen'} & set(sys.modules), sys.modules\n"
    "make_environment('maze', levels=levels, num_environments=2, seed=0).close()\n"
    "assert {'gym', 'gym3', 'procgen'} <= set(sys.modules)"
  )
  command = [sys.executable, "-W", "error", "-c", code]
  output = subprocess.run(command, check=True, capture_output=True, text=True)
  # gym's notice about its own maintenance must not appear either.
  assert (output.stdout, output.stderr) == ("", "")
