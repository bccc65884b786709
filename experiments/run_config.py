"""The configuration of a run's directory: written once, the same ever after, or extended."""

import os
from pathlib import Path
from typing import Any

from experiments.config import (
  ExperimentConfig,
  differences,
  differing_fields,
  flatten,
  load_config,
  save_config,
  to_mapping,
)
from experiments.errors import UsageError
from experiments.status_file import STATUS_FILE
from training.json_file import read_json, write_json
from training.whole_file import whole_file

TOTAL = "training.total_environment_steps"


def config_path(directory: Path) -> Path:
  """Returns where the configuration of the run in `directory` is."""
  return directory / "config.yaml"


def write_config(config: ExperimentConfig, directory: Path) -> None:
  """Writes config.yaml, whole or not at all."""
  with whole_file(config_path(directory)) as part:
    save_config(config, part)


def check_config(config: ExperimentConfig, directory: Path) -> ExperimentConfig | None:
  """Checks that `directory` holds no run, this one, or a shorter one that can become this one.

  A run can be extended, to more environment steps and nothing else, where nothing that it has
  done depends on how long it was to be: learning rates are constant.

  Returns:
    What the directory holds if that is shorter, else None.

  Raises:
    UsageError: it holds another run; names the first fields.
  """
  path = config_path(directory)
  if not path.exists():
    return None
  there = load_config(path)
  differing = differing_fields(there, config)
  if not differing:
    return None
  is_longer = config.training.total_environment_steps > there.training.total_environment_steps
  if differing == [TOTAL] and is_longer:
    if not (scheduled := _scheduled(config)):
      return there
    advice = (
      f"A run can be extended only with a constant learning rate, and {'; '.join(scheduled)}. "
      "Choose another --out, or the same steps."
    )
  else:
    advice = "Choose another --out, or the same fields; more environment steps extend a run."
  raise UsageError(
    f"{directory} holds a run of another configuration (there, asked for): "
    f"{'; '.join(differences(there, config)[:5])}. {advice}"
  )


def claim_config(config: ExperimentConfig, directory: Path) -> None:
  """Makes the directory one of this configuration; only for who holds it (`locked`).

  The result of a shorter run that is extended is set aside, see `read_earlier_result`.

  Raises:
    UsageError: as `check_config`.
  """
  shorter = check_config(config, directory)
  if shorter is None and config_path(directory).exists():
    return
  if shorter is not None:
    steps = shorter.training.total_environment_steps
    print(
      f"{directory} is extended from {steps:,} to "
      f"{config.training.total_environment_steps:,} environment steps"
    )
    _say_that_it_goes_on(config, directory)
    path = directory / "result.json"
    if path.exists():  # the rollout that reached the steps may have gone past them
      ended = read_json(path).get("environment_steps", steps)
      os.replace(path, _earlier_result_path(directory, ended))
  write_config(config, directory)


def read_earlier_result(directory: Path, environment_steps: int) -> dict[str, Any]:
  """Reads the result with which the run ended before it was extended; {} if none can be read.

  Args:
    directory: of the run.
    environment_steps: of the last checkpoint that was made before.
  """
  result = read_json(_earlier_result_path(directory, environment_steps))
  return result if {"seconds", "evaluations"} <= result.keys() else {}


def _say_that_it_goes_on(config: ExperimentConfig, directory: Path) -> None:
  """Status.json no longer says that the run has ended, but where it will."""
  path = directory / STATUS_FILE
  if status := read_json(path):
    changed = {
      "state": "interrupted",
      "total_environment_steps": config.training.total_environment_steps,
      "seconds_left": None,
    }
    write_json(path, status | changed)


def _earlier_result_path(directory: Path, environment_steps: int) -> Path:
  return directory / f"result_{environment_steps}.json"


def _scheduled(config: ExperimentConfig) -> list[str]:
  """Returns `field is 'value'` for every learning-rate schedule that is not constant."""
  leaves = flatten(to_mapping(config)).items()
  return [
    f"{name} is {value!r}"
    for name, value in leaves
    if name.endswith(".schedule") and value != "constant"
  ]
