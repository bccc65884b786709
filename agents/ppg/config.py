"""PPG's settings; the defaults are the published ones."""

import dataclasses
from typing import Literal

from agents.config import OptimizerConfig, require
from agents.ppo.config import RECORD
from agents.workload import PhaseWork, Workload
from environments.interface import EnvironmentSpec
from networks.config import BackboneConfig, ImpalaConfig
from replay.interface import Rollouts

TRUNKS = ("dual", "shared", "detached")
MINIBATCHES = ("columns", "steps")


def _adam() -> OptimizerConfig:
  """Adam as PPG has it: torch's epsilon, no limit of the gradient's norm."""
  return OptimizerConfig(learning_rate=5e-4, adam_epsilon=1e-8, max_gradient_norm=0.0)


@dataclasses.dataclass(frozen=True)
class PPGConfig:
  """Settings of phasic policy gradient (Cobbe et al. 2021, appendix A and released code).

  Attributes:
    backbone: the shared residual backbone.
    hidden: D, width of the dense layer between backbone and heads.
    trunk: two encoders (dual), one (shared), or one that the value's gradient does not
      reach (detached).
    rollout_length: T, steps of every environment in one rollout, and in a segment.
    rollouts_per_phase: N_pi, rollouts from one auxiliary phase to the next; all of them
      are kept for it.
    policy_epochs: E_pi, passes over a rollout by the policy.
    value_epochs: E_V, passes over a rollout by the value. Where it equals `policy_epochs`
      the two are learnt together with one optimiser, else value first, each with its own.
    num_minibatches: updates in such a pass.
    minibatches: what they are drawn from: whole environment columns of T steps, or
      single steps.
    auxiliary_epochs: E_aux, passes over the segments of an auxiliary phase.
    auxiliary_minibatches: updates in such a pass: 512 of 32 rollouts of 64 environments
      hold 4 segments of T steps each.
    discount: gamma of the return that is maximised.
    gae_lambda: lambda of generalised advantage estimation.
    clip: how far the probability ratio may leave 1 before the surrogate is flat.
    value_coefficient: weight of the value loss, half a squared error, beside the policy's.
    entropy_coefficient: weight of the entropy bonus.
    clone_coefficient: beta_clone, weight of the divergence from the old policy.
    reward_discount: gamma of the discounted return whose running standard deviation
      divides the rewards.
    reward_clip: scaled rewards are limited to plus and minus this, as published.
    gradient_chunk: steps whose gradient is computed at once; 0 takes the whole
      minibatch. The gradient is the same; small chunks save memory, and on a CPU time.
      Of several devices each takes the greatest common divisor of this and its own steps.
    optimizer: Adam's settings on fresh rollouts, for policy and value alike.
    auxiliary_optimizer: those of the auxiliary phase's own Adam.
  """

  backbone: BackboneConfig = dataclasses.field(default_factory=ImpalaConfig)
  hidden: int = 256
  trunk: Literal["dual", "shared", "detached"] = "dual"
  rollout_length: int = 256
  rollouts_per_phase: int = 32
  policy_epochs: int = 1
  value_epochs: int = 1
  num_minibatches: int = 8
  minibatches: Literal["columns", "steps"] = "columns"
  auxiliary_epochs: int = 6
  auxiliary_minibatches: int = 512
  discount: float = 0.999
  gae_lambda: float = 0.95
  clip: float = 0.2
  value_coefficient: float = 1.0
  entropy_coefficient: float = 0.01
  clone_coefficient: float = 1.0
  reward_discount: float = 0.99
  reward_clip: float = 10.0
  gradient_chunk: int = 0
  optimizer: OptimizerConfig = dataclasses.field(default_factory=_adam)
  auxiliary_optimizer: OptimizerConfig = dataclasses.field(default_factory=_adam)

  def __post_init__(self):
    require(self.trunk in TRUNKS, "agent.trunk", self.trunk, f"one of {TRUNKS}")
    require(
      self.minibatches in MINIBATCHES,
      "agent.minibatches",
      self.minibatches,
      f"one of {MINIBATCHES}",
    )
    counts = ("hidden", "rollout_length", "rollouts_per_phase", "policy_epochs", "value_epochs")
    for name in (*counts, "num_minibatches", "auxiliary_epochs", "auxiliary_minibatches"):
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
    require(self.reward_clip > 0, "agent.reward_clip", self.reward_clip, "above 0")
    for name in ("value_coefficient", "entropy_coefficient", "clone_coefficient"):
      value = getattr(self, name)
      require(value >= 0, f"agent.{name}", value, "at least 0")

  def check_batch(self, num_environments: int) -> None:
    """Raises ValueError if a phase's data do not split into minibatches, or those into chunks."""
    steps = self.rollout_length * num_environments
    units = num_environments if self.minibatches == "columns" else steps
    require(
      units % self.num_minibatches == 0,
      "agent.num_minibatches",
      self.num_minibatches,
      f"a divisor of a rollout's {units} {self.minibatches} (agent.rollout_length "
      f"{self.rollout_length}, environment.num_environments {num_environments})",
    )
    segments = self.rollouts_per_phase * num_environments
    require(
      segments % self.auxiliary_minibatches == 0,
      "agent.auxiliary_minibatches",
      self.auxiliary_minibatches,
      f"a divisor of an auxiliary phase's {segments} segments (agent.rollouts_per_phase "
      f"{self.rollouts_per_phase} x environment.num_environments {num_environments})",
    )
    sizes = (
      steps // self.num_minibatches,
      segments // self.auxiliary_minibatches * self.rollout_length,
    )
    require(
      self.gradient_chunk == 0 or all(size % self.gradient_chunk == 0 for size in sizes),
      "agent.gradient_chunk",
      self.gradient_chunk,
      f"0 or a common divisor of a minibatch's {sizes[0]} steps and an auxiliary one's {sizes[1]}",
    )

  def workload(self, spec: EnvironmentSpec, *, num_devices: int = 1) -> Workload:
    """Returns what these settings amount to in such environments, over all devices."""
    del num_devices  # the counts are the same over any number
    epochs = {"policy": self.policy_epochs}
    if self.policy_epochs != self.value_epochs:
      epochs = {"value": self.value_epochs, "policy": self.policy_epochs}
    fresh = tuple(
      PhaseWork(name=name, source=Rollouts(1), epochs=count, num_minibatches=self.num_minibatches)
      for name, count in epochs.items()
    )
    auxiliary = PhaseWork(
      name="auxiliary",
      source=Rollouts(self.rollouts_per_phase),
      epochs=self.auxiliary_epochs,
      num_minibatches=self.auxiliary_minibatches,
    )
    return Workload(
      rollout_length=self.rollout_length,
      record={"observation": (spec.observation_shape, "uint8"), **RECORD},
      phases=(*fresh, auxiliary),
    )

  def learning_early(self, num_environments: int) -> "PPGConfig":
    """Returns settings with the same work for every step, which learn as soon as can be.

    The auxiliary phase comes after fewer rollouts, with as many fewer minibatches: of the
    same size each.
    """
    fewest = next(
      count
      for count in range(1, self.rollouts_per_phase + 1)
      if self.auxiliary_minibatches * count % self.rollouts_per_phase == 0
    )
    return dataclasses.replace(
      self,
      rollouts_per_phase=fewest,
      auxiliary_minibatches=self.auxiliary_minibatches * fewest // self.rollouts_per_phase,
    )
