"""How fast a configuration trains, stage by stage."""

from collections.abc import Mapping, Sequence
import contextlib
from typing import Any

import jax
import numpy as np

from agents.interface import Phase
from experiments import machine
from experiments.config import ExperimentConfig, to_mapping
from experiments.measured_loop import Repeat, build_parts, open_environment, run_loop
from experiments.registry import agent_name
from experiments.runner import check_devices
from experiments.stage_clock import Compilation, StageClock

ALONE = "environment alone"
# Stages inside acting; `storing` is what acting takes beside the others.
INSIDE_ACTING = ("environment", "act", "storing")


def measure(config: ExperimentConfig, *, repeats: int) -> dict[str, Any]:
  """Measures the speed of `config`, stage by stage.

  Args:
    config: what would be trained.
    repeats: measurements, after a first one that compiles and is not counted.

  Returns:
    Machine, stages, compiled functions and memory as plain values, ready for JSON.

  Raises:
    UsageError: a batch does not divide over the devices.
    NonFiniteError: as in training.
  """
  check_devices(config, num_devices=len(jax.devices()))
  facts = machine.describe() | {"devices": [str(device) for device in jax.devices()]}
  before = machine.peak_resident_bytes()
  with contextlib.ExitStack() as stack:
    clock = StageClock()
    stack.callback(clock.close)
    parts = build_parts(config, clock, stack)
    length = parts.agent.rollout_length
    alone = _environment_alone(config, clock, length=length, repeats=repeats)
    cores = machine.CoreUse()
    measured = run_loop(config, parts, clock=clock, repeats=repeats, stack=stack)
    facts["cores_used"] = cores.since_start()
    compilations = {"act": parts.actor.compilations(), **parts.learner.compilations()}
  return {
    "agent": agent_name(config.agent),
    "config": to_mapping(config),
    "machine": facts,
    "repeats": repeats,
    "rollout_length": parts.agent.rollout_length,
    "environment_alone": alone,
    "whole_loop": {
      "steps": [each.steps for each in measured],
      "seconds": [each.seconds for each in measured],
      "steps_per_second": [each.steps / each.seconds for each in measured],
    },
    "stages": _stages(parts.agent.phases, measured, clock),
    "functions": _functions(compilations, clock.compilations),
    "compiled_while_measuring": [
      compilation._asdict() for each in measured for compilation in each.compilations
    ],
    "memory": _memory(before, clock),
  }


def _environment_alone(
  config: ExperimentConfig, clock: StageClock, *, length: int, repeats: int
) -> dict[str, Any]:
  """Steps the environments with uniformly random actions, `repeats` rollouts and one before."""
  steps = length * config.environment.num_environments
  with contextlib.ExitStack() as stack:
    environment = open_environment(config, stack)
    spec = environment.spec
    actions = np.random.default_rng(config.seed).integers(
      spec.num_actions, size=(length, spec.num_environments), dtype=np.int32
    )
    seconds = []
    for _ in range(repeats + 1):
      with clock.stage(ALONE):
        for action in actions:
          environment.act(action)
          environment.observe()
      seconds.append(clock.take()[ALONE])
  return {
    "steps_per_second": [steps / each for each in seconds[1:]],
    "seconds": seconds[1:],
    "peak_resident_bytes": clock.peak_resident.get(ALONE),
  }


def _stages(
  phases: Sequence[Phase], measured: Sequence[Repeat], clock: StageClock
) -> list[dict[str, Any]]:
  """Returns one row per stage of the loop; the shares of the outer ones add up to 1."""
  learning = [f"{phase.name}/{what}" for phase in phases for what in ("make_targets", "update")]
  outer = ["acting", "postprocess", "sources", *learning, "publish"]
  rows = []
  for name in ["acting", *INSIDE_ACTING, *outer[1:], "rest"]:
    seconds = [_seconds(each, name, outer) for each in measured]
    phase = name.removesuffix("/update")
    learnt = [each.samples[phase] for each in measured] if name.endswith("/update") else None
    rows.append(
      {
        "stage": name,
        "inside": "acting" if name in INSIDE_ACTING else None,
        "seconds": seconds,
        "share": [a / each.seconds for a, each in zip(seconds, measured, strict=True)],
        "steps_per_second": _rates([each.steps for each in measured], seconds),
        "samples_per_second": None if learnt is None else _rates(learnt, seconds),
        "peak_resident_bytes": clock.peak_resident.get(name) if name in outer else None,
      }
    )
  return rows


def _seconds(repeat: Repeat, name: str, outer: Sequence[str]) -> float:
  """Returns a stage's seconds; two stages are what others leave over."""
  if name == "rest":
    return repeat.seconds - sum(repeat.stages.get(each, 0.0) for each in outer)
  if name == "storing":
    return repeat.stages["acting"] - repeat.stages["environment"] - repeat.stages["act"]
  return repeat.stages.get(name, 0.0)


def _rates(counts: Sequence[int], seconds: Sequence[float]) -> list[float | None]:
  return [count / each if each > 0 else None for count, each in zip(counts, seconds, strict=True)]


def _functions(
  counts: Mapping[str, int], compilations: Sequence[Compilation]
) -> list[dict[str, Any]]:
  """Returns how often and how long each of the loop's functions was compiled.

  The seconds are those of everything that was compiled in the function's stage: the
  small operations around it, such as deriving a key, take little.

  Args:
    counts: compilations by function, as the loop's parts count them.
    compilations: as JAX reported them.
  """
  seconds: dict[str, float] = {}
  for each in compilations:
    seconds[each.stage] = seconds.get(each.stage, 0.0) + each.seconds
  return [
    {"function": name, "compilations": counts.get(name), "seconds": round(seconds.get(name, 0), 3)}
    for name in [*(name for name in seconds if name not in counts), *counts]
  ]


def _memory(before: int, clock: StageClock) -> dict[str, Any]:
  """Returns peaks in bytes: resident before and over everything, and on each device."""
  peaks = [before, machine.peak_resident_bytes(), *clock.peak_resident.values()]
  devices = {str(device): device.memory_stats() or {} for device in jax.devices()}
  return {
    "resident_before_bytes": before,
    "peak_resident_bytes": max(peaks),
    "peak_device_bytes": {name: stats.get("peak_bytes_in_use") for name, stats in devices.items()},
  }
