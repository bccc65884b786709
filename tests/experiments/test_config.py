"""A run's configuration as YAML: there and back, and strict."""

import copy
import dataclasses

import pytest
import yaml

from environments.config import EnvironmentConfig
from experiments.config import (
  ExperimentConfig,
  differences,
  flatten,
  from_mapping,
  load_config,
  save_config,
  to_mapping,
)
from experiments.errors import UsageError
from experiments.presets import PRESETS, make_preset
from experiments.registry import AGENTS, agent_name
from networks.config import BACKBONES

VARIANTS = {"dqn": "q_learning"}  # presets that are configurations of another agent
PAIRS = [(preset, agent) for preset, agents in PRESETS.items() for agent in agents]


@pytest.fixture(params=AGENTS)
def mapping(request):
  """A valid configuration of every agent, as plain values."""
  return copy.deepcopy(to_mapping(make_preset("smoke", request.param)))


def leaves(value, path=()):
  """Yields the path of every leaf of a nested mapping."""
  for name, each in value.items():
    if isinstance(each, dict):
      yield from leaves(each, (*path, name))
    else:
      yield (*path, name)


def at(mapping, path):
  for name in path:
    mapping = mapping[name]
  return mapping


@pytest.mark.parametrize(("preset", "agent"), PAIRS)
def test_yaml_brings_back_every_preset(preset, agent, tmp_path):
  config = make_preset(preset, agent)
  save_config(config, tmp_path / "config.yaml")
  loaded = load_config(tmp_path / "config.yaml")
  assert loaded == config
  assert type(loaded.agent) is type(config.agent)
  assert agent_name(loaded.agent) == VARIANTS.get(agent, agent)
  assert differences(loaded, config) == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_yaml_brings_back_every_backbone(backbone, tmp_path):
  config = make_preset("smoke", "ppo")
  agent = dataclasses.replace(config.agent, backbone=BACKBONES[backbone]())
  config = dataclasses.replace(config, agent=agent)
  save_config(config, tmp_path / "config.yaml")
  assert load_config(tmp_path / "config.yaml") == config


def test_a_small_number_stays_a_number(tmp_path):
  """YAML 1.1 reads 1e-05 as a string; it must not come to that."""
  config = make_preset("smoke", "ppo")
  optimizer = dataclasses.replace(config.agent.optimizer, learning_rate=1e-05)
  config = dataclasses.replace(config, agent=dataclasses.replace(config.agent, optimizer=optimizer))
  save_config(config, tmp_path / "config.yaml")
  assert load_config(tmp_path / "config.yaml").agent.optimizer.learning_rate == 1e-05


def test_the_file_says_everything(mapping):
  """Every field of every dataclass is there, none has to be guessed from a default."""
  config = from_mapping(mapping)

  def count(value):
    if not dataclasses.is_dataclass(value):
      return 1
    return sum(count(getattr(value, field.name)) for field in dataclasses.fields(value))

  named = [name for name in flatten(mapping) if name != "agent_name" and not name.endswith("kind")]
  assert len(named) == count(config)


class TestStrictness:
  def test_every_missing_field_is_named(self, mapping):
    for path in leaves(mapping):
      broken = copy.deepcopy(mapping)
      del at(broken, path[:-1])[path[-1]]
      with pytest.raises(UsageError, match=rf"{path[-1]}\b"):
        from_mapping(broken)

  def test_every_unknown_field_is_named_with_the_nearest(self, mapping):
    for path in leaves(mapping):
      if path[-1] in ("agent_name", "kind"):
        continue
      broken = copy.deepcopy(mapping)
      at(broken, path[:-1])[path[-1] + "s_"] = 1
      with pytest.raises(UsageError, match=f"unknown field .*{path[-1]}s_.*Did you mean"):
        from_mapping(broken)

  @pytest.mark.parametrize("wrong", ["three", 3.5, ["a"], {"a": 1}, None])
  def test_every_wrong_type_is_named(self, mapping, wrong):
    for path in leaves(mapping):
      right = at(mapping, path)
      if type(right) is type(wrong) and not isinstance(right, str | list):
        continue
      broken = copy.deepcopy(mapping)
      at(broken, path[:-1])[path[-1]] = wrong
      name = "agent" if path[-1] == "agent_name" else path[-1]
      with pytest.raises(ValueError, match=name):
        from_mapping(broken)

  def test_true_is_not_a_number(self, mapping):
    for path in leaves(mapping):
      if type(at(mapping, path)) in (int, float):
        broken = copy.deepcopy(mapping)
        at(broken, path[:-1])[path[-1]] = True
        with pytest.raises(ValueError, match="True"):
          from_mapping(broken)

  def test_a_section_must_be_a_section(self, mapping):
    for section in ("agent", "environment", "training", "evaluation"):
      with pytest.raises(UsageError, match=section):
        from_mapping({**mapping, section: 3})

  def test_an_agent_that_is_not_there(self, mapping):
    with pytest.raises(UsageError, match="ppoo"):
      from_mapping({**mapping, "agent_name": "ppoo"})

  def test_an_integer_where_a_number_is_asked_for_is_one(self, mapping):
    mapping["agent"]["discount"] = 1
    config = from_mapping(mapping)
    assert type(config.agent.discount) is float

  @pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "3", "\x00"])
  def test_a_file_that_is_no_configuration_is_named(self, tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"config\.yaml") as error:
      load_config(path)
    assert "\n" not in str(error.value)

  def test_a_file_that_is_cut_short_is_never_taken_for_a_whole_one(self, tmp_path):
    config = make_preset("smoke", "ppo")
    path = tmp_path / "config.yaml"
    save_config(config, path)
    lines = path.read_text().splitlines(keepends=True)
    for end in range(len(lines)):
      path.write_text("".join(lines[:end]))
      with pytest.raises(UsageError):
        load_config(path)

  def test_a_file_runs_nothing(self, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"!!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(UsageError):
      load_config(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, True, "0", None])
def test_a_wrong_seed_is_refused(seed):
  with pytest.raises(ValueError, match="seed"):
    dataclasses.replace(make_preset("smoke", "ppo"), seed=seed)


def test_a_batch_that_does_not_divide_is_refused():
  config = make_preset("smoke", "ppo")
  steps = config.agent.rollout_length * 3
  agent = dataclasses.replace(config.agent, num_minibatches=steps + 1)
  with pytest.raises(ValueError, match="num_minibatches"):
    ExperimentConfig(agent=agent, environment=EnvironmentConfig(num_environments=3))


def test_differences_name_the_field_and_both_values():
  a = make_preset("smoke", "ppo")
  b = dataclasses.replace(
    a, seed=5, environment=dataclasses.replace(a.environment, levels="hard-10")
  )
  assert differences(a, b) == ["environment.levels: 'easy-200', 'hard-10'", "seed: 0, 5"]
  assert yaml.safe_load(yaml.safe_dump(to_mapping(a))) == to_mapping(a)
