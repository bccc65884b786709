"""Diagnostics of unrolled models against sums written out."""

import jax.numpy as jnp
import pytest

from agents.diagnostics import errors_by_step


def test_errors_are_means_over_the_starts_whose_episode_lasts():
  said = jnp.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [9.0, 9.0, 9.0]])
  target = jnp.array([[1.0, 0.0, 4.0], [1.0, 5.0, 2.0], [0.0, 0.0, 0.0]])
  inside = jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
  errors = errors_by_step("value", said, target, inside, first_step=1)
  # (0 + 2 + 1) / 3; (0 + 1) / 2 without the 4; nothing is left after three steps.
  assert {name: float(error) for name, error in errors.items()} == pytest.approx(
    {"value_error_1": 1.0, "value_error_2": 0.5, "value_error_3": 0.0}
  )
