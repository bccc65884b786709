"""MuZero's settings."""

import dataclasses
import math
from types import MappingProxyType

from agents.config import OptimizerConfig, SelfSupervisionConfig, require
from agents.model import ModelConfig
from agents.muzero.searches import reanalysed_sequences, rows_per_chunk, tree_bytes
from agents.sequences import SequenceConfig, frame_record
from agents.workload import PhaseWork, Workload
from environments.interface import EnvironmentSpec
from networks.config import DTYPE_BYTES, BackboneConfig, ResNetConfig


def _require_at_least(field: str, value: object, minimum: int) -> None:
  require(
    type(value) is int and value >= minimum, field, value, f"an integer of at least {minimum}"
  )


def _require_fraction(field: str, value: float) -> None:
  require(0 <= value <= 1, field, value, "between 0 and 1")


@dataclasses.dataclass(frozen=True)
class GumbelSearchConfig:
  """Gumbel MuZero's search (Danihelka et al. 2022).

  Attributes:
    num_simulations: model steps of one search.
    max_considered_actions: actions at the root that sequential halving starts with.
    gumbel_scale: of the noise that picks them when acting and reanalysing; greedy
      acting uses 0.
    value_scale: c_scale of sigma(q) = (c_visit + max_b N(b)) c_scale q.
    visit_offset: c_visit of the same.
    dirichlet_fraction: share of noise in the root's prior when acting; 0 as published.
    dirichlet_alpha: of that noise.
    rescale_epsilon: least range of the Q values that are rescaled to [0, 1].
  """

  num_simulations: int = 8
  max_considered_actions: int = 15
  gumbel_scale: float = 1.0
  value_scale: float = 0.1
  visit_offset: float = 50.0
  dirichlet_fraction: float = 0.0
  dirichlet_alpha: float = 0.3
  rescale_epsilon: float = 0.01

  def __post_init__(self):
    _require_at_least("agent.search.num_simulations", self.num_simulations, 1)
    _require_at_least("agent.search.max_considered_actions", self.max_considered_actions, 1)
    for name in ("gumbel_scale", "value_scale", "visit_offset"):
      value = getattr(self, name)
      require(value >= 0, f"agent.search.{name}", value, "at least 0")
    _require_fraction("agent.search.dirichlet_fraction", self.dirichlet_fraction)
    for name in ("dirichlet_alpha", "rescale_epsilon"):
      value = getattr(self, name)
      require(value > 0, f"agent.search.{name}", value, "above 0")


@dataclasses.dataclass(frozen=True)
class PUCTSearchConfig:
  """MuZero's own search (Schrittwieser et al. 2020, appendix B).

  Attributes:
    num_simulations: model steps of one search.
    pb_c_init: c_1 of the pUCT formula.
    pb_c_base: c_2 of the pUCT formula.
    dirichlet_fraction: share of noise in the root's prior when acting.
    dirichlet_alpha: of that noise.
    temperature: of the visit counts from which actions are drawn when acting.
    rescale_epsilon: least range of the Q values that are rescaled to [0, 1].
  """

  num_simulations: int = 50
  pb_c_init: float = 1.25
  pb_c_base: float = 19652.0
  dirichlet_fraction: float = 0.25
  dirichlet_alpha: float = 0.3
  temperature: float = 1.0
  rescale_epsilon: float = 0.01

  def __post_init__(self):
    _require_at_least("agent.search.num_simulations", self.num_simulations, 1)
    _require_fraction("agent.search.dirichlet_fraction", self.dirichlet_fraction)
    for name in ("pb_c_init", "pb_c_base", "dirichlet_alpha", "temperature", "rescale_epsilon"):
      value = getattr(self, name)
      require(value > 0, f"agent.search.{name}", value, "above 0")


SearchConfig = GumbelSearchConfig | PUCTSearchConfig

SEARCHES = MappingProxyType({"gumbel": GumbelSearchConfig, "puct": PUCTSearchConfig})


@dataclasses.dataclass(frozen=True)
class MuZeroConfig:
  """Settings of MuZero (Schrittwieser et al. 2020, 2021).

  Attributes:
    backbone: of the representation.
    model: dynamics and heads.
    sequences: replay, and how frames become samples.
    search: which search, for acting and reanalysing alike.
    rollout_length: T, steps of every environment between two learning turns.
    discount: gamma.
    target_interval: updates between copies to the target network.
    reanalyse_fraction: share of the drawn sequences whose policies are searched anew,
      rounded up to whole sequences; the others keep the policy of when they were acted.
    search_batch: most positions that are searched side by side when reanalysing, but at
      least one of every sequence; bounds the memory of the search trees.
    policy_coefficient: weight of the policy loss.
    value_coefficient: weight of the value loss; .25 in 2020, 1 in Unplugged.
    reward_coefficient: weight of the reward loss.
    self_supervision: further losses on the unrolled latents; off by default.
    optimizer: AdamW's settings.
  """

  backbone: BackboneConfig = dataclasses.field(default_factory=ResNetConfig)
  model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
  sequences: SequenceConfig = dataclasses.field(default_factory=SequenceConfig)
  search: SearchConfig = dataclasses.field(default_factory=GumbelSearchConfig)
  rollout_length: int = 16
  discount: float = 0.997
  target_interval: int = 100
  reanalyse_fraction: float = 1.0
  search_batch: int = 2048
  policy_coefficient: float = 1.0
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
    for name in ("rollout_length", "target_interval", "search_batch"):
      _require_at_least(f"agent.{name}", getattr(self, name), 1)
    for name in ("discount", "reanalyse_fraction"):
      value = getattr(self, name)
      require(0 <= value <= 1, f"agent.{name}", value, "between 0 and 1")
    for name in ("policy_coefficient", "value_coefficient", "reward_coefficient"):
      value = getattr(self, name)
      require(value >= 0, f"agent.{name}", value, "at least 0")

  def check_batch(self, num_environments: int) -> None:
    """Raises ValueError if replay cannot hold a sequence of every environment."""
    self.sequences.check_capacity(num_environments)

  def workload(self, spec: EnvironmentSpec, *, num_devices: int = 1) -> Workload:
    """Returns what these settings amount to in such environments, over all devices.

    Each device rounds its own part of `reanalyse_fraction` and cuts its own chunks.
    """
    sequences = self.sequences
    rows = sequences.starts + sequences.unroll_steps
    part = sequences.sequences_per_batch // num_devices
    columns = reanalysed_sequences(self.reanalyse_fraction, part)
    chunk = rows_per_chunk(rows, columns, limit=self.search_batch)
    phase = PhaseWork(
      name="model",
      source=sequences.request(),
      searches=num_devices * rows * columns,
      searched_at_once=num_devices * chunk * columns,
    )
    latent = math.prod(self.backbone.latent_shape(spec.observation_shape))
    gumbel = isinstance(self.search, GumbelSearchConfig)
    return Workload(
      rollout_length=self.rollout_length,
      record={**frame_record(spec), "search_policy": ((spec.num_actions,), "float32")},
      phases=(phase,),
      simulations=self.search.num_simulations,
      tree_bytes=tree_bytes(
        self.search.num_simulations,
        num_actions=spec.num_actions,
        latent_bytes=latent * DTYPE_BYTES[self.backbone.compute_dtype],
        extra_values=spec.num_actions if gumbel else 0,  # the root's Gumbel noise
      ),
    )

  def learning_early(self, num_environments: int) -> "MuZeroConfig":
    """Returns settings with the same work for every step, which learn as soon as can be."""
    return dataclasses.replace(self, sequences=self.sequences.learning_early(num_environments))
