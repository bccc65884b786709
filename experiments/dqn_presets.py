"""From a usual DQN to MuZero's control: six named changes of a configuration, nothing else.

Left as the control has it in every rung, so that the ends differ by the six alone: n-step
targets (n = 5, where a usual DQN has 1), gamma, the optimiser but for Adam's epsilon, gradient
clipping, the value loss's coefficient, exploration, replay size, single frames, rewards as
they come.
"""

from collections.abc import Collection
import dataclasses
from types import MappingProxyType
from typing import Any

from agents.model import ModelConfig
from agents.q_learning.config import QLearningConfig, QNetworkConfig, ScalarHeadsConfig
from agents.sequences import SequenceConfig
from experiments import sequence_presets
from experiments.config import ExperimentConfig
from networks import config as backbones
from networks.config import BackboneConfig

# Name of a change -> what it is, and what cannot be told apart from it.
CHANGES = MappingProxyType(
  {
    "network": "three convolutions and a dense layer with outputs for all actions become the "
    "control's encoder and a model step with the action; with it come the step's blocks, "
    "LayerNorm, frames scaled to [-1, 1] instead of [0, 1], latents scaled to [0, 1], half a "
    "gradient into the step, the heads' sizes",
    "sample-reuse": "8 uses of a sample become the control's; with it, where the control has "
    "them, prioritised instead of uniform draws",
    "target-interval": "target copies every 10,000 environment steps, in updates of the rung, "
    "become the control's, every so many updates",
    "batch-size": "32 independent samples become the control's batch; with it, samples folded "
    "into sequences of several starts",
    "categorical-heads": "a number with Huber's loss becomes the control's support with "
    "cross-entropy; with it, the h-transform of targets, heads that start at 0 instead of at "
    "random, and the control's epsilon of Adam instead of 1.5e-4",
    "reward-decomposition": "Q(s, a) from one head becomes r(s, a) + gamma V(s, a) from two; "
    "with it, the reward's own loss",
  }
)


@dataclasses.dataclass(frozen=True)
class UsualDQN:
  """What the control is not. The defaults are Nature DQN's, but for Adam's epsilon.

  Attributes:
    backbone: the convolutions.
    hidden: width of the dense layer behind them.
    samples_per_insert: uses of a sample.
    target_steps: environment steps between copies to the target network.
    batch_size: samples in an update.
    adam_epsilon: Rainbow's (Hessel et al. 2018, table 1). With 1e-8 most units of the dense
      layer answered to no frame of coinrun, with heads that start at 0 besides nearly all
      (`results/dqn_ladder_coinrun`). Our reading: errors are nearly 0 until first rewards
      come, and 1e-8 makes steps of those as large as of any gradient.
  """

  backbone: BackboneConfig = dataclasses.field(default_factory=backbones.nature)
  hidden: int = 512
  samples_per_insert: float = 8.0
  target_steps: int = 10_000
  batch_size: int = 32
  adam_epsilon: float = 1.5e-4


SMALL = UsualDQN(
  backbone=backbones.NatureCNNConfig(kernels=(8, 4), strides=(4, 2), channels=(8, 8)),
  hidden=32,
  samples_per_insert=0.25,
  target_steps=1024,
  batch_size=16,
)  # for smoke runs


def with_changes(
  control: ExperimentConfig, names: Collection[str], *, usual: UsualDQN
) -> ExperimentConfig:
  """Returns a rung between a usual DQN and the control: the control less what is not named.

  The usual DQN is Nature DQN (Mnih et al. 2015) as the author of the paper under study sets
  it against the control (SCIENCE.md, section 4).

  Args:
    control: a configuration of Q-learning.
    names: of the changes that have been made, out of `CHANGES`.
    usual: what stands where a change has not been made.

  Raises:
    ValueError: there is no change of such a name.
  """
  for name in names:
    if name not in CHANGES:
      raise ValueError(f"a change must be one of {', '.join(CHANGES)}, got {name!r}")
  agent: QLearningConfig = control.agent
  sequences = _sequences(agent.sequences, names, usual)
  settings: dict[str, Any] = {"sequences": sequences, "model": _model(agent.model, names)}
  if "network" not in names:
    settings |= {"backbone": usual.backbone, "network": QNetworkConfig(usual.hidden)}
  if "target-interval" not in names:
    settings["target_interval"] = updates_in(usual.target_steps, sequences)
  if "categorical-heads" not in names:
    settings["heads"] = ScalarHeadsConfig()
    settings["optimizer"] = dataclasses.replace(agent.optimizer, adam_epsilon=usual.adam_epsilon)
  if "reward-decomposition" not in names:
    settings |= {
      "action_value": "direct",
      "reward_coefficient": QLearningConfig().reward_coefficient,
    }
  return dataclasses.replace(control, agent=dataclasses.replace(agent, **settings))


