"""Q-learning's settings; those that MuZero has too have the same names and meanings."""

import dataclasses
import operator
from typing import Literal

from agents.config import OptimizerConfig, SelfSupervisionConfig, require
from agents.model import ModelConfig
from agents.sequences import SequenceConfig, frame_record
from agents.workload import PhaseWork, Workload
from environments.interface import EnvironmentSpec
from networks.config import BackboneConfig, ResNetConfig


@dataclasses.dataclass(frozen=True)
class ExplorationConfig:
  """Epsilon-greedy acting, epsilon falling on a line with the environment steps.

  Attributes:
    initial_epsilon: chance of a uniformly random action at the start.
    final_epsilon: the same from `decay_steps` on.
    decay_steps: environment steps in which it falls.
  """

  initial_epsilon: float = 1.0
  final_epsilon: float = 0.05
  decay_steps: int = 100_000

  def __post_init__(self):
    for name in ("initial_epsilon", "final_epsilon"):
      value = getattr(self, name)
      require(0 <= value <= 1, f"agent.exploration.{name}", value, "between 0 and 1")
    value = self.decay_steps
    require(
      type(value) is int and value >= 1,
      "agent.exploration.decay_steps",
      value,
      "an integer of at least 1",
    )


@dataclasses.dataclass(frozen=True)
class WorldModelConfig:
  """The action goes into a model step and Q is read behind it; `model` says the sizes."""


@dataclasses.dataclass(frozen=True)
class QNetworkConfig:
  """Outputs for every action at once behind one dense layer, as in a usual DQN.

  Attributes:
    hidden: width of the dense layer; 512 in Nature DQN.
  """

  hidden: int = 512

  def __post_init__(self):
    value = self.hidden
    require(type(value) is int and value >= 1, "agent.network.hidden", value, "an integer above 0")


@dataclasses.dataclass(frozen=True)
class CategoricalHeadsConfig:
  """Heads over the atoms of `model`'s supports, with the h-transform and cross-entropy."""


@dataclasses.dataclass(frozen=True)
class ScalarHeadsConfig:
  """Heads of one number, in the reward's own unit, with Huber's loss.

  Attributes:
    huber_delta: error from which on the loss is linear; 1 is Nature DQN's error clipping.
  """

  huber_delta: float = 1.0

  def __post_init__(self):
    require(self.huber_delta > 0, "agent.heads.huber_delta", self.huber_delta, "above 0")


NetworkConfig = WorldModelConfig | QNetworkConfig
HeadsConfig = CategoricalHeadsConfig | ScalarHeadsConfig


