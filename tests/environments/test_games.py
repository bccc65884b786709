"""The table of games, against the published ranges."""

import subprocess
import sys

import pytest

from environments.games import (
  BOUNDS,
  GAMES,
  MODES,
  Bounds,
  find_game,
  normalised_score,
  score_bounds,
)

# Cobbe et al. 2020, appendix C, and openai/train-procgen, as min-max pairs in alphabetical order.
HARD = (
  "bigfish 0 40 bossfight .5 13 caveflyer 2 13.4 chaser .5 14.2 climber 1 12.6 coinrun 5 10 "
  "dodgeball 1.5 19 fruitbot -.5 27.2 heist 2 10 jumper 1 10 leaper 1.5 10 maze 4 10 "
  "miner 1.5 20 ninja 2 10 plunder 3 30 starpilot 1.5 35"
)
EASY = (
  "bigfish 1 40 bossfight .5 13 caveflyer 3.5 12 chaser .5 13 climber 2 12.6 coinrun 5 10 "
  "dodgeball 1.5 19 fruitbot -1.5 32.4 heist 3.5 10 jumper 1 10 leaper 1.5 10 maze 5 10 "
  "miner 1.5 13 ninja 3.5 10 plunder 4.5 30 starpilot 2.5 64"
)


def read_table(text):
  words = iter(text.split())
  return {name: (float(next(words)), float(next(words))) for name in words}


def test_sixteen_games_and_catch():
  assert [name for name, row in GAMES.items() if row.family == "procgen"] == list(read_table(HARD))
  assert len(GAMES) == 17
  assert GAMES["catch"].family == "catch"
  assert all(name == row.name for name, row in GAMES.items())


@pytest.mark.parametrize(("mode", "table"), [("hard", HARD), ("easy", EASY)])
def test_train_procgen_bounds(mode, table):
  for name, (low, high) in read_table(table).items():
    assert score_bounds(name, mode) == score_bounds(name, mode, "train-procgen") == (low, high)


def test_paper_bounds_differ_in_two_easy_games():
  differing = {
    (game, mode): score_bounds(game, mode, "paper")
    for game in GAMES
    for mode in MODES
    if score_bounds(game, mode, "paper") != score_bounds(game, mode, "train-procgen")
  }
  assert differing == {("jumper", "easy"): (3, 10), ("leaper", "easy"): (3, 10)}


def test_catch_is_between_minus_one_and_one():
  assert {score_bounds("catch", mode, bounds) for mode in MODES for bounds in BOUNDS} == {(-1, 1)}


def test_normalised_score_is_linear_and_not_clipped():
  # easy coinrun is 5 to 10: 4 is (4 - 5) / 5, 12.5 is 7.5 / 5.
  bounds = Bounds(5, 10)
  assert [normalised_score(s, bounds) for s in (4, 5, 7.5, 10, 12.5)] == [-0.2, 0, 0.5, 1, 1.5]


@pytest.mark.parametrize(
  ("call", "nearest", "allowed"),
  [
    (lambda: find_game("coin_run"), "'coinrun'", GAMES),
    (lambda: score_bounds("Maze", "easy"), "'maze'", GAMES),
    (lambda: score_bounds("maze", "hardest"), "'hard'", MODES),
    (lambda: score_bounds("maze", "easy", "papers"), "'paper'", BOUNDS),
  ],
)
def test_unknown_names_are_answered_with_the_nearest(call, nearest, allowed):
  with pytest.raises(ValueError, match="unknown") as error:
    call()
  message = str(error.value)
  assert f"nearest is {nearest}" in message
  assert all(name in message for name in allowed)
  assert "\n" not in message


def test_config_modules_load_no_library():
  code = (
    "import sys, environments.config, environments.games, environments.levels\n"
    "print(sorted({'gym', 'gym3', 'procgen', 'jax', 'numpy'} & set(sys.modules)))"
  )
  output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
  assert output.stdout == "[]\n"