def _sequences(control: SequenceConfig, names: Collection[str], usual: UsualDQN) -> SequenceConfig:
  settings: dict[str, Any] = {}
  if "sample-reuse" not in names:
    settings["samples_per_insert"] = usual.samples_per_insert
    settings |= {"priority_exponent": 0.0, "importance_exponent": 0.0}
  if "batch-size" not in names:
    settings |= {"batch_size": usual.batch_size, "starts": 1}
  return dataclasses.replace(control, **settings)


def _model(control: ModelConfig, names: Collection[str]) -> ModelConfig:
  """The control's, but by default what a rung does not read: QLearningConfig refuses all else."""
  unread = []
  if "network" not in names:
    unread += ["dynamics_blocks", "head_channels", "hidden"]
  if "categorical-heads" not in names:
    unread += ["value_support", "reward_support"]
  if "reward-decomposition" not in names:
    unread += ["reward_support"]
  return dataclasses.replace(control, **{name: getattr(ModelConfig(), name) for name in unread})


def updates_in(environment_steps: int, sequences: SequenceConfig) -> int:
  """Returns how many updates so many environment steps earn, to the nearest whole one."""
  return max(1, round(environment_steps * sequences.samples_per_insert / sequences.batch_size))


def dqn_smoke() -> ExperimentConfig:
  """A run that is over in seconds: does everything work? It learns nothing.

  Source: `laptop`, shrunk.
  Command: procplan train --agent dqn --preset smoke
  Cost: under a minute on one core.
  Expected score: that of a random policy.
  """
  return with_changes(sequence_presets.q_learning_smoke(), (), usual=SMALL)


def dqn_laptop() -> ExperimentConfig:
  """A usual DQN on two CPU cores: Nature's network, batch 32, 8 uses of a sample.

  Source: Mnih et al. 2015 for network, batch, reuse, target interval and error clipping;
    everything else as `q_learning_laptop`.
  Command: procplan train --agent dqn --preset laptop
  Cost: about 75 steps/s on one core of an old AMD EPYC (results/dqn_ladder_coinrun), 3.7 hours
    for all 1M steps, 249k updates of 32 samples.
  Expected score: not measured; 51k steps of coinrun, with other exploration: 5.2 and 0 on training
    levels (two seeds, results/dqn_ladder_coinrun).
  """
  return with_changes(sequence_presets.q_learning_laptop(), (), usual=UsualDQN())


def dqn_gpu() -> ExperimentConfig:
  """A usual DQN beside `q_learning_gpu`.

  Source: as `dqn_laptop`; everything else as `q_learning_gpu`.
  Command: procplan train --agent dqn --preset gpu
  Cost: not measured here; 10M steps, 2.5M updates of 32 samples.
  Expected score: not known.
  """
  return with_changes(sequence_presets.q_learning_gpu(), (), usual=UsualDQN())


def dqn_paper() -> ExperimentConfig:
  """A usual DQN beside `q_learning_paper`: 500 hard levels, 30M frames.

  Source: as `dqn_laptop`; everything else as `q_learning_paper`.
  Command: procplan train --agent dqn --preset paper
  Cost: not measured here; 30M steps, 7.5M updates of 32 samples.
  Expected score: not published.
  """
  return with_changes(sequence_presets.q_learning_paper(), (), usual=UsualDQN())
