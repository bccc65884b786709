"""Procgen's adapter, against the bare library, the binary's own state and recorded frames.

`python tests/environments/test_procgen.py` records the frames again.
"""

from pathlib import Path
import struct
import subprocess
import sys

import numpy as np
import pytest

from environments.games import GAMES
from environments.interface import TimeStep
from environments.levels import NAMED, overlap, parse_levels
from environments.procgen import ProcgenEnvironment

GOLDEN = Path(__file__).with_name("golden_procgen.npz")
GOLDEN_GAMES = ("coinrun", "leaper", "starpilot")
PROCGEN_GAMES = [name for name, row in GAMES.items() if row.family == "procgen"]
STAND_STILL = 4


def open_game(game, levels="easy-200", *, num_environments=4, seed=7, num_threads=2):
  return ProcgenEnvironment(
    game,
    parse_levels(levels),
    num_environments=num_environments,
    seed=seed,
    num_threads=num_threads,
  )


def sticky_actions(steps, num_environments, *, seed=0, hold=8):
  """Random directions, each held for some steps, `[steps, B]` int32: it gets about."""
  rng = np.random.default_rng(seed)
  chosen = rng.integers(9, size=(steps // hold + 1, num_environments), dtype=np.int32)
  return np.repeat(chosen, hold, axis=0)[:steps]


def play(environment, actions):
  """Returns the time steps before each action, stacked in time."""
  time_steps = []
  for action in actions:
    time_steps.append(environment.observe())
    environment.act(action)
  return TimeStep(*map(np.stack, zip(*time_steps, strict=True)))


def play_bare(game, actions, **options):
  """The same through gym3's public interface alone, without our adapter."""
  open_game(game).close()  # loads the library without its notice
  from procgen import ProcgenGym3Env

  bare = ProcgenGym3Env(num=actions.shape[1], env_name=game, **options)
  time_steps = []
  for action in actions:
    reward, observation, first = bare.observe()
    info = bare.get_info()
    seed = np.array([entry["level_seed"] for entry in info])
    complete = np.array([entry["prev_level_complete"] for entry in info]).astype(bool)
    time_steps.append(TimeStep(observation["rgb"], reward, first, seed, complete))
    bare.act(action)
  bare.close()
  return TimeStep(*map(np.stack, zip(*time_steps, strict=True)))


def assert_equal(a, b):
  for name in TimeStep._fields:
    np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def seeds_of_episodes(environment, steps):
  """Returns the level seed of every episode that opened, and how many ended complete."""
  played = play(environment, sticky_actions(steps, environment.spec.num_environments))
  environment.close()
  return played.level_seed[played.first], played.previous_level_complete.sum()


def test_the_games_are_procgens():
  open_game("coinrun").close()  # loads the library without its notice
  from procgen.env import ENV_NAMES

  assert sorted(PROCGEN_GAMES) == sorted(ENV_NAMES)


def test_catch_is_not_procgen():
  with pytest.raises(ValueError, match="'catch' is not a Procgen game"):
    open_game("catch")


@pytest.mark.parametrize(
  ("game", "levels", "options"),
  [
    (
      "coinrun",
      "easy-200",
      {"distribution_mode": "easy", "num_levels": 200, "start_level": 0, "num_threads": 0},
    ),
    ("leaper", "hard-all", {"distribution_mode": "hard", "num_levels": 0, "start_level": 0}),
    ("jumper", "easy-3@50", {"distribution_mode": "easy", "num_levels": 3, "start_level": 50}),
  ],
)
def test_adapter_equals_the_bare_library(game, levels, options):
  actions = sticky_actions(150, 8)
  ours = play(open_game(game, levels, num_environments=8), actions)
  assert_equal(ours, play_bare(game, actions, rand_seed=7, **options))
  assert ours.level_seed.dtype == np.int32
  assert ours.previous_level_complete.dtype == bool


def golden_rollout(game, play_game):
  """Returns what is recorded of a game: 3 frames each, every reward, first and seed."""
  played = play_game(game, sticky_actions(241, 4))
  return {
    "observation": played.observation[[0, 40, 240], :2],
    **{name: getattr(played, name) for name in TimeStep._fields[1:]},
  }


@pytest.mark.parametrize("game", GOLDEN_GAMES)
def test_golden_rollout(game):
  # procgen and procgen-mirror differ in 0.012 % of coinrun's pixels and in nothing else.
  found = golden_rollout(game, lambda game, actions: play(open_game(game), actions))
  with np.load(GOLDEN) as golden:
    for name in TimeStep._fields[1:]:
      np.testing.assert_array_equal(found[name], golden[f"{game}_{name}"], err_msg=name)
    equal = (found["observation"] == golden[f"{game}_observation"]).all(-1)
  assert equal.mean() > 0.999
  assert found["first"][1:].any()


@pytest.mark.parametrize("game", PROCGEN_GAMES)
@pytest.mark.parametrize("mode", ["easy", "hard"])
def test_time_limit_is_the_binarys(game, mode):
  # The binary keeps the time limit of the present episode in its state, as the int32 before
  # the level seed.
  environment = open_game(game, f"{mode}-all", num_environments=2, num_threads=0)
  assert environment.spec.time_limit == GAMES[game].time_limit
  seeds = environment.observe().level_seed
  for state, seed in zip(environment.save_state(), seeds, strict=True):
    pattern = struct.pack("<ii", GAMES[game].time_limit, seed)
    assert state.count(pattern) == 1
  environment.close()


@pytest.mark.parametrize("game", ["leaper", "maze"])
def test_a_time_out_looks_like_a_termination(game):
  environment = open_game(game, num_environments=3)
  actions = np.full((1002, 3), STAND_STILL, np.int32)
  played = play(environment, actions)
  environment.close()
  assert [np.flatnonzero(first).tolist() for first in played.first.T] == [[0, 500, 1000]] * 3
  assert not played.reward.any()
  assert not played.previous_level_complete.any()


def test_last_reward_comes_with_the_next_levels_first_frame():
  # Leaper pays 10 for reaching the far side and nothing else; that ends the episode.
  environment = open_game("leaper", num_environments=16)
  played = play(environment, sticky_actions(400, 16))
  solved = played.reward == 10
  assert solved.sum() > 10
  assert (played.first & played.previous_level_complete)[solved].all()
  assert not played.reward[~solved].any()
  # The episode's flag is down wherever no episode ended.
  np.testing.assert_array_equal(played.previous_level_complete, solved)
  lost = played.first[1:] & ~solved[1:]
  assert lost.any()
  # The frame is the next level's: standing still, the level seed stays what it shows.
  times, where = np.nonzero(played.first[1:-1])
  np.testing.assert_array_equal(
    played.level_seed[times + 1, where], played.level_seed[times + 2, where]
  )
  # And it is the frame that the same level shows whenever it opens.
  frames = {}
  for t, b in zip(*np.nonzero(played.first), strict=True):
    frames.setdefault(played.level_seed[t, b], []).append(played.observation[t, b])
  repeated = [shown for shown in frames.values() if len(shown) > 1]
  assert len(repeated) > 10
  for shown in repeated:
    assert all(np.array_equal(frame, shown[0]) for frame in shown)
  environment.close()


@pytest.mark.parametrize("levels", [*NAMED, "hard-7@1000", "easy-200-held-out", "hard-10-held-out"])
def test_level_seeds_lie_in_their_range(levels):
  seeds, _ = seeds_of_episodes(open_game("starpilot", levels, num_environments=32), 320)
  assert len(seeds) > 100
  assert len(np.unique(seeds)) > 1
  allowed = parse_levels(levels).seeds
  assert allowed.start <= seeds.min()
  assert seeds.max() < allowed.stop
  if len(allowed) <= 10:
    assert set(seeds) == set(allowed)  # every one of a few levels comes up
  if len(allowed) > 2**30:
    assert seeds.max() - seeds.min() > 0.9 * len(allowed)  # spread over the whole range


def test_held_out_levels_are_disjoint_and_look_different():
  train, held = parse_levels("easy-200"), parse_levels("easy-200-held-out")
  assert overlap(train, held) == 0
  trained, _ = seeds_of_episodes(open_game("starpilot", "easy-200", num_environments=32), 320)
  tested, _ = seeds_of_episodes(open_game("starpilot", "easy-200-held-out"), 320)
  assert not set(trained) & set(tested)
  assert not np.array_equal(
    open_game("climber", "easy-200").observe().observation,
    open_game("climber", "easy-200-held-out").observe().observation,
  )


def test_levels_of_a_small_set_are_drawn_uniformly():
  seeds, _ = seeds_of_episodes(open_game("dodgeball", "hard-10", num_environments=64), 400)
  counts = np.bincount(seeds, minlength=10)
  expected = len(seeds) / 10
  assert expected > 50
  # Chi-squared with 9 degrees of freedom exceeds 27.9 once in a thousand.
  assert ((counts - expected) ** 2 / expected).sum() < 27.9


def test_modes_make_different_levels_of_one_seed():
  easy, hard = (open_game("maze", f"{mode}-1@5").observe() for mode in ("easy", "hard"))
  assert (easy.level_seed == 5).all()
  assert (hard.level_seed == 5).all()
  assert not np.array_equal(easy.observation, hard.observation)


@pytest.mark.parametrize("num_threads", [0, 1, 5])
def test_threads_do_not_change_results(num_threads):
  actions = sticky_actions(80, 8)
  expected = play(open_game("jumper", num_environments=8), actions)
  environment = open_game("jumper", num_environments=8, num_threads=num_threads)
  assert_equal(play(environment, actions), expected)


def test_acting_without_observing_skips_no_step():
  actions = sticky_actions(101, 8)
  expected = play(open_game("jumper", num_environments=8), actions)
  environment = open_game("jumper", num_environments=8, num_threads=4)
  for action in actions[:-1]:
    environment.act(action)
  for found, array in zip(environment.observe(), expected, strict=True):
    np.testing.assert_array_equal(found, array[-1])
  environment.close()


def test_closing_while_threads_still_step():
  for _ in range(20):
    environment = open_game("coinrun", num_environments=16, num_threads=4)
    environment.act(np.zeros(16, np.int32))
    environment.close()


@pytest.mark.parametrize("game", PROCGEN_GAMES)
def test_every_game_restores_bit_for_bit(game):
  actions = sticky_actions(60, 4)
  environment = open_game(game, "hard-100", num_threads=2)
  play(environment, actions[:35])
  states = environment.save_state()
  other = open_game(game, "hard-100", seed=1234, num_threads=0)
  other.restore_state(states)
  played = play(environment, actions)
  assert_equal(play(other, actions), played)
  assert not (played.previous_level_complete & ~played.first).any()
  assert other.save_state() == environment.save_state()
  environment.close()
  other.close()


CONTINUE = """
import sys
import numpy as np
from environments.levels import parse_levels
from environments.procgen import ProcgenEnvironment

source, target = sys.argv[1:]
data = np.load(source)
for game in ("leaper", "jumper"):
  for num_threads in (0, 3):
    environment = ProcgenEnvironment(
      game, parse_levels("easy-200"), num_environments=16, seed=55, num_threads=num_threads
    )
    environment.restore_state([data[f"{game}_{index}"].tobytes() for index in range(16)])
    with open(f"{target}_{game}_{num_threads}", "wb") as file:
      for action in data["actions"]:
        for array in environment.observe():
          file.write(np.ascontiguousarray(array).tobytes())
        environment.act(action)
"""


def test_restores_in_another_process_with_other_threads(tmp_path):
  actions = sticky_actions(60, 16, seed=3)
  saved, expected = {"actions": actions}, {}
  for game in ("leaper", "jumper"):
    environment = open_game(game, num_environments=16, num_threads=2)
    # Saved where an episode has just been solved: its reward and flag must come back too.
    for action in sticky_actions(400, 16, seed=1):
      environment.act(action)
      if environment.observe().previous_level_complete.any():
        break
    now = environment.observe()
    assert (now.reward > 0).any()
    assert not now.first.all()
    for index, state in enumerate(environment.save_state()):
      saved[f"{game}_{index}"] = np.frombuffer(state, np.uint8)
    expected[game] = b""
    for action in actions:
      expected[game] += b"".join(array.tobytes() for array in environment.observe())
      environment.act(action)
    environment.close()
  np.savez(tmp_path / "states.npz", **saved)
  command = [sys.executable, "-c", CONTINUE, tmp_path / "states.npz", tmp_path / "continued"]
  subprocess.run(command, check=True)
  for game, content in expected.items():
    for num_threads in (0, 3):
      assert (tmp_path / f"continued_{game}_{num_threads}").read_bytes() == content


def test_wrong_thread_counts_are_refused():
  for wrong in (-1, 1.5, None):
    with pytest.raises(ValueError, match="num_threads must be an integer"):
      open_game("coinrun", num_threads=wrong)


def record_golden():
  """Writes the recorded rollouts, through the bare library."""
  easy = {"distribution_mode": "easy", "num_levels": 200, "start_level": 0, "rand_seed": 7}
  arrays = {}
  for game in GOLDEN_GAMES:
    rollout = golden_rollout(game, lambda game, actions: play_bare(game, actions, **easy))
    arrays.update({f"{game}_{name}": array for name, array in rollout.items()})
  np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
  record_golden()
