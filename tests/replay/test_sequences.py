"""What may be asked for, and how many draws the counts earn."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from replay.interface import Sequences

GOOD = {
  "length": 9,
  "starts": 3,
  "batch_size": 4,
  "capacity": 100,
  "min_size": 50,
  "samples_per_insert": 2.5,
}


def test_defaults_are_uniform():
  request = Sequences(**GOOD)
  assert request.priority_exponent == request.importance_exponent == 0
  assert request.samples_per_draw == 12


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("length", 0),
    ("length", 9.0),
    ("starts", 0),
    ("starts", 10),
    ("starts", True),
    ("batch_size", 0),
    ("capacity", 49),
    ("capacity", -1),
    ("min_size", 8),
    ("min_size", 101),
    ("samples_per_insert", 0),
    ("samples_per_insert", -1.0),
    ("samples_per_insert", float("nan")),
    ("samples_per_insert", float("inf")),
    ("priority_exponent", 1.1),
    ("priority_exponent", float("nan")),
    ("importance_exponent", -0.1),
    ("importance_exponent", 0.5),  # without priorities
    ("memory_budget", 0),
    ("block_frames", 0),
  ],
)
def test_bad_values_are_named(field, value):
  named = "min_size" if field == "capacity" and value > 0 else field
  with pytest.raises(ValueError, match=f"Sequences.{named} must be"):
    Sequences(**GOOD | {field: value})


def test_fields_have_names_only():
  with pytest.raises(TypeError):
    Sequences(9, 3, 4, 100, 50, 2.5)


def test_draws_earned_by_hand():
  # Samples per draw: 12. After 50 steps, 2.5 samples are earned per step: a draw every 4.8 steps.
  request = Sequences(**GOOD)
  earned = {
    inserted: request.draws_earned(inserted) for inserted in (0, 49, 50, 54, 55, 59, 60, 74)
  }
  assert earned == {0: 0, 49: 0, 50: 0, 54: 0, 55: 1, 59: 1, 60: 2, 74: 5}


def test_the_ratio_is_the_decimal_number_that_is_written():
  # 0.3 as a binary fraction is a little less: 40 steps would not earn the 12 samples.
  request = Sequences(**GOOD | {"samples_per_insert": 0.3})
  assert request.draws_earned(50 + 39) == 0
  assert request.draws_earned(50 + 40) == 1
  assert request.draws_earned(50 + 40 * 10**15) == 10**15


@settings(deadline=None)
@given(
  ratio=st.sampled_from([0.01, 0.25, 1 / 3, 1, 4, 7.3, 20]),
  batch_size=st.integers(1, 7),
  starts=st.integers(1, 5),
  steps=st.lists(st.integers(1, 40), max_size=80),
)
def test_nothing_is_lost_however_steps_arrive(ratio, batch_size, starts, steps):
  request = Sequences(
    **GOOD | {"samples_per_insert": ratio, "batch_size": batch_size, "starts": starts}
  )
  inserted, carried, draws = 0, Fraction(0), 0  # the slow way: a purse that every step fills
  for step in steps:
    for _ in range(step):
      inserted += 1
      if inserted > request.min_size:
        carried += Fraction(str(ratio))
    while carried >= batch_size * starts:
      carried -= batch_size * starts
      draws += 1
    assert request.draws_earned(inserted) == draws
