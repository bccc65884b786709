"""How long to train, how to evaluate, what to keep. No JAX here: `--help` reads this."""

import dataclasses
from typing import Literal


def _require_count(field: str, value: object, *, minimum: int) -> None:
  if type(value) is not int or value < minimum:
    raise ValueError(f"{field} must be an integer of at least {minimum}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """How long a run is and what it keeps.

  Attributes:
    total_environment_steps: the run ends with the first rollout that reaches this.
    checkpoint_every: environment steps between checkpoints.
    keep_checkpoints: how many of the latest checkpoints stay on disk.
  """

  total_environment_steps: int = 25_000_000
  checkpoint_every: int = 1_000_000
  keep_checkpoints: int = 2

  def __post_init__(self):
    for field in dataclasses.fields(self):
      _require_count(f"training.{field.name}", getattr(self, field.name), minimum=1)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """How a policy is evaluated, on its training levels and on the full distribution.

  Every environment plays exactly its quota of episodes: taking whichever episodes
  finish first would favour short ones.

  Attributes:
    every: environment steps between evaluations; one more is made at the start and one
      at the end.
    num_environments: environments that play side by side.
    episodes_per_environment: the quota during training.
    final_episodes_per_environment: the quota of the last evaluation.
    policy: act as in training (sampled), but with the exploration that is left when its schedule
      is over (Q-learning's final epsilon), or without exploration (greedy).
  """

  every: int = 1_000_000
  num_environments: int = 64
  episodes_per_environment: int = 1
  final_episodes_per_environment: int = 4
  policy: Literal["sampled", "greedy"] = "sampled"

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if field.name != "policy":
        _require_count(f"evaluation.{field.name}", getattr(self, field.name), minimum=1)
    if self.policy not in ("sampled", "greedy"):
      raise ValueError(f"evaluation.policy must be sampled or greedy, got {self.policy!r}")
