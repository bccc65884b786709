"""What a run will take, worked out from its configuration alone: no JAX, nothing allocated.

Not in it, because only a compiler knows: the activations and gradients of an update.
"""

import dataclasses
import math
from typing import Any

from agents.workload import PhaseWork, Workload
from environments.factory import environment_spec
from environments.interface import EnvironmentSpec
from experiments.config import ExperimentConfig
from experiments.errors import UsageError
from experiments.memory_items import MemoryItem, leaf_bytes, memory_items
from experiments.open_rollouts import most_waiting, waiting
from replay.interface import Rollouts, Sequences
from replay.plan import LIKELY_COMPRESSION

EVALUATION_SETS = 2  # training levels, and all levels of the same mode


@dataclasses.dataclass(frozen=True)
class PhasePlan:
  """What a phase learns in a run.

  Attributes:
    name: of the phase.
    draws: how often its source hands out data.
    updates: optimiser steps.
    samples: that the updates learn from, every epoch counted.
    uses_per_sample: `samples` over the run's environment steps.
    searches: positions searched anew for its targets.
  """

  name: str
  draws: int
  updates: int
  samples: int
  uses_per_sample: float
  searches: int


@dataclasses.dataclass(frozen=True)
class RunPlan:
  """What a run will take.

  Attributes:
    environment_steps: that the run makes, over all environments; one step is one frame.
    turns: rollouts, each followed by what learning is due.
    phases: what is learnt, in order.
    acting_searches: positions searched to act in training; 0 for an agent that does not.
    simulations_per_search: model steps of one search.
    evaluations: the first and the last included.
    evaluation_episodes: of all evaluations, on training levels and on all levels.
    evaluation_steps_at_most: if every one of those episodes timed out.
    memory: what is kept, in bytes.
    replay_frames: that replays keep, over all environments.
    replay_raw: bytes of those frames, uncompressed.
    replay_compressed_estimate: bytes of the same as compressed blocks, at the mean over
      Procgen's games.
    open_rollouts: bytes of rollouts of groups that are not complete, in that checkpoint before
      the last which holds the most of them; 0 where all of these fall between two groups.
    open_rollouts_at_end: the same in the last checkpoint, that of the finished run.
    open_rollouts_if_stopped: the most in a checkpoint made after any turn, as when a run is
      stopped.
    parameters: of the agent's networks; None where JAX has not been asked.
  """

  environment_steps: int
  turns: int
  phases: tuple[PhasePlan, ...]
  acting_searches: int
  simulations_per_search: int
  evaluations: int
  evaluation_episodes: int
  evaluation_steps_at_most: int
  memory: tuple[MemoryItem, ...]
  replay_frames: int
  replay_raw: int
  replay_compressed_estimate: int
  open_rollouts: int
  open_rollouts_at_end: int
  open_rollouts_if_stopped: int
  parameters: int | None = None

  @property
  def steps_per_turn(self) -> int:
    """Environment steps of one rollout, over all environments."""
    return self.environment_steps // self.turns

  @property
  def updates(self) -> int:
    """Optimiser steps of all phases."""
    return sum(phase.updates for phase in self.phases)

  @property
  def reanalysing_searches(self) -> int:
    """Positions searched anew for targets, over all phases."""
    return sum(phase.searches for phase in self.phases)

  @property
  def simulations(self) -> int:
    """Model steps of all searches of training."""
    return self.simulations_per_search * (self.acting_searches + self.reanalysing_searches)

  @property
  def samples(self) -> int:
    """That the updates of all phases learn from, every epoch counted."""
    return sum(phase.samples for phase in self.phases)

  @property
  def host_bytes(self) -> int:
    """Bytes kept in the host's memory."""
    return sum(item.size for item in self.memory if item.place == "host")

  @property
  def device_bytes(self) -> int:
    """Bytes kept on the devices, all together."""
    return sum(item.size for item in self.memory if item.place == "device")


def plan_run(config: ExperimentConfig, *, num_devices: int = 1) -> RunPlan:
  """Works out what a run takes.

  Args:
    config: of the run.
    num_devices: that it is split over.

  Raises:
    UsageError: a request of its replay cannot be met or does not divide over the devices, or
      the run ends before anything is learnt; the message has the arithmetic.
  """
  spec = spec_of(config)
  work = config.agent.workload(spec, num_devices=num_devices)
  check_batches(work, num_devices=num_devices)
  steps_per_turn = work.rollout_length * spec.num_environments
  turns = _count_turns(config, steps_per_turn)
  steps = turns * steps_per_turn
  phases = tuple(_plan_phase(each, work, spec=spec, turns=turns) for each in work.phases)
  if not any(phase.updates for phase in phases):
    raise _too_short(config, work)
  evaluations, episodes = _evaluations(config, steps_per_turn)
  replayed = [each.source for each in work.phases if isinstance(each.source, Sequences)]
  raw = leaf_bytes(work.record["observation"]) * sum(request.capacity for request in replayed)
  return RunPlan(
    environment_steps=steps,
    turns=turns,
    phases=phases,
    acting_searches=steps if work.simulations else 0,
    simulations_per_search=work.simulations,
    evaluations=evaluations,
    evaluation_episodes=episodes,
    evaluation_steps_at_most=episodes * spec.time_limit,
    memory=tuple(memory_items(config, work, spec)),
    replay_frames=sum(request.capacity for request in replayed),
    replay_raw=raw,
    replay_compressed_estimate=raw // LIKELY_COMPRESSION,
    **_open_rollouts(config, work, steps_per_turn),
  )


