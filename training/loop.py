"""The one loop: collect, hand the data to the sources, run every phase that is due.

Synchronous and deterministic: what happens follows from counts alone, never from a clock.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import time
from typing import Any

import jax
import numpy as np

from agents.interface import Agent, Phase
from replay.interface import SnapshotStore, Source
from training.actor import Actor, CompiledAct
from training.calibration import read_values
from training.checkpoint import CheckpointError, Checkpoints, Snapshot
from training.config import EvaluationConfig, TrainingConfig
from training.counters import Counters
from training.episodes import Episode
from training.evaluation import EvaluationSet, evaluate
from training.keys import Purpose, derive_key
from training.learner import Learner
from training.memory import resident_bytes
from training.metrics import MetricsWriter
from training.processes import ALONE, Processes
from training.shared_checkpoints import SharedCheckpoints
from training.turn import Turn, naming_the_step


class Interrupted(Exception):
  """The run was asked to stop; it has saved a checkpoint and can be resumed."""


class Loop:
  """A run: actor, learner, sources, evaluation, checkpoints and metrics."""

  def __init__(
    self,
    agent: Agent,
    *,
    actor: Actor,
    learner: Learner,
    sources: Sequence[Source],
    snapshots: Sequence[SnapshotStore | None],
    evaluation_sets: Sequence[EvaluationSet],
    evaluation_act: CompiledAct,
    checkpoints: Checkpoints | SharedCheckpoints,
    metrics: MetricsWriter,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    seed: int,
    processes: Processes = ALONE,
  ):
    self._agent = agent
    self._actor = actor
    self._learner = learner
    self._sources = sources
    self._snapshots = snapshots  # None for a source whose state goes into the checkpoint itself
    self._evaluation_sets = evaluation_sets
    self._evaluation_act = evaluation_act
    self._checkpoints = checkpoints
    self._metrics = metrics
    self._training = training
    self._evaluation = evaluation
    self._key = jax.random.key(seed)
    self._processes = processes
    self._turn = Turn(
      agent, actor=actor, learner=learner, sources=sources, key=self._key, processes=processes
    )
    self.counters = Counters(draws=[0] * len(agent.phases))
    self._last_checkpoint: int | None = None  # environment steps

  def run(self, *, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Trains to the end.

    Args:
      should_stop: asked after every turn; if true in one process, all save a checkpoint and
        the run ends.

    Returns:
      The content of result.json.

    Raises:
      Interrupted: `should_stop` said so.
      NonFiniteError: a loss is not finite; the last checkpoint stays as it is.
    """
    counters, total = self.counters, self._training.total_environment_steps
    self._metrics.start(environment_steps=counters.environment_steps)
    if counters.environment_steps == 0:
      self._evaluate(self._evaluation.episodes_per_environment)
    while counters.environment_steps < total:
      before = counters.environment_steps
      row, episodes = self._turn.run(counters)
      self._report(row, episodes)
      finished = counters.environment_steps >= total
      if not finished and _passed(before, counters.environment_steps, self._evaluation.every):
        self._evaluate(self._evaluation.episodes_per_environment)
      stop = self._processes.any(should_stop()) and not finished
      every = self._training.checkpoint_every
      if stop or finished or _passed(before, counters.environment_steps, every):
        self.save()
        self._write_running(row)  # at once: it is what tells that there was a checkpoint
      if stop:
        raise Interrupted(f"stopped at {counters.environment_steps} environment steps, saved")
    return self._result()

  def save(self) -> None:
    """Writes a checkpoint of everything.

    Raises:
      NonFiniteError: a number in the train state is not finite; nothing is written.
      CheckpointError: it could not be written.
    """
    with naming_the_step(self.counters):
      self._learner.check_finite()
    tracker, environments = self._actor.save_state()
    host = {f"tracker/{name}": value for name, value in tracker.items()}
    host |= {
      f"environment/{i}": np.frombuffer(state, np.uint8) for i, state in enumerate(environments)
    }
    step = self.counters.environment_steps
    for phase, source, store in self._stored_sources():
      if store is None:
        host |= {f"source/{phase.name}/{name}": x for name, x in source.save_state().items()}
      else:
        _save_beside(store, source, step)
    counters = {**dataclasses.asdict(self.counters), "files": self._metrics.save_state()}
    self._checkpoints.save(step, Snapshot(self._learner.state, host, counters))
    self._last_checkpoint = step
    for store in filter(None, self._snapshots):
      store.prune(str(kept) for kept in self._checkpoints.steps())

  def restore(self) -> None:
    """Continues from the latest good checkpoint.

    Raises:
      CheckpointError: there is none, or it does not fit the files beside it.
    """
    step, snapshot = self._checkpoints.restore(
      self._learner.state,
      damage_beside=lambda step: [
        problem
        for store in filter(None, self._snapshots)
        for problem in store.find_damage(str(step))
      ],
    )
    counters = dict(snapshot.counters)
    files = counters.pop("files")
    try:
      self._actor.restore_state(
        _below(snapshot.host, "tracker/"), _environment_states(snapshot.host)
      )
      for phase, source, store in self._stored_sources():
        if store is None:
          source.restore_state(_below(snapshot.host, f"source/{phase.name}/"))
        else:
          store.restore(source, str(step))
      self._metrics.restore_state(files)
    except ValueError as error:
      raise CheckpointError(f"the run cannot continue from step {step}: {error}") from error
    self._learner.place_state(snapshot.train_state)
    self.counters = Counters(**counters)
    self._last_checkpoint = step
    self._checkpoints.drop_after(step)

  def take_up(self, result: Mapping[str, Any]) -> None:
    """Keeps the evaluations with which a run had ended where this one continues.

    Args:
      result: what its `run` returned; it had saved its last checkpoint before evaluating.
    """
    seconds = self.counters.seconds = max(self.counters.seconds, result["seconds"])
    self._metrics.put_back(
      result["evaluations"],
      environment_steps=self.counters.environment_steps,
      seconds=seconds,
    )

  def _stored_sources(self) -> Iterable[tuple[Phase, Source, SnapshotStore | None]]:
    return zip(self._agent.phases, self._sources, self._snapshots, strict=True)

  def _report(self, row: dict[str, Any], episodes: list[Episode]) -> None:
    """Writes a turn's metrics, episodes and status."""
    counters = self.counters
    steps = counters.environment_steps
    means = counters.recent_means()
    row = {
      "training/episode_return": means[0],
      "training/episode_length": means[1],
      "training/level_complete": means[2],
      "training/episodes": counters.episodes,
      "training/time_outs": counters.time_outs,
      **row,
    }
    if (resident := resident_bytes()) is not None:
      row["memory/resident_bytes"] = resident
    self._metrics.write_episodes(episodes, environment_steps=steps)
    self._metrics.write("training", row, environment_steps=steps, seconds=counters.seconds)
    self._write_running(row)

  def _write_running(self, row: Mapping[str, Any]) -> None:
    self.write_status("running", steps_per_second=row["speed/steps_per_second"])

  def write_status(self, state: str, **details: Any) -> None:
    """Says in status.json how the run stands."""
    counters, total = self.counters, self._training.total_environment_steps
    speed = counters.environment_steps / counters.seconds if counters.seconds else None
    remaining = max(0, total - counters.environment_steps)
    status = {
      "environment_steps": counters.environment_steps,
      "total_environment_steps": total,
      "seconds": round(counters.seconds, 1),
      "seconds_left": round(remaining / speed, 1) if speed else None,
      "episode_return": counters.recent_means()[0],
      "last_checkpoint": self._last_checkpoint,
      **details,
    }
    self._metrics.write_status(state, status)

  def _evaluate(self, episodes_per_environment: int) -> list[dict[str, Any]]:
    """Evaluates on every set; returns and writes the rows.

    Of several processes the first alone does, and the others wait: the levels, and so the
    scores, are those of a run of one process.
    """
    start = time.monotonic()
    steps = self.counters.environment_steps
    params = self._learner.publish()
    reading = read_values(self._agent, self._learner.state)
    rows = []
    for index, evaluation_set in enumerate(
      self._evaluation_sets if self._processes.is_first else ()
    ):
      rows.append(
        evaluate(
          evaluation_set,
          self._evaluation_act,
          params,
          episodes_per_environment=episodes_per_environment,
          policy=self._evaluation.policy,
          key=derive_key(self._key, Purpose.EVALUATE, index),
          reading=reading,
        )
      )
    self._processes.wait(f"evaluated-{steps}-{episodes_per_environment}")
    self.counters.seconds += time.monotonic() - start
    for row in rows:
      self._metrics.write("evaluation", row, environment_steps=steps, seconds=self.counters.seconds)
    return rows

  def _result(self) -> dict[str, Any]:
    """Makes the last evaluation; returns the content of result.json."""
    rows = self._evaluate(self._evaluation.final_episodes_per_environment)
    return {
      "environment_steps": self.counters.environment_steps,
      "seconds": round(self.counters.seconds, 3),
      "training_episode_return": self.counters.recent_means()[0],
      "evaluations": rows,
      "compilations": {
        "act": self._actor.compilations(),
        "evaluation_act": self._evaluation_act.compilations(),
        **self._learner.compilations(),
      },
    }


def _passed(before: int, now: int, every: int) -> bool:
  """Whether a multiple of `every` lies in (before, now]."""
  return now // every > before // every


def _save_beside(store: SnapshotStore, source: Source, step: int) -> None:
  """Writes a source's snapshot; a failure leaves the earlier checkpoints good."""
  try:
    store.save(source, str(step))
  except OSError as error:
    raise CheckpointError(f"could not write the replay of step {step}: {error}") from error


def _below(host: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
  """Returns the entries under `prefix`, without it."""
  return {name[len(prefix) :]: x for name, x in host.items() if name.startswith(prefix)}


def _environment_states(host: Mapping[str, np.ndarray]) -> list[bytes]:
  states = _below(host, "environment/")
  return [states[str(i)].tobytes() for i in range(len(states))]
