"""The switches of conftest.py are on: without them other tests would check less."""

import warnings

import jax
import jax.numpy as jnp
import pytest


def test_there_are_two_devices():
  assert len(jax.devices()) == 2


def test_implicit_rank_promotion_raises():
  with pytest.raises(ValueError, match="rank_promotion"):
    jnp.ones((2, 1)) + jnp.ones(3)


def test_warnings_are_errors():
  with pytest.raises(UserWarning, match="said so"):
    warnings.warn("said so", stacklevel=1)