@dataclasses.dataclass(frozen=True)
class QLearningConfig:
  """Settings of Q-learning. The defaults are those of MuZero's control.

  Which fields are read depends on `network`, `heads` and `action_value`; what they leave unread
  has to be as by default, so that it is not set in vain.

  Attributes:
    backbone: of the representation.
    model: the model step and the heads; what `network`, `heads` or `action_value` leave out of
      it is not read.
    network: where the action enters: by a model step, or as one output each.
    heads: what a head says: probabilities over a support, or a number.
    action_value: Q(s, a) as the sum of a reward head and a discounted value head, or
      directly as one head.
    sequences: replay, and how frames become samples.
    exploration: epsilon-greedy.
    model_steps: from every start; 1 is Q-learning, up to K is "QL + model": the model
      is learnt as MuZero learns it, and never planned with.
    rollout_length: T, steps of every environment between two learning turns.
    discount: gamma.
    target_interval: updates between copies to the target network.
    value_coefficient: weight of the value loss.
    reward_coefficient: weight of the reward loss.
    self_supervision: further losses on the unrolled latents; off by default.
    optimizer: AdamW's settings.
  """

  backbone: BackboneConfig = dataclasses.field(default_factory=ResNetConfig)
  model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
  network: NetworkConfig = dataclasses.field(default_factory=WorldModelConfig)
  heads: HeadsConfig = dataclasses.field(default_factory=CategoricalHeadsConfig)
  action_value: Literal["reward_and_value", "direct"] = "reward_and_value"
  sequences: SequenceConfig = dataclasses.field(default_factory=SequenceConfig)
  exploration: ExplorationConfig = dataclasses.field(default_factory=ExplorationConfig)
  model_steps: int = 1
  rollout_length: int = 16
  discount: float = 0.997
  target_interval: int = 100
  value_coefficient: float = 1.0
  reward_coefficient: float = 1.0
  self_supervision: SelfSupervisionConfig = dataclasses.field(default_factory=SelfSupervisionConfig)
  optimizer: OptimizerConfig = dataclasses.field(
    default_factory=lambda: OptimizerConfig(
      learning_rate=1e-4,
      schedule="cosine",
      adam_epsilon=1e-8,
      max_gradient_norm=5.0,
      weight_decay=1e-4,
    )
  )

  def __post_init__(self):
    for name in ("rollout_length", "target_interval"):
      value = getattr(self, name)
      require(type(value) is int and value >= 1, f"agent.{name}", value, "an integer above 0")
    steps, most = self.model_steps, self.sequences.unroll_steps
    require(
      type(steps) is int and 1 <= steps <= most,
      "agent.model_steps",
      steps,
      f"an integer from 1 to agent.sequences.unroll_steps ({most})",
    )
    require(0 <= self.discount <= 1, "agent.discount", self.discount, "between 0 and 1")
    self._check_action_value()
    for name in ("value_coefficient", "reward_coefficient"):
      value = getattr(self, name)
      require(value >= 0, f"agent.{name}", value, "at least 0")
    for name, why in self._unread_fields().items():
      value, default = (operator.attrgetter(name)(each) for each in (self, QLearningConfig()))
      allowed = f"{default!r}, its default, as nothing reads it: {why}"
      require(value == default, f"agent.{name}", value, allowed)

  def _check_action_value(self) -> None:
    forms = ("reward_and_value", "direct")
    require(self.action_value in forms, "agent.action_value", self.action_value, f"one of {forms}")
    require(
      self.sequences.bootstrap_steps >= 2 or self.action_value == "direct",
      "agent.sequences.bootstrap_steps",
      self.sequences.bootstrap_steps,
      "at least 2: the first reward of an n-step target belongs to the reward head",
    )
    if isinstance(self.network, QNetworkConfig):
      why = "there is no model step after an output for every action"
      require(self.model_steps == 1, "agent.model_steps", self.model_steps, f"1: {why}")
      for name, coefficient in self.self_supervision.coefficients.items():
        field = f"agent.self_supervision.{name}_coefficient"
        require(coefficient == 0, field, coefficient, f"0: {why}")

  def _unread_fields(self) -> dict[str, str]:
    """Returns the dotted names of the fields that this form does not read, each with the reason."""
    unread = {}
    if isinstance(self.network, QNetworkConfig):
      names = [f"model.{name}" for name in ("dynamics_blocks", "head_channels", "hidden")]
      names += [f"self_supervision.{name}" for name in ("temperature", "hidden", "projection_size")]
      unread |= dict.fromkeys(names, "agent.network has one dense layer and no model step")
    supports = ("model.value_support", "model.reward_support")
    if isinstance(self.heads, ScalarHeadsConfig):
      unread |= dict.fromkeys(supports, "agent.heads are numbers")
    if self.action_value == "direct":
      names = ("model.reward_support", "reward_coefficient")
      unread |= dict.fromkeys(names, "agent.action_value is direct, without a reward head")
    return unread

  def check_batch(self, num_environments: int) -> None:
    """Raises ValueError if replay cannot hold a sequence of every environment."""
    self.sequences.check_capacity(num_environments)

  def workload(self, spec: EnvironmentSpec, *, num_devices: int = 1) -> Workload:
    """Returns what these settings amount to in such environments, over all devices."""
    del num_devices  # the counts are the same over any number
    return Workload(
      rollout_length=self.rollout_length,
      record=frame_record(spec),
      phases=(PhaseWork(name="model", source=self.sequences.request()),),
    )

  def learning_early(self, num_environments: int) -> "QLearningConfig":
    """Returns settings with the same work for every step, which learn as soon as can be."""
    return dataclasses.replace(self, sequences=self.sequences.learning_early(num_environments))
