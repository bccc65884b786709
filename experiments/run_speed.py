"""How fast a configuration trains here, from a short run of its loop."""

import contextlib
import dataclasses
import statistics

from experiments import machine
from experiments.config import ExperimentConfig

TURNS = 2  # measurements, after one that compiles


@dataclasses.dataclass(frozen=True)
class Speed:
  """How fast a configuration trains.

  Attributes:
    steps_per_second: environment steps with all the learning that they earn, without
      evaluations and checkpoints.
    acting_steps_per_second: environment steps of acting alone.
    cores_of_others: that other processes used meanwhile; None where that is not told.
  """

  steps_per_second: float
  acting_steps_per_second: float
  cores_of_others: float | None


def measure_speed(config: ExperimentConfig) -> Speed:
  """Measures the speed of `config` in a few turns; says on stderr how far it is.

  The loop is that of training, with the same work for every step, but learning begins as
  soon as the agent's settings allow.

  Raises:
    NonFiniteError: as in training.
  """
  from experiments.measured_loop import build_parts, run_loop  # here: they import JAX
  from experiments.stage_clock import StageClock

  environments = config.environment.num_environments
  early = dataclasses.replace(config, agent=config.agent.learning_early(environments))
  with contextlib.ExitStack() as stack:
    clock = StageClock()
    stack.callback(clock.close)
    parts = build_parts(early, clock, stack)
    cores = machine.CoreUse()
    measured = run_loop(early, parts, clock=clock, repeats=TURNS, stack=stack)
    others = cores.since_start()["others"]
  return Speed(
    steps_per_second=statistics.median(each.steps / each.spent.seconds for each in measured),
    acting_steps_per_second=statistics.median(
      each.steps / each.stages["acting"].seconds for each in measured
    ),
    cores_of_others=others,
  )
