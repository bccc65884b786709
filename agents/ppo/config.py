"""PPO's settings; the defaults are Procgen's published ones."""

import dataclasses

from agents.config import OptimizerConfig, require
from agents.workload import PhaseWork, Workload
from environments.interface import EnvironmentSpec
from networks.config import BackboneConfig, ImpalaConfig
from replay.interface import Rollouts

# What becomes of a step on arrival, beside its frame.
RECORD = {
  "action": ((), "int32"),
  "log_prob": ((), "float32"),
  "value": ((), "float32"),
  "advantage": ((), "float32"),
  "value_target": ((), "float32"),
}


@dataclasses.dataclass(frozen=True)
class PPOConfig:
  """Settings of PPO (Cobbe et al. 2020, section 3 and released code).

  Attributes:
    backbone: the shared residual backbone.
    hidden: D, width of the dense layer between backbone and heads.
    rollout_length: T, steps of every environment in one rollout.
    epochs: passes over a rollout.
    num_minibatches: updates in a pass; must divide the number of steps in a rollout.
    discount: gamma of the return that is maximised.
    gae_lambda: lambda of generalised advantage estimation.
    clip: how far the probability ratio may leave 1 before the surrogate is flat.
    value_clip: how far the value may leave the old value before its loss is flat.
    value_coefficient: weight of the value loss (half a squared error).
    entropy_coefficient: weight of the entropy bonus.
    reward_discount: gamma of the discounted return whose running standard deviation
      divides the rewards.
    reward_clip: scaled rewards are limited to plus and minus this, as published.
    gradient_chunk: steps whose gradient is computed at once; 0 takes the whole
      minibatch. The gradient is the same; small chunks save memory, and on a CPU time.
      Of several devices each takes the greatest common divisor of this and its own steps.
    optimizer: Adam's settings.
  """

  backbone: BackboneConfig = dataclasses.field(default_factory=ImpalaConfig)
  hidden: int = 256
  rollout_length: int = 256
  epochs: int = 3
  num_minibatches: int = 8
  discount: float = 0.999
  gae_lambda: float = 0.95
  clip: float = 0.2
  value_clip: float = 0.2
  value_coefficient: float = 0.5
  entropy_coefficient: float = 0.01
  reward_discount: float = 0.99
  reward_clip: float = 10.0
  gradient_chunk: int = 0
  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

  def __post_init__(self):
    for name in ("hidden", "rollout_length", "epochs", "num_minibatches"):
      value = getattr(self, name)
      require(type(value) is int and value >= 1, f"agent.{name}", value, "an integer of at least 1")
    value = self.gradient_chunk
    require(
      type(value) is int and value >= 0, "agent.gradient_chunk", value, "an integer of at least 0"
    )
    for name in ("discount", "gae_lambda", "reward_discount"):
      value = getattr(self, name)
      require(0 <= value <= 1, f"agent.{name}", value, "between 0 and 1")
    require(0 < self.clip < 1, "agent.clip", self.clip, "between 0 and 1, neither included")
    for name in ("value_clip", "reward_clip"):
      value = getattr(self, name)
      require(value > 0, f"agent.{name}", value, "above 0")
    for name in ("value_coefficient", "entropy_coefficient"):
      value = getattr(self, name)
      require(value >= 0, f"agent.{name}", value, "at least 0")

  def check_batch(self, num_environments: int) -> None:
    """Raises ValueError if a rollout does not split into minibatches, or those into chunks."""
    steps = self.rollout_length * num_environments
    require(
      steps % self.num_minibatches == 0,
      "agent.num_minibatches",
      self.num_minibatches,
      f"a divisor of a rollout's {steps} steps (agent.rollout_length {self.rollout_length} x "
      f"environment.num_environments {num_environments})",
    )
    minibatch = steps // self.num_minibatches
    require(
      self.gradient_chunk == 0 or minibatch % self.gradient_chunk == 0,
      "agent.gradient_chunk",
      self.gradient_chunk,
      f"0 or a divisor of a minibatch's {minibatch} steps",
    )

  def workload(self, spec: EnvironmentSpec, *, num_devices: int = 1) -> Workload:
    """Returns what these settings amount to in such environments, over all devices."""
    del num_devices  # the counts are the same over any number
    phase = PhaseWork(
      name="policy",
      source=Rollouts(1),
      epochs=self.epochs,
      num_minibatches=self.num_minibatches,
    )
    return Workload(
      rollout_length=self.rollout_length,
      record={"observation": (spec.observation_shape, "uint8"), **RECORD},
      phases=(phase,),
    )

  def learning_early(self, num_environments: int) -> "PPOConfig":
    """Returns settings with the same work for every step, which learn as soon as can be."""
    del num_environments  # the first rollout is learnt from
    return self
