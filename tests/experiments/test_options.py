"""Command lines: what is set, what help says, and how mistakes are told."""

import contextlib
import dataclasses
import io
import subprocess
import sys

import pytest

from agents.muzero.config import SEARCHES, PUCTSearchConfig
from environments.games import GAMES
from environments.levels import NAMED
from experiments.command_line import COMMANDS, run_command
from experiments.config import flatten, save_config, to_mapping
from experiments.errors import UsageError, nearest
from experiments.options import (
  OptionParser,
  add_selection,
  guarded,
  override_fields,
  parse_with_fields,
)
from experiments.presets import PRESETS, make_preset
from experiments.registry import AGENTS
from networks.config import BACKBONES

PAIRS = [(preset, agent) for preset, agents in PRESETS.items() for agent in agents]


def parse(*arguments):
  parser = OptionParser(prog="test", add_help=False)
  add_selection(parser)
  return parse_with_fields(parser, arguments)[1]


def misspell(name):
  """Doubles a letter in the middle."""
  middle = len(name) // 2
  return name[:middle] + name[middle] + name[middle:]


class TestFields:
  def test_a_preset_is_what_it_says(self):
    assert parse("--agent", "ppo", "--preset", "smoke") == make_preset("smoke", "ppo")

  def test_any_field_goes_on_top(self):
    config = parse(
      "--preset", "smoke", "--environment.game", "bigfish", "--environment.levels=hard-500",
      "--seed", "3", "--agent.clip", "0.3", "--agent.optimizer.learning_rate", "1e-4",
      "--training.total_environment_steps", "99", "--evaluation.policy", "greedy",
    )  # fmt: skip
    assert (config.environment.game, config.environment.levels) == ("bigfish", "hard-500")
    assert (config.seed, config.agent.clip, config.agent.optimizer.learning_rate) == (3, 0.3, 1e-4)
    assert config.training.total_environment_steps == 99
    assert config.evaluation.policy == "greedy"

  def test_nothing_else_changes(self):
    before = flatten(to_mapping(make_preset("smoke", "ppo")))
    after = flatten(to_mapping(parse("--preset", "smoke", "--agent.clip", "0.3")))
    assert {name for name in before if before[name] != after[name]} == {"agent.clip"}

  @pytest.mark.parametrize(("preset", "agent"), PAIRS)
  def test_every_field_of_every_preset_can_be_set(self, preset, agent):
    """Its own value given as text brings back the same configuration."""
    config = make_preset(preset, agent)
    arguments = []
    for name, value in flatten(to_mapping(config)).items():
      if name != "agent_name" and not name.endswith("kind"):
        values = value if isinstance(value, list) else [value]
        arguments += [f"--{name}", *map(str, values)]
    assert override_fields(config, arguments, parser=OptionParser(prog="test")) == config

  @pytest.mark.parametrize("backbone", BACKBONES)
  def test_a_named_backbone_replaces_the_presets(self, backbone):
    config = parse("--preset", "smoke", "--backbone", backbone)
    expected = make_preset("smoke", "ppo")
    agent = dataclasses.replace(expected.agent, backbone=BACKBONES[backbone]())
    assert config == dataclasses.replace(expected, agent=agent)

  def test_a_kind_of_search_replaces_the_presets_with_its_defaults(self):
    config = parse("--agent", "muzero", "--preset", "smoke", "--search", "puct")
    assert config.agent.search == PUCTSearchConfig()
    kept = dataclasses.replace(config.agent, search=make_preset("smoke", "muzero").agent.search)
    assert kept == make_preset("smoke", "muzero").agent
    own = parse("--agent", "muzero", "--preset", "smoke", "--search", "gumbel")
    assert own == make_preset("smoke", "muzero")

  @pytest.mark.parametrize(
    ("name", "field", "value"), [("puct", "pb_c_init", 2.5), ("gumbel", "value_scale", 0.5)]
  )
  def test_the_fields_of_a_search_go_on_top(self, name, field, value, tmp_path):
    config = parse(
      "--agent", "muzero", "--preset", "paper", "--search", name,
      "--agent.search.num_simulations", "16", f"--agent.search.{field}", str(value),
    )  # fmt: skip
    assert config.agent.search == SEARCHES[name](num_simulations=16, **{field: value})
    save_config(config, tmp_path / "config.yaml")
    assert parse("--config", str(tmp_path / "config.yaml"), "--search", name) == config

  def test_a_file_is_the_start_and_fields_go_on_top(self, tmp_path):
    config = dataclasses.replace(make_preset("smoke", "ppo"), seed=17)
    save_config(config, tmp_path / "config.yaml")
    loaded = parse("--config", str(tmp_path / "config.yaml"), "--evaluation.every", "5")
    assert loaded.evaluation.every == 5
    assert dataclasses.replace(loaded, evaluation=config.evaluation) == config


