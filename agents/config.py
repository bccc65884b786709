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


@dataclasses.dataclass(frozen=True)
class SelfSupervisionConfig:
  """Self-supervised losses on unrolled latents (Anand et al. 2022); a coefficient of 0 is off.

  What is off has no parameters and costs nothing.

  Attributes:
    reconstruction_coefficient: weight of the squared error of decoded frames.
    contrastive_coefficient: weight of InfoNCE against the encodings of what came.
    spr_coefficient: weight of the cosine to the target network's projections; 2 in SPR.
    temperature: of the contrastive loss.
    hidden: width of the projectors' and the predictor's hidden layer.
    projection_size: P, what is compared.
  """

  reconstruction_coefficient: float = 0.0
  contrastive_coefficient: float = 0.0
  spr_coefficient: float = 0.0
  temperature: float = 0.1
  hidden: int = 256
  projection_size: int = 128

  def __post_init__(self):
    for name in ("reconstruction", "contrastive", "spr"):
      field = f"{name}_coefficient"
      value = getattr(self, field)
      require(value >= 0, f"agent.self_supervision.{field}", value, "at least 0")
    require(self.temperature > 0, "agent.self_supervision.temperature", self.temperature, "above 0")
    for name in ("hidden", "projection_size"):
      value = getattr(self, name)
      require(
        type(value) is int and value >= 1,
        f"agent.self_supervision.{name}",
        value,
        "an integer above 0",
      )

  @property
  def coefficients(self) -> dict[str, float]:
    """Coefficients of the losses that are on, by the loss's name."""
    coefficients = {
      "reconstruction": self.reconstruction_coefficient,
      "contrastive": self.contrastive_coefficient,
      "spr": self.spr_coefficient,
    }
    return {name: coefficient for name, coefficient in coefficients.items() if coefficient}
