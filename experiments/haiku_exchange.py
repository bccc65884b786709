"""A run's parameters as a Haiku tree, and a run that starts from such a tree.

Only what the network has learnt travels: optimisers, replay, running statistics and
counters start anew.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import tempfile
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding
import numpy as np

from agents.interface import Agent
from environments.interface import EnvironmentSpec
from experiments import runner
from experiments.config import ExperimentConfig, load_config, to_mapping
from experiments.errors import UsageError
from experiments.haiku_file import read_haiku_file, write_haiku_file
from experiments.haiku_parameters import parameter_names
from experiments.registry import agent_name, make_agent
from experiments.run_config import claim_config
from experiments.run_plan import spec_of
from networks.haiku_bridge import COLLECTION, ParameterMismatchError, to_flax, to_haiku
from networks.haiku_names import LAYER_NORM_EPSILON, Names
from training.checkpoint import Checkpoints, Snapshot, find_misfit
from training.checkpoint_reader import CheckpointReader
from training.json_file import write_json
from training.metrics import MetricsWriter

# Fields of train states that hold the network's parameters; the second is a copy.
PARAMETER_FIELDS = ("params", "target_params")


@dataclasses.dataclass(frozen=True)
class Exported:
  """What was written.

  Attributes:
    step: environment steps of the checkpoint.
    parameters: how many arrays.
    left_out: collections without Haiku names, such as the heads of self-supervised losses.
  """

  step: int
  parameters: int
  left_out: tuple[str, ...]


def export_run(directory: Path, path: Path, *, step: int | None) -> Exported:
  """Writes a checkpoint's parameters; the run is only read.

  Args:
    directory: of the run.
    path: of the file.
    step: environment steps of the checkpoint; by default the latest good one.

  Raises:
    UsageError: there is no run, or its network has other parameters than are named.
    CheckpointError: no checkpoint can be read.
    OSError: the file could not be written.
  """
  config = load_config(directory / "config.yaml")
  spec = spec_of(config)
  shapes = jax.eval_shape(_make_agent(config, spec).init, jax.random.key(0))
  here = SingleDeviceSharding(jax.devices()[0])
  wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
  step, state = CheckpointReader(directory / "checkpoints").restore_train_state(wanted, step=step)
  variables = jax.device_get(state.params)
  names = parameter_names(config, spec)
  try:
    tree = to_haiku({COLLECTION: variables[COLLECTION]}, names)
  except ParameterMismatchError as error:
    raise UsageError(f"{directory}: {error}") from error
  left_out = tuple(sorted(variables.keys() - {COLLECTION}))
  header = {
    "agent": agent_name(config.agent),
    "config": to_mapping(config),
    "step": step,
    "commit": _commit(directory),
    "observation_shape": list(spec.observation_shape),
    "num_actions": spec.num_actions,
    "layer_norm_epsilon": LAYER_NORM_EPSILON,
    "left_out": list(left_out),
  }
  write_haiku_file(path, tree, header=header)
  return Exported(step, len(names), left_out)


def import_run(
  path: Path, config: ExperimentConfig, directory: Path, *, header: Mapping[str, Any] | None
) -> None:
  """Makes a run directory whose checkpoint at step 0 has the parameters in a file.

  Everything else of the run is as `train` would start it. The directory appears when it is
  complete.

  Args:
    path: of the file.
    config: of the run.
    directory: must not exist, or be empty.
    header: what the file says about itself, if it does; recorded in imported.json.

  Raises:
    UsageError: the file is damaged or does not fit; names every mismatch.
    CheckpointError: the checkpoint could not be written.
    OSError: another file could not be written.
  """
  variables = _read_parameters(path, parameter_names(config, spec_of(config)))
  runner.check_devices(config, num_devices=len(jax.devices()))
  parent = directory.absolute().parent
  parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=parent) as temporary:
    made = Path(temporary) / "run"
    made.mkdir()
    claim_config(config, made)
    _save_start(config, made, variables)
    write_json(made / "imported.json", {"file": str(path.absolute()), "header": header})
    os.replace(made, directory)


def _make_agent(config: ExperimentConfig, spec: EnvironmentSpec) -> Agent:
  total = config.training.total_environment_steps
  return make_agent(config.agent, spec, total_environment_steps=total)


def _commit(directory: Path) -> str | None:
  """Returns the commit that a run was started from, as its run.json has it."""
  try:
    return json.loads((directory / "run.json").read_text())["commit"]
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _read_parameters(path: Path, names: Names) -> dict[str, Any]:
  """Returns the file's parameters as a flax tree.

  Raises:
    UsageError: they do not fit the table, or are not finite; names every one.
  """
  tree = read_haiku_file(path)
  problems = [
    f"not finite: {module}/{name}"
    for module, arrays in tree.items()
    for name, x in arrays.items()
    if x.dtype.kind == "f" and not np.all(np.isfinite(x))
  ]
  try:
    variables = to_flax(tree, names)
  except ParameterMismatchError as error:
    raise UsageError(f"{path}: {ParameterMismatchError([*error.problems, *problems])}") from error
  if problems:
    raise UsageError(f"{path}: {ParameterMismatchError(problems)}")
  return variables


class _CheckpointsOfOtherParameters:
  """The checkpoints of a loop, with other parameters of the network than the loop's own."""

  def __init__(self, checkpoints: Checkpoints, variables: Mapping[str, Any]):
    self._checkpoints = checkpoints
    self._variables = variables

  def steps(self) -> list[int]:
    """Returns the steps that have a checkpoint."""
    return self._checkpoints.steps()

  def save(self, step: int, snapshot: Snapshot) -> None:
    """Writes a checkpoint with the other parameters."""
    state = snapshot.train_state
    fields = {field.name for field in dataclasses.fields(state)}
    replaced = {
      name: self._replace(getattr(state, name)) for name in PARAMETER_FIELDS if name in fields
    }
    self._checkpoints.save(step, snapshot._replace(train_state=state.replace(**replaced)))

  def _replace(self, own: Mapping[str, Any]) -> dict[str, Any]:
    named = {collection: own[collection] for collection in self._variables}
    misfit = find_misfit(self._variables, named)
    if misfit is not None:
      raise UsageError(f"the agent's network is not the one that its names are of: {misfit}")
    new = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), self._variables, named)
    return {**own, **new}


def _save_start(config: ExperimentConfig, directory: Path, variables: Mapping[str, Any]) -> None:
  """Writes the checkpoint at step 0, with `variables` as the network's."""
  with contextlib.ExitStack() as stack:
    metrics = MetricsWriter(directory)
    stack.callback(metrics.close)
    checkpoints = Checkpoints(directory / "checkpoints", keep=config.training.keep_checkpoints)
    stack.callback(checkpoints.close)
    loop = runner.build_loop(
      config,
      checkpoints=_CheckpointsOfOtherParameters(checkpoints, variables),
      metrics=metrics,
      replay_directory=directory / "replay",
      stack=stack,
    )
    loop.save()
    loop.write_status("not started")
