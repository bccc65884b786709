"""Level distributions: the named ones, custom ones, and what is refused."""

import re

from hypothesis import given, strategies
import pytest

from environments.levels import (
  NAMED,
  SEED_END,
  LevelDistribution,
  full_distribution,
  held_out,
  overlap,
  parse_levels,
)

INT32_MAX = 2147483647


@pytest.mark.parametrize(
  ("text", "mode", "num_levels", "start_level"),
  [
    ("hard-10", "hard", 10, 0),
    ("hard-100", "hard", 100, 0),
    ("hard-500", "hard", 500, 0),
    ("hard-all", "hard", 0, 0),
    ("easy-200", "easy", 200, 0),
    ("easy-all", "easy", 0, 0),
    ("easy-50@1000", "easy", 50, 1000),
    ("hard-1@7", "hard", 1, 7),
    # What is left of 2**31 - 1 seeds past the first 200, and past 1000 + 50.
    ("easy-200-held-out", "easy", 2147483447, 200),
    ("easy-50@1000-held-out", "easy", 2147482597, 1050),
  ],
)
def test_parse(text, mode, num_levels, start_level):
  assert parse_levels(text) == LevelDistribution(text, mode, num_levels, start_level)


def test_all_named_ones_parse():
  assert len(NAMED) == 6
  assert [parse_levels(name).name for name in NAMED] == list(NAMED)


def test_one_distribution_has_one_name():
  assert parse_levels("easy-200@0") == parse_levels("easy-0200") == parse_levels("easy-200")


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("esay-200", "nearest is 'easy-200'"),
    ("hard_500", "nearest is 'hard-500'"),
    ("easy", "MODE-N@START"),
    ("easy-200@-5", "MODE-N@START"),
    ("easy-200 ", "MODE-N@START"),
    ("extreme-10", "MODE is easy or hard"),
    (200, "nearest is"),
    ("easy-0", "every level is easy-all"),
    ("easy-all@5", "Procgen ignores it"),
    ("easy-all-held-out", "no held-out set"),
    ("easy-2147483647", "num_levels must be an integer in"),
    ("easy-1@2147483647", "start_level must be an integer in"),
    ("easy-10@2147483640", "at most 2147483647, got 2147483640 + 10"),
    ("easy-1@2147483646-held-out", "leaves no level past its own"),
  ],
)
def test_refused_with_one_clear_line(text, said):
  with pytest.raises(ValueError, match=re.escape(said)) as error:
    parse_levels(text)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (("x", "easy", 0, 5), "Procgen ignores it"),
    (("x", "medium", 10, 0), "unknown mode 'medium'"),
    (("x", "easy", -1, 0), "num_levels"),
    (("x", "easy", 1.0, 0), "num_levels"),
    (("x", "easy", True, 0), "num_levels"),
    (("x", "easy", 10, -1), "start_level"),
    (("x", "easy", INT32_MAX - 1, 2), "start_level + num_levels"),
    (("", "easy", 10, 0), "name"),
  ],
)
def test_constructing_directly_checks_the_same(arguments, said):
  with pytest.raises(ValueError, match="LevelDistribution") as error:
    LevelDistribution(*arguments)
  assert said in str(error.value)


def test_largest_ranges_are_allowed():
  assert SEED_END == INT32_MAX
  assert parse_levels("easy-1@2147483646").seeds == range(INT32_MAX - 1, INT32_MAX)
  assert parse_levels("easy-2147483646@1").seeds.stop == INT32_MAX


@given(
  mode=strategies.sampled_from(["easy", "hard"]),
  num_levels=strategies.integers(1, 2**20),
  start=strategies.integers(0, 2**30),
)
def test_held_out_is_disjoint_and_parses_back(mode, num_levels, start):
  levels = parse_levels(f"{mode}-{num_levels}@{start}")
  rest = held_out(levels)
  assert rest.mode == mode
  assert rest.seeds.start == start + num_levels
  assert rest.seeds.stop == INT32_MAX
  assert overlap(levels, rest) == 0
  assert parse_levels(rest.name) == rest


def test_held_out_of_a_held_out_set_is_refused():
  with pytest.raises(ValueError, match="no held-out set"):
    held_out(parse_levels("easy-200-held-out"))


def test_full_distribution():
  assert full_distribution(parse_levels("hard-500")) == parse_levels("hard-all")
  assert full_distribution(parse_levels("easy-50@1000-held-out")) == parse_levels("easy-all")


@given(
  a=strategies.tuples(strategies.integers(1, 30), strategies.integers(0, 40)),
  b=strategies.tuples(strategies.integers(1, 30), strategies.integers(0, 40)),
)
def test_overlap_counts_shared_seeds(a, b):
  first = LevelDistribution("a", "easy", *a)
  second = LevelDistribution("b", "easy", *b)
  shared = len(set(range(a[1], sum(a))) & set(range(b[1], sum(b))))
  assert overlap(first, second) == overlap(second, first) == shared


def test_overlap_with_all_levels_and_other_modes():
  train = parse_levels("easy-200")
  assert overlap(train, parse_levels("easy-all")) == 200
  assert overlap(parse_levels("easy-all"), parse_levels("easy-all")) == INT32_MAX
  assert overlap(train, parse_levels("hard-500")) == 0
