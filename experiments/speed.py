"""How fast a configuration trains, stage by stage."""

from collections.abc import Mapping, Sequence
import contextlib
from typing import Any

import jax
import numpy as np

from agents.interface import Agent, Phase
from experiments import machine
from experiments.config import ExperimentConfig, to_mapping
from experiments.measured_loop import Repeat, build_parts, open_environment, run_loop
from experiments.registry import agent_name
from experiments.runner import plan_here
from experiments.stage_clock import NOTHING, Compilation, Spent, StageClock

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
    UsageError: it does not fit in memory, or a batch does not divide over the devices.
    NonFiniteError: as in training.
  """
  plan_here(config)
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
      **_speeds([each.steps for each in measured], [each.spent for each in measured]),
    },
    "stages": _stages(parts.agent.phases, measured, clock),
    "rates": work_rates(parts.agent, measured),
    "functions": _functions(compilations, clock.compilations),
    "compiled_while_measuring": [
      compilation._asdict() for each in measured for compilation in each.compilations
    ],
    "memory": _memory(before, clock),
  }


def work_rates(agent: Agent, measured: Sequence[Repeat]) -> list[dict[str, Any]]:
  """Returns what is done per second of the stages that do it, a row for every kind of work.

  Acting: decisions, and what the agent says that a decision amounts to, over the time of
  `act` alone. Learning: samples over the time of targets and updates together, updates
  over their own, and what the phase says that its targets amount to over theirs.

  Args:
    agent: as measured.
    measured: the repeats.
  """
  rows = [
    _rate(name, ("act",), measured, [count * each.steps for each in measured])
    for name, count in {"decisions": 1, **agent.work}.items()
  ]
  for phase in agent.phases:
    targets, update = f"{phase.name}/make_targets", f"{phase.name}/update"
    draws = [each.draws[phase.name] for each in measured]
    updates = [count * phase.epochs * phase.num_minibatches for count in draws]
    samples = [each.samples[phase.name] for each in measured]
    rows.append(_rate("samples", (targets, update), measured, samples))
    rows.append(_rate("updates", (update,), measured, updates))
    rows += [
      _rate(name, (targets,), measured, [amount * count for count in draws])
      for name, amount in phase.work.items()
    ]
  return rows


def _rate(
  work: str, stages: tuple[str, ...], measured: Sequence[Repeat], counts: Sequence[int]
) -> dict[str, Any]:
  """Returns counts over the seconds, and over the core seconds, of some stages together."""
  spent = [
    Spent(*map(sum, zip(*(each.stages.get(stage, NOTHING) for stage in stages), strict=True)))
    for each in measured
  ]
  cores = [Spent(each.core_seconds, each.core_seconds) for each in spent]
  return {
    "work": work,
    "stages": list(stages),
    "per_second": _rates(counts, spent),
    "per_core_second": _rates(counts, cores),
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
    spent = []
    for _ in range(repeats + 1):
      with clock.stage(ALONE):
        for action in actions:
          environment.act(action)
          environment.observe()
      spent.append(clock.take()[ALONE])
  return {
    **_speeds([steps] * repeats, spent[1:]),
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
    spent = [_spent(each, name, outer) for each in measured]
    phase = name.removesuffix("/update")
    learnt = [each.samples[phase] for each in measured] if name.endswith("/update") else None
    rows.append(
      {
        "stage": name,
        "inside": "acting" if name in INSIDE_ACTING else None,
        "share": [a.seconds / each.spent.seconds for a, each in zip(spent, measured, strict=True)],
        **_speeds([each.steps for each in measured], spent),
        "samples_per_second": None if learnt is None else _rates(learnt, spent),
        "peak_resident_bytes": clock.peak_resident.get(name) if name in outer else None,
      }
    )
  return rows


def _spent(repeat: Repeat, name: str, outer: Sequence[str]) -> Spent:
  """Returns what a stage took; two stages are what others leave over."""
  if name == "rest":
    return _left(repeat.spent, [repeat.stages.get(each, NOTHING) for each in outer])
  if name == "storing":
    inside = [repeat.stages[each] for each in INSIDE_ACTING if each != name]
    return _left(repeat.stages["acting"], inside)
  return repeat.stages.get(name, NOTHING)


def _left(whole: Spent, parts: Sequence[Spent]) -> Spent:
  return Spent(*(total - sum(each) for total, *each in zip(whole, *parts, strict=True)))


def _speeds(steps: Sequence[int], spent: Sequence[Spent]) -> dict[str, list[float | None]]:
  """Returns what each repeat took and its environment steps per second."""
  return {
    "seconds": [each.seconds for each in spent],
    "core_seconds": [each.core_seconds for each in spent],
    "steps_per_second": _rates(steps, spent),
  }


def _rates(counts: Sequence[int], spent: Sequence[Spent]) -> list[float | None]:
  return [
    count / each.seconds if each.seconds > 0 else None
    for count, each in zip(counts, spent, strict=True)
  ]


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
  called = [name for name, count in counts.items() if count]
  return [
    {"function": name, "compilations": counts.get(name), "seconds": round(seconds.get(name, 0), 3)}
    for name in [*(name for name in seconds if name not in called), *called]
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
