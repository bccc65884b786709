"""Settings that several agents share. No JAX here: `--help` reads this."""

import dataclasses
from typing import Literal


def require(condition: bool, field: str, value: object, allowed: str) -> None:
  """Raises ValueError naming the field, its value and what is allowed."""
  if not condition:
    raise ValueError(f"{field} must be {allowed}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """An Adam optimiser (Kingma & Ba 2015), with decoupled weight decay if that is not 0.

  Attributes:
    learning_rate: at the start.
    schedule: of environment steps: stay constant, or fall to 0 at the end of training,
      on a line or along a half cosine.
    adam_epsilon: added to the root of the second moment.
    max_gradient_norm: limit of the global gradient norm; 0 sets no limit.
    weight_decay: decoupled (AdamW, Loshchilov & Hutter 2019), times the learning rate.
  """

  learning_rate: float = 5e-4
  schedule: Literal["constant", "linear", "cosine"] = "constant"
  adam_epsilon: float = 1e-5
  max_gradient_norm: float = 0.5
  weight_decay: float = 0.0

  def __post_init__(self):
    require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0")
    schedules = ("constant", "linear", "cosine")
    require(self.schedule in schedules, "optimizer.schedule", self.schedule, f"one of {schedules}")
    require(self.adam_epsilon > 0, "optimizer.adam_epsilon", self.adam_epsilon, "above 0")
    for name in ("max_gradient_norm", "weight_decay"):
      value = getattr(self, name)
      require(value >= 0, f"optimizer.{name}", value, "at least 0")
