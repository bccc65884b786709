"""The loop of training, its parts and the calls between them timed.

The loop, actor, learner and sources are those of training. Evaluations and checkpoints
are left out.
"""

import contextlib
import dataclasses
from pathlib import Path
import sys
import tempfile
from typing import NamedTuple

import jax

from agents.interface import Agent
from environments.factory import make_environment
from environments.interface import Environment
from experiments.config import ExperimentConfig
from experiments.registry import make_agent
from experiments.runner import make_sources
from experiments.stage_clock import Compilation, Measured, Spent, StageClock
from replay.interface import Rollouts, Sequences, Source
from training.actor import Actor, CompiledAct
from training.checkpoint import Checkpoints
from training.config import TrainingConfig
from training.keys import Purpose, derive_seed
from training.learner import Learner
from training.loop import Loop
from training.metrics import MetricsWriter
from training.sharding import make_mesh

ENDLESS = 2**62  # environment steps


@dataclasses.dataclass(frozen=True)
class Repeat:
  """One measurement: turns of the loop until every phase has learnt.

  Attributes:
    steps: environment steps.
    spent: on all of it.
    stages: what each stage took.
    samples: samples that each phase has learnt from, every epoch counted.
    draws: of each phase.
    compilations: what was compiled meanwhile; should be nothing.
  """

  steps: int
  spent: Spent
  stages: dict[str, Spent]
  samples: dict[str, int]
  draws: dict[str, int]
  compilations: tuple[Compilation, ...]


class Parts(NamedTuple):
  """The parts of a training loop, timed."""

  agent: Agent
  actor: Measured
  act: Measured
  learner: Measured
  sources: list[Measured]


def build_parts(config: ExperimentConfig, clock: StageClock, stack: contextlib.ExitStack) -> Parts:
  """Builds what the runner builds, with a clock between the parts."""
  environment = open_environment(config, stack)
  agent = make_agent(
    config.agent,
    environment.spec,
    total_environment_steps=config.training.total_environment_steps,
  )
  mesh = make_mesh()
  timed_environment = Measured(environment, clock, {"observe": "environment", "act": "environment"})
  act = Measured(CompiledAct(agent.act, mesh), clock, {"__call__": "act"})
  actor = Actor(timed_environment, act, rollout_length=agent.rollout_length)
  with clock.stage("init"):
    learner = Learner(agent, mesh=mesh, seed=config.seed)
    jax.block_until_ready(learner.state)
  learner_stages = {name: name for name in ("publish", "postprocess", "check_finite")}
  learner_stages |= {
    "make_targets": lambda index: f"{agent.phases[index].name}/make_targets",
    "update": lambda index: f"{agent.phases[index].name}/update",
  }
  sources = make_sources(agent, mesh=mesh, seed=config.seed)
  return Parts(
    agent,
    Measured(actor, clock, {"collect": "acting"}),
    act,
    Measured(learner, clock, learner_stages),
    [_measured_source(source, clock) for source in sources],
  )


def _measured_source(source: Source, clock: StageClock) -> Measured:
  names = ("add", "draw", "update_priorities")  # not every source has the last
  return Measured(source, clock, {name: "sources" for name in names if hasattr(source, name)})


def open_environment(config: ExperimentConfig, stack: contextlib.ExitStack) -> Environment:
  """Opens the environments of training; they are closed with `stack`."""
  environment = make_environment(
    config.environment.game,
    levels=config.environment.level_distribution,
    num_environments=config.environment.num_environments,
    seed=derive_seed(config.seed, Purpose.ENVIRONMENT),
  )
  stack.callback(environment.close)
  return environment


def run_loop(
  config: ExperimentConfig,
  parts: Parts,
  *,
  clock: StageClock,
  repeats: int,
  stack: contextlib.ExitStack,
) -> list[Repeat]:
  """Runs the loop: a warm-up, in which everything is compiled, then the repeats."""
  directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
  metrics = MetricsWriter(directory)
  stack.callback(metrics.close)
  checkpoints = Checkpoints(directory / "checkpoints", keep=1)
  stack.callback(checkpoints.close)
  loop = Loop(
    parts.agent,
    actor=parts.actor,
    learner=parts.learner,
    sources=parts.sources,
    snapshots=[None] * len(parts.sources),
    evaluation_sets=[],
    evaluation_act=parts.act,
    checkpoints=checkpoints,
    metrics=metrics,
    training=TrainingConfig(total_environment_steps=ENDLESS, checkpoint_every=ENDLESS),
    evaluation=dataclasses.replace(config.evaluation, every=ENDLESS),
    seed=config.seed,
  )
  schedule = _Schedule(loop, parts, clock=clock, repeats=repeats)
  with contextlib.suppress(_Measured):
    loop.run(should_stop=schedule.turn_ended)
  return schedule.measured


class _Measured(Exception):
  """Ends the loop at once: a loop that is asked to stop would save a checkpoint."""


class _Schedule:
  """Cuts the loop's turns into repeats: each until every phase has learnt at least once."""

  def __init__(self, loop: Loop, parts: Parts, *, clock: StageClock, repeats: int):
    self._loop = loop
    steps = parts.actor.steps_per_rollout
    self._samples_per_draw = {  # every epoch counted
      phase.name: phase.epochs * samples_per_draw(phase.source, steps_per_rollout=steps)
      for phase in parts.agent.phases
    }
    self._clock = clock
    self._repeats = repeats
    self._warm = False
    self._start = clock.read()
    self._steps = 0
    self._compiled = 0
    self._draws = [0] * len(parts.agent.phases)
    self.measured: list[Repeat] = []

  def turn_ended(self) -> bool:
    """Takes note of a turn; returns that the loop goes on.

    Raises:
      _Measured: that was the last turn.
    """
    counters = self._loop.counters
    draws = [now - then for now, then in zip(counters.draws, self._draws, strict=True)]
    if not all(draws):
      return False
    spent = Spent(*(b - a for a, b in zip(self._start, self._clock.read(), strict=True)))
    steps = counters.environment_steps - self._steps
    stages = self._clock.take()
    if self._warm:
      samples = {
        name: count * self._samples_per_draw[name]
        for name, count in zip(self._samples_per_draw, draws, strict=True)
      }
      compilations = tuple(self._clock.compilations[self._compiled :])
      by_phase = dict(zip(self._samples_per_draw, draws, strict=True))
      self.measured.append(Repeat(steps, spent, stages, samples, by_phase, compilations))
      what = f"repeat {len(self.measured)} of {self._repeats}"
    else:
      what = "warm-up, compiling"
    print(f"{what}: {steps:,} steps in {spent.seconds:.1f} s", file=sys.stderr, flush=True)
    self._warm = True
    self._steps, self._draws = counters.environment_steps, list(counters.draws)
    self._compiled = len(self._clock.compilations)
    self._start = self._clock.read()
    if len(self.measured) == self._repeats:
      raise _Measured
    return False


def samples_per_draw(request: Rollouts | Sequences, *, steps_per_rollout: int) -> int:
  """Returns how many samples a draw holds that answers `request`.

  Args:
    request: what a phase asks for.
    steps_per_rollout: environment steps in one rollout, T * B.
  """
  if isinstance(request, Rollouts):
    return request.count * steps_per_rollout
  return request.samples_per_draw