def _count_turns(config: ExperimentConfig, steps_per_turn: int) -> int:
  """Returns the rollouts of a run, in integers: the last reaches the steps asked for."""
  return -(-config.training.total_environment_steps // steps_per_turn)


def _too_short(config: ExperimentConfig, work: Workload) -> UsageError:
  """Returns the error for a run in which no phase ever learns."""
  steps_per_turn = work.rollout_length * config.environment.num_environments
  least = min(
    each.source.count * steps_per_turn
    if isinstance(each.source, Rollouts)
    else each.source.min_size
    + math.ceil(each.source.samples_per_draw / each.source.samples_per_insert)
    for each in work.phases
  )
  return UsageError(
    f"training.total_environment_steps must be at least {least} for anything to be learnt, got "
    f"{config.training.total_environment_steps}"
  )


def replays(config: ExperimentConfig) -> bool:
  """Whether the agent learns from replayed sequences."""
  work = config.agent.workload(spec_of(config))
  return any(isinstance(phase.source, Sequences) for phase in work.phases)


def spec_of(config: ExperimentConfig) -> EnvironmentSpec:
  """Returns what the environments of training look like; opens none."""
  environment = config.environment
  return environment_spec(environment.game, num_environments=environment.num_environments)


def to_mapping(plan: RunPlan) -> dict[str, Any]:
  """Returns a plan and what follows from it as plain values, ready for JSON."""
  derived = (
    "steps_per_turn",
    "updates",
    "samples",
    "reanalysing_searches",
    "simulations",
    "host_bytes",
    "device_bytes",
  )
  return {**dataclasses.asdict(plan), **{name: getattr(plan, name) for name in derived}}


def check_batches(work: Workload, *, num_devices: int) -> None:
  """Raises UsageError unless every drawn batch of sequences divides over the devices."""
  for phase in work.phases:
    if isinstance(phase.source, Sequences) and phase.source.batch_size % num_devices:
      raise UsageError(
        f"agent.sequences.batch_size {phase.source.samples_per_draw} over starts "
        f"{phase.source.starts} gives {phase.source.batch_size} sequences, which must be a "
        f"multiple of the {num_devices} devices"
      )


def _plan_phase(
  phase: PhaseWork, work: Workload, *, spec: EnvironmentSpec, turns: int
) -> PhasePlan:
  steps_per_turn = work.rollout_length * spec.num_environments
  if isinstance(phase.source, Rollouts):
    draws = turns // phase.source.count
    samples_per_draw = phase.source.count * steps_per_turn
  else:
    draws = phase.source.draws_earned(turns * steps_per_turn)
    samples_per_draw = phase.source.samples_per_draw
  samples = draws * samples_per_draw * phase.epochs
  return PhasePlan(
    name=phase.name,
    draws=draws,
    updates=draws * phase.epochs * phase.num_minibatches,
    samples=samples,
    uses_per_sample=samples / (turns * steps_per_turn),
    searches=draws * phase.searches,
  )


def _open_rollouts(config: ExperimentConfig, work: Workload, steps_per_turn: int) -> dict[str, int]:
  """Returns the bytes of rollouts that wait for the rest of their group, by name in the plan."""
  counts = [each.source.count for each in work.phases if isinstance(each.source, Rollouts)]
  every = config.training.checkpoint_every
  turns = _count_turns(config, steps_per_turn)
  rollout = steps_per_turn * sum(map(leaf_bytes, work.record.values()))

  def most(turns: int, every: int) -> int:
    return most_waiting(counts, turns=turns, steps_per_turn=steps_per_turn, checkpoint_every=every)

  return {
    "open_rollouts": rollout * most(turns - 1, every),
    "open_rollouts_at_end": rollout * waiting(counts, turn=turns),
    "open_rollouts_if_stopped": rollout * most(turns, steps_per_turn),
  }


def _evaluations(config: ExperimentConfig, steps_per_turn: int) -> tuple[int, int]:
  """Returns how many evaluations a run makes, and of how many episodes."""
  every = config.evaluation.every
  before_the_last = _count_turns(config, steps_per_turn) - 1
  # One after each of these turns that passes a multiple of `every`.
  between = min(before_the_last, before_the_last * steps_per_turn // every)
  quotas = (1 + between) * config.evaluation.episodes_per_environment
  quotas += config.evaluation.final_episodes_per_environment
  return 2 + between, quotas * config.evaluation.num_environments * EVALUATION_SETS
