"""What folding and compression are worth in an agent that learns from replayed sequences.

Each is the time of one way over the time of the other, on equal numbers of samples.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import statistics
import time
from typing import Any

import jax
import numpy as np

from experiments.config import ExperimentConfig
from experiments.measured_loop import open_environment
from experiments.registry import make_agent
from experiments.run_plan import spec_of
from experiments.runner import make_sources
from replay.interface import Record
from replay.sequence_buffer import SequenceBuffer
from training.learner import Learner
from training.sharding import make_mesh

RING = 8  # sequences that every environment's ring holds here: several blocks of frames
DRAWS = 8  # in one measurement of the replay


def measure_ratios(config: ExperimentConfig, *, repeats: int) -> dict[str, Any]:
  """Measures both ratios.

  Args:
    config: of an agent that learns from replayed sequences.
    repeats: measurements of each; the median is taken.

  Returns:
    `folding` and `compression`, each with the seconds of both ways and their ratio.

  """
  with contextlib.ExitStack() as stack:
    record = _frames(config, stack)
    return {
      "folding": _folding(config, record, repeats=repeats),
      "compression": _compression(config, record, repeats=repeats),
    }


def _folding(config: ExperimentConfig, record: Record, *, repeats: int) -> dict[str, Any]:
  """Targets of as many samples from sequences of S starts, and from windows of one start."""
  seconds = {}
  for starts in (config.agent.sequences.starts, 1):
    sequences = dataclasses.replace(config.agent.sequences, starts=starts)
    agent = make_agent(
      dataclasses.replace(config.agent, sequences=_of_one_ring(sequences, config)),
      spec_of(config),
      total_environment_steps=config.training.total_environment_steps,
    )
    mesh = make_mesh()
    learner = Learner(agent, mesh=mesh, seed=config.seed)
    (source,) = make_sources(agent, mesh=mesh, seed=config.seed)
    source.add(record)
    drawn = jax.block_until_ready(source.draw())

    def make(learner=learner, drawn=drawn):
      jax.block_until_ready(learner.make_targets(0, drawn, draw=0))

    seconds[starts] = _median_seconds(make, repeats)
  folded, unfolded = seconds.values()
  return {
    "samples": config.agent.sequences.batch_size,
    "starts": config.agent.sequences.starts,
    "seconds_folded": folded,
    "seconds_unfolded": unfolded,
    "ratio": unfolded / folded,
  }


def _compression(config: ExperimentConfig, record: Record, *, repeats: int) -> dict[str, Any]:
  """Draws from a replay of compressed blocks, and from one of raw frames."""
  request = _of_one_ring(config.agent.sequences, config).request()
  raw = record["observation"].nbytes
  seconds = {}
  for kind, budget in (("raw", raw), ("compressed", raw * 3 // 4)):
    kept = dataclasses.replace(request, memory_budget=budget)
    buffer = SequenceBuffer(kept, seed=config.seed, ahead=0)
    buffer.add(record)

    def draw(buffer=buffer):
      for _ in range(DRAWS):
        buffer.draw()

    seconds[kind] = _median_seconds(draw, repeats) / DRAWS
  samples = request.samples_per_draw
  return {
    "samples_per_second_raw": samples / seconds["raw"],
    "samples_per_second_compressed": samples / seconds["compressed"],
    "ratio": seconds["compressed"] / seconds["raw"],
  }


def _of_one_ring(sequences, config: ExperimentConfig):
  """Returns settings of a small, full ring from which as much may be drawn as is asked for."""
  frames = RING * config.agent.sequences.length * config.environment.num_environments
  return dataclasses.replace(
    sequences,
    capacity=frames,
    min_size=sequences.length * config.environment.num_environments,
    samples_per_insert=float(10**6),
  )


def _frames(config: ExperimentConfig, stack: contextlib.ExitStack) -> Record:
  """Returns a record of random play that fills the ring, `[T, B, ...]`."""
  environment = open_environment(config, stack)
  spec = environment.spec
  work = config.agent.workload(spec)
  steps = RING * config.agent.sequences.length
  record = {
    name: np.zeros((steps, spec.num_environments, *shape), dtype)
    for name, (shape, dtype) in work.record.items()
  }
  generator = np.random.default_rng(config.seed)
  for t in range(steps):
    action = generator.integers(spec.num_actions, size=spec.num_environments, dtype=np.int32)
    record["observation"][t] = environment.observe().observation
    environment.act(action)
    after = environment.observe()
    record["action"][t], record["reward"][t] = action, after.reward
    record["discount"][t] = 1.0 - after.first
  return record


def _median_seconds(function: Callable[[], None], repeats: int) -> float:
  """Calls once to compile, then `repeats` times; returns the median."""
  function()
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    function()
    seconds.append(time.perf_counter() - start)
  return statistics.median(seconds)
