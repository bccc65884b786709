"""What agents that learn from replayed sequences have in common: settings and windows.

"Controlled" begins here: MuZero and Q-learning hold the same `SequenceConfig`, draw the
same windows and make value targets with the same function.
"""

import dataclasses

from agents.config import require
from agents.workload import Leaf
from environments.interface import EnvironmentSpec
from replay.interface import Sequences


def frame_record(spec: EnvironmentSpec) -> dict[str, Leaf]:
  """Returns what every replayed step consists of, by name."""
  return {
    "observation": (spec.observation_shape, "uint8"),
    "action": ((), "int32"),
    "reward": ((), "float32"),
    "discount": ((), "float32"),
  }


@dataclasses.dataclass(frozen=True)
class SequenceConfig:
  """How stored frames become training samples.

  Attributes:
    starts: S, samples folded into one sequence; 1 gives independent windows.
    unroll_steps: K, model steps from every start.
    bootstrap_steps: n of the n-step value.
    batch_size: samples (starts) in an update; a multiple of `starts`.
    capacity: frames kept, over all environments.
    min_size: frames stored before learning begins.
    samples_per_insert: how often a frame is used as a start, on average.
    priority_exponent: alpha; 0 draws uniformly.
    importance_exponent: beta.
    memory_budget: bytes for uncompressed frames.
  """

  starts: int = 8
  unroll_steps: int = 5
  bootstrap_steps: int = 5
  batch_size: int = 1024
  capacity: int = 1_000_000
  min_size: int = 10_000
  samples_per_insert: float = 20.0
  priority_exponent: float = 0.0
  importance_exponent: float = 0.0
  memory_budget: int = 13 * 2**30

  def __post_init__(self):
    for name in ("starts", "unroll_steps", "bootstrap_steps", "batch_size"):
      value = getattr(self, name)
      require(
        type(value) is int and value >= 1, f"agent.sequences.{name}", value, "an integer above 0"
      )
    require(
      self.batch_size % self.starts == 0,
      "agent.sequences.batch_size",
      self.batch_size,
      f"a multiple of agent.sequences.starts ({self.starts})",
    )
    self.request()

  @property
  def length(self) -> int:
    """L = S + K + n, frames of a sequence."""
    return self.starts + self.unroll_steps + self.bootstrap_steps

  @property
  def sequences_per_batch(self) -> int:
    """Sequences in an update."""
    return self.batch_size // self.starts

  def request(self) -> Sequences:
    """Returns what to ask of replay."""
    return Sequences(
      length=self.length,
      starts=self.starts,
      batch_size=self.sequences_per_batch,
      capacity=self.capacity,
      min_size=self.min_size,
      samples_per_insert=self.samples_per_insert,
      priority_exponent=self.priority_exponent,
      importance_exponent=self.importance_exponent,
      memory_budget=self.memory_budget,
    )

  def total_updates(self, total_environment_steps: int) -> int:
    """Returns how many updates a run makes: what its steps have earned."""
    return self.request().draws_earned(total_environment_steps)

  def check_capacity(self, num_environments: int) -> None:
    """Raises ValueError if replay cannot hold and draw a sequence of every environment."""
    least = self.length * num_environments
    needed = f"one sequence of {self.length} frames in each of {num_environments} environments"
    require(
      self.capacity >= least,
      "agent.sequences.capacity",
      self.capacity,
      f"at least {least}, {needed}",
    )
    below = self.capacity - self.capacity % num_environments
    require(
      self.capacity == below,
      "agent.sequences.capacity",
      self.capacity,
      f"a multiple of environment.num_environments ({num_environments}), such as {below} or "
      f"{below + num_environments}",
    )
    require(
      self.min_size >= least,
      "agent.sequences.min_size",
      self.min_size,
      f"at least {least}, {needed}",
    )

  def learning_early(self, num_environments: int) -> "SequenceConfig":
    """Returns these settings with as few frames before learning begins as can be."""
    return dataclasses.replace(self, min_size=self.length * num_environments)
