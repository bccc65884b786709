"""Checks of what environments are given, the same for every family."""

import operator

import numpy as np

from environments.interface import EnvironmentSpec


def checked_action(action: np.ndarray, spec: EnvironmentSpec) -> np.ndarray:
  """Returns `action` as a numpy array if it is one that `spec` allows.

  Args:
    action: `[B]` int32 in [0, A).
    spec: of the environments that are to take it.

  Raises:
    ValueError: another shape, dtype or range.
  """
  action = np.asarray(action)
  if action.shape != (spec.num_environments,) or action.dtype != np.int32:
    raise ValueError(
      f"action must be int32 [{spec.num_environments}], got {action.dtype} {list(action.shape)}"
    )
  if action.min() < 0 or action.max() >= spec.num_actions:
    raise ValueError(
      f"actions must lie in [0, {spec.num_actions}), got {action.min()} to {action.max()}"
    )
  return action


def checked_integer(name: str, value: int, *, minimum: int, end: int = 2**31) -> int:
  """Returns `value` as a Python int if it is an integer in [minimum, end).

  Raises:
    ValueError: it is not; the message names it.
  """
  try:
    number = operator.index(value)
  except TypeError:
    raise ValueError(f"{name} must be an integer, got {value!r}") from None
  if isinstance(value, bool) or not minimum <= number < end:
    raise ValueError(f"{name} must be an integer in [{minimum}, {end}), got {value!r}")
  return number
