"""Which replay a saved state belongs to.

A state is only taken back by a replay that would go on drawing the same windows.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from replay.interface import Sequences

# Fields that decide which windows are drawn when; the others may change on resume.
_DECIDING = (
  "length",
  "starts",
  "batch_size",
  "capacity",
  "min_size",
  "samples_per_insert",
  "priority_exponent",
  "importance_exponent",
)


def identity(request: Sequences, seed: int) -> dict[str, int | float]:
  """Returns what a replay's draws depend on, besides what it was given, by entry of its state."""
  fields = {f"request/{name}": getattr(request, name) for name in _DECIDING}
  return {**fields, "seed": seed}


def check_entries(
  state: Mapping[str, np.ndarray],
  *,
  expected: Mapping[str, int | float],
  required: Iterable[str],
  optional: Iterable[str],
) -> None:
  """Checks the entries of a state.

  Args:
    state: to be restored.
    expected: entries that must have these values.
    required: other entries that must be there.
    optional: entries that may be there.

  Raises:
    ValueError: an entry is missing, unknown, or of another value; names it.
  """
  required = {*expected, *required}
  if lacking := sorted(required - state.keys()):
    raise ValueError(f"the state of a sequence replay lacks {lacking}")
  if unknown := sorted(state.keys() - required - set(optional)):
    raise ValueError(f"the state of a sequence replay has unknown entries {unknown}")
  for name, value in expected.items():
    if state[name].item() != value:
      raise ValueError(f"{name} is {value!r} here and {state[name].item()!r} in the state")
