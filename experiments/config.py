"""One run's whole configuration, and its form as a YAML file.

`ExperimentConfig` only composes what stands beside the code that it configures.
"""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
import types
import typing
from typing import Any

import yaml

from environments.config import EnvironmentConfig
from experiments.errors import UsageError, nearest, unknown
from experiments.registry import AgentConfig, agent_entry, agent_name
from training.config import EvaluationConfig, TrainingConfig


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
  """Everything that determines a run.

  Attributes:
    agent: its settings; their type says which agent.
    environment: game, training levels, number of environments.
    training: how long, and what is kept.
    evaluation: how often, on how many episodes.
    seed: of everything random.
  """

  agent: AgentConfig
  environment: EnvironmentConfig = dataclasses.field(default_factory=EnvironmentConfig)
  training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
  evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
  seed: int = 0

  def __post_init__(self):
    if type(self.seed) is not int or not 0 <= self.seed < 2**31:
      raise ValueError(f"seed must be an integer from 0 to 2147483647, got {self.seed!r}")
    self.agent.check_batch(self.environment.num_environments)


def to_mapping(config: ExperimentConfig) -> dict[str, Any]:
  """Returns the resolved configuration as plain values, `agent_name` first."""
  return {"agent_name": agent_name(config.agent), **_plain(config)}


def from_mapping(mapping: Mapping[str, Any]) -> ExperimentConfig:
  """Rebuilds a configuration strictly.

  Raises:
    UsageError: a field is missing, unknown, or of a wrong type or value; names it.
  """
  fields = dict(mapping)
  if "agent_name" not in fields:
    raise UsageError("the configuration has no field agent_name")
  entry = agent_entry(str(fields.pop("agent_name")))
  return _build(ExperimentConfig, fields, "", {"agent": entry.config})


def save_config(config: ExperimentConfig, path: Path) -> None:
  """Writes the resolved configuration as YAML."""
  path.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))


def load_config(path: Path) -> ExperimentConfig:
  """Reads a configuration that `save_config` wrote, or one written by hand in full.

  Raises:
    UsageError: the file cannot be read, or is no valid configuration; names the file.
  """
  try:
    mapping = yaml.safe_load(path.read_text())
  except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
    raise UsageError(f"cannot read {path}: {' '.join(str(error).split())}") from error
  if not isinstance(mapping, dict):
    raise UsageError(f"{path} holds no configuration")
  try:
    return from_mapping(mapping)
  except ValueError as error:
    raise UsageError(f"{path}: {error}") from error


def differences(a: ExperimentConfig, b: ExperimentConfig) -> list[str]:
  """Returns `field: value in a, value in b` for every field in which two configs differ."""
  flat_a, flat_b = flatten(to_mapping(a)), flatten(to_mapping(b))
  return [
    f"{name}: {flat_a.get(name, 'absent')!r}, {flat_b.get(name, 'absent')!r}"
    for name in differing_fields(a, b)
  ]


def differing_fields(a: ExperimentConfig, b: ExperimentConfig) -> list[str]:
  """Returns the dotted paths of the fields in which two configs differ, or that one lacks."""
  flat_a, flat_b = flatten(to_mapping(a)), flatten(to_mapping(b))
  return [name for name in {**flat_a, **flat_b} if flat_a.get(name, ...) != flat_b.get(name, ...)]


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns the leaves of a nested mapping by dotted path."""
  flat = {}
  for name, value in mapping.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat


def _plain(value: Any) -> Any:
  """Dataclasses become mappings, tuples lists; a member of a union says its `kind`."""
  if isinstance(value, tuple):
    return [_plain(each) for each in value]
  if not dataclasses.is_dataclass(value):
    return value
  hints = typing.get_type_hints(type(value))
  fields = {}
  for field in dataclasses.fields(value):
    plain = _plain(getattr(value, field.name))
    if field.name != "agent" and _dataclass_members(hints[field.name])[1:]:
      plain = {"kind": type(getattr(value, field.name)).__name__, **plain}
    fields[field.name] = plain
  return fields


def _dataclass_members(hint: Any) -> list[type]:
  """Returns the dataclasses that an annotation allows."""
  members = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
  return [member for member in members if dataclasses.is_dataclass(member)]


_UNIONS = (typing.Union, types.UnionType)


def _build(cls: type, mapping: Any, path: str, types_by_field: Mapping[str, type]) -> Any:
  """Builds dataclass `cls` of plain values; `types_by_field` settles unions beforehand."""
  if not isinstance(mapping, Mapping):
    raise UsageError(f"{path or 'the configuration'} must be a mapping, got {mapping!r}")
  hints = typing.get_type_hints(cls)
  names = [field.name for field in dataclasses.fields(cls)]
  for name in mapping:
    if name not in names:
      raise UsageError(f"unknown field {path}{name}.{nearest(str(name), names)}")
  missing = [name for name in names if name not in mapping]
  if missing:
    raise UsageError(f"field {path}{missing[0]} is missing")
  values = {
    name: _convert(types_by_field.get(name, hints[name]), mapping[name], path + name)
    for name in names
  }
  return cls(**values)


def _convert(hint: Any, value: Any, path: str) -> Any:
  """Converts a plain value to what an annotation says."""
  members = _dataclass_members(hint)
  if len(members) == 1:
    return _build(members[0], value, f"{path}.", {})
  if members:
    kinds = {member.__name__: member for member in members}
    kind = str(value.get("kind") if isinstance(value, Mapping) else None)
    if kind not in kinds:
      raise unknown(f"{path}.kind", kind, kinds)
    fields = {name: each for name, each in value.items() if name != "kind"}
    return _build(kinds[kind], fields, f"{path}.", {})
  if typing.get_origin(hint) is tuple and isinstance(value, list):
    element = typing.get_args(hint)[0]
    return tuple(_convert(element, each, path) for each in value)
  if hint is float and type(value) is int:
    return float(value)
  if isinstance(hint, type) and type(value) is not hint:
    raise UsageError(f"{path} must be of type {hint.__name__}, got {value!r}")
  return value
