"""The atoms on which categorical value and reward heads put probability.

Imports no JAX, so that config modules may hold one.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class CategoricalSupport:
  """M equally spaced atoms over the *transformed* scalar h(x) of `value_transform`.

  MuZero's published support is low -300, high 300, 601 atoms (Schrittwieser et
  al. 2020, appendix F). Procgen's returns stay under 64, thus h under 8.

  Attributes:
    low: the first atom, in units of h(x).
    high: the last atom, in units of h(x).
    num_atoms: M.
    epsilon: weight of h's linear part; .001 in MuZero.

  Raises:
    ValueError: a bound is not finite, `low` is not below `high`, `num_atoms` is
      not an integer of at least 2, or `epsilon` is negative.
  """

  low: float
  high: float
  num_atoms: int
  epsilon: float = 0.001

  def __post_init__(self):
    if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
      raise ValueError(
        "CategoricalSupport.low and .high must be finite with low < high, "
        f"got low={self.low!r}, high={self.high!r}"
      )
    if not isinstance(self.num_atoms, int) or isinstance(self.num_atoms, bool):
      raise ValueError(f"CategoricalSupport.num_atoms must be an integer, got {self.num_atoms!r}")
    if self.num_atoms < 2:
      raise ValueError(f"CategoricalSupport.num_atoms must be at least 2, got {self.num_atoms}")
    if not (math.isfinite(self.epsilon) and self.epsilon >= 0.0):
      raise ValueError(
        f"CategoricalSupport.epsilon must be finite and not negative, got {self.epsilon!r}"
      )

  @property
  def spacing(self) -> float:
    """Distance between two neighbouring atoms, in units of h(x)."""
    return (self.high - self.low) / (self.num_atoms - 1)