MISTAKES = [
  (["--agent", "pop"], "'ppo'"),
  (["--preset", "labtop"], "'laptop'"),
  (["--backbone", "imapla"], "'impala'"),
  (["--agent", "muzero", "--search", "gumble"], "'gumbel'"),
  (["--agent", "ppo", "--search", "puct"], "ppo does not search"),
  (["--agent", "muzero", "--search", "puct", "--agent.search.gumbel_scale", "1"], "gumbel_scale"),
  (["--calibrate"], "--plan"),
  (["--agent", "muzero", "--agent.reanalyse_fraction", "1.5"], "agent.reanalyse_fraction"),
  (["--agent", "dqn", "--agent.model.hidden", "64"], "agent.model.hidden must be 128, its default"),
  (
    ["--agent", "dqn", "--agent.model.value_support.low", "-5"],
    "agent.model.value_support must be",
  ),
  (["--agent", "muzero", "--environment.num_environments", "48"], "agent.sequences.capacity"),
  (["--config", "/nowhere/config.yaml"], "/nowhere/config.yaml"),
  (["--environment.gmae", "maze"], "'--environment.game'"),
  (["--enviroment.game", "maze"], "'--environment.game'"),
  (["--agnet", "ppo"], "'--agent'"),
  (["--agent.optimiser.learning_rate", "1"], "'--agent.optimizer.learning_rate'"),
  (["--seed"], "--seed"),
  (["--seed", "three"], "'three'"),
  (["--seed", "1.5"], "'1.5'"),
  (["--seed", "-1"], "-1"),
  (["seed", "3"], "seed"),
  (["--agent.clip", "wide"], "'wide'"),
  (["--agent.clip", "7"], "7"),
  (["--agent.num_minibatches", "7"], "agent.num_minibatches"),
  (["--environment.num_environments", "-4"], "-4"),
  (["--environment.num_environments", "1e3"], "'1e3'"),
  (["--environment.levels", "hard-0"], "hard-0"),
  (["--environment.levels", "easy-all@100"], "easy-1000@100"),
  (["--training.total_environment_steps", "0"], "training.total_environment_steps"),
  (["--evaluation.policy", "gredy"], "greedy"),
  (["--agent.optimizer.schedule", "cosin"], "cosine"),
  (["--evaluation.every", "100", "200"], "200"),
]


class TestMistakes:
  @pytest.mark.parametrize(("arguments", "said"), MISTAKES)
  def test_a_mistake_is_one_line_and_exit_code_2(self, arguments, said, capsys, tmp_path):
    out = tmp_path / "run"
    assert guarded(run_command, ["train", "--out", str(out), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert not out.exists()

  @pytest.mark.parametrize("game", GAMES)
  def test_a_misspelt_game_is_answered_with_the_right_one(self, game):
    with pytest.raises(UsageError, match=f"nearest is '{game}'"):
      parse("--environment.game", misspell(game))

  @pytest.mark.parametrize("levels", NAMED)
  def test_misspelt_levels_are_answered_with_the_right_ones(self, levels):
    with pytest.raises(UsageError, match=f"nearest is '{levels}'"):
      parse("--environment.levels", misspell(levels.replace("-", "_")))

  @pytest.mark.parametrize("agent", AGENTS)
  def test_a_misspelt_field_is_answered_with_the_right_one(self, agent):
    for name in flatten(to_mapping(make_preset("smoke", agent))):
      if name != "agent_name" and not name.endswith("kind"):
        with pytest.raises(UsageError, match=f"'--{name}'"):
          parse("--agent", agent, f"--{misspell(name)}", "1")

  def test_options_are_not_abbreviated(self):
    with pytest.raises(UsageError, match="'--preset'"):
      parse("--pre", "smoke")

  def test_an_unknown_command_is_answered_with_the_nearest(self, capsys):
    assert guarded(run_command, ["trian"]) == 2
    assert "'train'" in capsys.readouterr().err

  def test_nothing_near_means_no_suggestion(self):
    assert nearest("zzzz", ["train", "compare"]) == ""


class TestHelp:
  @pytest.mark.parametrize("command", [None, *COMMANDS])
  def test_help_loads_no_jax_and_ends_well(self, command):
    script = (
      "import sys\n"
      "from experiments.command_line import main\n"
      "try:\n  main()\n"
      "except SystemExit as stop:\n  code = stop.code\n"
      "heavy = {'jax', 'flax', 'procgen', 'tensorboardX', 'matplotlib'} & set(sys.modules)\n"
      "sys.exit(f'loaded {heavy}' if heavy else code)\n"
    )
    arguments = ["--help"] if command is None else [command, "--help"]
    done = subprocess.run(
      [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: procplan" in done.stdout

  @pytest.mark.parametrize("command", ["train", "compare"])
  def test_help_explains_every_field(self, command):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
      run_command([command, "--preset", "smoke", "--help"])
    for name in flatten(to_mapping(make_preset("smoke", "ppo"))):
      if name != "agent_name" and not name.endswith("kind"):
        assert f"--{name} " in said.getvalue(), name

  def test_help_shows_the_values_that_would_be_used(self):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
      run_command(["train", "--preset", "smoke", "--seed", "4711", "--help"])
    assert "(default: 4711)" in said.getvalue()

  def test_a_reader_that_stops_reading_is_no_error(self):
    done = subprocess.run(
      f"{sys.executable} -m experiments.train --help | head -n 1",
      shell=True,
      capture_output=True,
      text=True,
      check=True,
    )
    assert done.stderr == ""
