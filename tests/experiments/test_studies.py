"""Studies by name: their grids, the ladder's rungs, and what the plan and the directory say."""

import dataclasses
import itertools
import json
from pathlib import Path
import subprocess
import sys

import pytest

from agents.q_learning.config import QLearningConfig
from environments.levels import parse_levels
from experiments.command_line import run_command
from experiments.config import differences, flatten, from_mapping, to_mapping
from experiments.dqn_presets import CHANGES, SMALL, UsualDQN, updates_in, with_changes
from experiments.errors import UsageError
from experiments.memory_items import gib
from experiments.options import guarded
from experiments.plan import MOST_LISTED, plan_once, total_lines
from experiments.presets import make_preset
from experiments.run_plan import plan_run, spec_of
from experiments.studies.levels import PAPER_LOSSES
from experiments.studies.record import read_record, save_record
from experiments.studies.registry import DEFAULT, STUDIES, make_named_study
from experiments.studies.study import select
from replay.interface import Rollouts

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [(name, preset) for name, presets in STUDIES.items() for preset in presets]
PRESETS = list(STUDIES[DEFAULT])

# What a change may touch: DESIGN.md wants each rung to be a configuration and nothing else.
TOUCHED = {
  "network": (
    "agent.backbone.",
    "agent.network.",
    *(f"agent.model.{name}" for name in ("dynamics_blocks", "head_channels", "hidden")),
  ),
  "sample-reuse": (
    "agent.sequences.samples_per_insert",
    "agent.sequences.priority_exponent",
    "agent.sequences.importance_exponent",
    "agent.target_interval",  # 10,000 environment steps, counted in updates
  ),
  "target-interval": ("agent.target_interval",),
  "batch-size": (
    "agent.sequences.batch_size",
    "agent.sequences.starts",
    "agent.target_interval",
  ),
  "categorical-heads": (
    "agent.heads.",
    "agent.model.value_support.",
    "agent.model.reward_support.",
    "agent.optimizer.adam_epsilon",
  ),
  "reward-decomposition": ("agent.action_value", "agent.model.reward_support."),
}


def changed_fields(a, b):
  flat_a, flat_b = flatten(to_mapping(a)), flatten(to_mapping(b))
  return {name for name in {**flat_a, **flat_b} if flat_a.get(name, ...) != flat_b.get(name, ...)}


def protocol(config):
  """How long and how an agent is trained and evaluated, wherever its checkpoints fall."""
  return dataclasses.replace(config.training, checkpoint_every=1), config.evaluation


def groups_rollouts(config):
  """Whether a checkpoint could hold a part of what the agent learns from at once."""
  sources = [phase.source for phase in config.agent.workload(spec_of(config)).phases]
  return any(isinstance(each, Rollouts) and each.count > 1 for each in sources)


@pytest.mark.parametrize(("name", "preset"), PAIRS)
class TestEveryStudy:
  def test_says_source_command_cost_and_expectation(self, name, preset):
    text = STUDIES[name][preset].__doc__
    option = "" if name == DEFAULT else f"--study {name} "
    for part in ("Source: ", f"procplan compare {option}--preset {preset}", "Cost: ", "Expected"):
      assert part in text, part

  def test_is_on_one_protocol_and_rebuilt_from_its_files(self, name, preset):
    study = make_named_study(name, preset)
    configs = study.agents.values()
    assert len({protocol(config) for config in configs}) == 1
    together = {each.training.checkpoint_every for each in configs if not groups_rollouts(each)}
    assert len(together) == 1
    for config in configs:
      assert from_mapping(to_mapping(config)) == config

  def test_can_be_planned(self, name, preset):
    """Every replay can be made, and every batch divides."""
    study = make_named_study(name, preset)
    for config in study.agents.values():
      assert plan_run(config).updates > 0


def test_a_wrong_study_or_preset_is_answered_with_the_nearest():
  with pytest.raises(UsageError, match="'levels'"):
    make_named_study("level", "smoke")
  with pytest.raises(UsageError, match="'smoke'"):
    make_named_study("contest", "smok")


class TestLadder:
  @pytest.mark.parametrize("preset", PRESETS)
  def test_the_top_is_the_control_and_the_base_a_usual_dqn(self, preset):
    agents = make_named_study("dqn-ladder", preset).agents
    top, base = agents["q_learning"].agent, agents["dqn"].agent
    control = make_preset(preset, "q_learning").agent
    own = {"samples_per_insert": top.sequences.samples_per_insert}
    if preset == "laptop":  # its batches are as small as a usual DQN's, its exploration shorter
      own["batch_size"] = 128
      exploration = dataclasses.replace(control.exploration, decay_steps=25_600)
      control = dataclasses.replace(control, exploration=exploration)
    assert (
      dataclasses.replace(control, sequences=dataclasses.replace(control.sequences, **own)) == top
    )
    assert top.sequences.batch_size > base.sequences.batch_size
    assert base.optimizer.adam_epsilon == 1.5e-4  # Rainbow's
    if preset == "paper":
      assert top == control
    if preset != "smoke":
      assert base.sequences.samples_per_insert / base.sequences.batch_size == 1 / 4
      assert base.target_interval * 4 == 10_000
      assert (base.sequences.starts, base.sequences.priority_exponent) == (1, 0)
      assert top.sequences.samples_per_insert == 20.0

  @pytest.mark.parametrize("preset", PRESETS)
  def test_every_contrast_is_one_named_change(self, preset):
    study = make_named_study("dqn-ladder", preset)
    groups = {each.group for each in study.contrasts}
    assert [(e.group, e.change) for e in study.contrasts] == [
      (group, change) for group in dict.fromkeys(e.group for e in study.contrasts)
      for change in CHANGES
    ]  # fmt: skip
    assert len(groups) == 2
    for each in study.contrasts:
      before, after = study.agents[each.before], study.agents[each.after]
      changed = changed_fields(before, after)
      assert changed, each
      assert {n for n in changed if not n.startswith(TOUCHED[each.change])} == set(), each
      assert dataclasses.replace(after, agent=before.agent) == before

  @pytest.mark.parametrize("preset", PRESETS)
  def test_the_rungs_lead_from_one_end_to_the_other(self, preset):
    study = make_named_study("dqn-ladder", preset)
    in_turn = study.contrasts[: len(CHANGES)]
    assert (in_turn[0].before, in_turn[-1].after) == ("dqn", "q_learning")
    for a, b in itertools.pairwise(in_turn):
      assert a.after == b.before
    assert {each.before for each in study.contrasts[len(CHANGES) :]} == {"dqn"}
    assert len(study.agents) == 2 * len(CHANGES)  # the first rung is the first change alone
    assert len({json.dumps(to_mapping(c)) for c in study.agents.values()}) == len(study.agents)

  @pytest.mark.parametrize("changes", [(), ("sample-reuse",), ("batch-size",), ("network",)])
  def test_the_target_interval_stays_in_environment_steps(self, changes):
    """Whatever the updates are worth, until the interval itself is changed."""
    control = make_named_study("dqn-ladder", "laptop").agents["q_learning"]
    agent = with_changes(control, changes, usual=UsualDQN()).agent
    updates_per_step = agent.sequences.samples_per_insert / agent.sequences.batch_size
    assert agent.target_interval / updates_per_step == pytest.approx(10_000, rel=0.01)

  def test_updates_in_steps_worked_by_hand(self):
    sequences = make_preset("laptop", "dqn").agent.sequences  # 8 uses in batches of 32
    assert [updates_in(steps, sequences) for steps in (4, 10_000, 1, 10)] == [1, 2500, 1, 2]

  @pytest.mark.parametrize("preset", PRESETS)
  def test_the_preset_of_the_base_is_the_lowest_rung(self, preset):
    control = make_preset(preset, "q_learning")
    usual = SMALL if preset == "smoke" else UsualDQN()
    assert make_preset(preset, "dqn") == with_changes(control, (), usual=usual)
    assert isinstance(make_preset(preset, "dqn").agent, QLearningConfig)
    assert with_changes(control, CHANGES, usual=usual) == control

  def test_an_unknown_change_is_refused(self):
    with pytest.raises(ValueError, match="'dueling'"):
      with_changes(make_preset("smoke", "q_learning"), ["dueling"], usual=SMALL)


class TestLevels:
  @pytest.mark.parametrize("preset", PRESETS)
  def test_each_variant_is_muzero_with_one_loss(self, preset):
    agents = make_named_study("levels", preset).agents
    assert set(agents) >= {"muzero", "q_learning", "ppo", "ppg"}
    for loss in PAPER_LOSSES:
      field = f"agent.self_supervision.{loss}_coefficient"
      assert changed_fields(agents["muzero"], agents[f"muzero+{loss}"]) == {field}
      own = agents[f"muzero+{loss}"].agent.self_supervision
      assert list(own.coefficients) == [loss]

  @pytest.mark.parametrize("preset", PRESETS)
  def test_planning_and_each_loss_are_set_against_the_agent_without(self, preset):
    study = make_named_study("levels", preset)
    pairs = {each.change: (each.before, each.after) for each in study.contrasts}
    losses = {loss: ("muzero", f"muzero+{loss}") for loss in PAPER_LOSSES}
    planning = ("q_learning", "muzero")
    assert pairs == {"unrolled model and planning": planning} | losses
    q_learning, muzero = (to_mapping(study.agents[label])["agent"] for label in planning)
    shared = q_learning.keys() & muzero.keys()
    assert {"sequences", "backbone", "model", "optimizer", "target_interval"} <= shared
    assert {name: q_learning[name] for name in shared} == {name: muzero[name] for name in shared}

  def test_the_axis_is_that_of_the_paper(self):
    study = make_named_study("levels", "paper")
    sizes = [(parse_levels(name).mode, parse_levels(name).num_levels) for name in study.levels]
    assert sizes == [("hard", 10), ("hard", 100), ("hard", 500), ("hard", 0)]
    assert (len(study.games), len(study.seeds)) == (16, 3)
    assert len(study.runs()) == 7 * 16 * 4 * 3

  def test_one_figure_is_the_papers_and_one_has_ppo_and_ppg(self):
    study = make_named_study("levels", "gpu")
    without, everything = study.figures.values()
    assert set(everything) == set(study.agents)
    assert set(everything) - set(without) == {"ppo", "ppg"}


WITH_PPG = [pair for pair in PAIRS if "ppg" in make_named_study(*pair).agents]


@pytest.mark.parametrize(("name", "preset"), WITH_PPG)
class TestPPG:
  def test_it_has_four_auxiliary_phases_or_more(self, name, preset):
    """With fewer it is PPO with a single epoch."""
    plan = plan_run(make_named_study(name, preset).agents["ppg"])
    (auxiliary,) = [phase for phase in plan.phases if phase.name == "auxiliary"]
    assert auxiliary.draws >= 4
    assert auxiliary.updates >= 4 * 8

  def test_its_checkpoints_fall_between_groups(self, name, preset):
    """All but the last, which is where the agents' common number of steps is reached."""
    study = make_named_study(name, preset)
    config, others = study.agents["ppg"], study.agents["ppo"].training
    turn = config.agent.rollout_length * config.environment.num_environments
    group = config.agent.rollouts_per_phase * turn
    assert config.training.checkpoint_every % group == 0
    assert config.training.checkpoint_every <= max(group, 1.5 * others.checkpoint_every)
    assert plan_run(config).open_rollouts == 0


def test_minibatches_of_a_short_levels_run_are_as_large_as_the_presets():
  """Of the plan: 13 rollouts in groups of 3, 6 passes over 192 segments, 4 at a time."""
  agents = [make_named_study("levels", "laptop").agents["ppg"], make_preset("laptop", "ppg")]
  plans = [plan_run(config).phases[-1] for config in agents]
  assert plans[0].updates == 4 * 6 * 48
  assert plans[0].samples / plans[0].updates == plans[1].samples / plans[1].updates == 4 * 256


def test_the_contest_has_its_steps_and_levels():
  for preset in ("gpu", "paper"):
    study = make_named_study("contest", preset)
    assert study.levels == ("easy-200",)
    for config in study.agents.values():
      assert config.training.total_environment_steps == 8_000_000


@pytest.mark.parametrize("agent", ["ppo", "ppg"])
def test_rollouts_are_those_of_the_published_protocol_of_the_levels(agent):
  """Cobbe et al. 2020: workers of 64 environments and 256 steps, on hard levels four of them."""
  protocols = [("contest", "gpu", 1), ("contest", "paper", 1), ("comparison", "gpu", 1)]
  protocols += [("comparison", "paper", 4), ("levels", "paper", 4)]
  for name, preset, workers in protocols:
    study = make_named_study(name, preset)
    assert {parse_levels(each).mode for each in study.levels} == {
      "easy" if workers == 1 else "hard"
    }
    config = study.agents[agent]
    found = (config.environment.num_environments, config.agent.rollout_length)
    assert found == (64 * workers, 256), (name, preset)


class TestCommandLine:
  @pytest.fixture(autouse=True)
  def _elsewhere(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

  def test_the_plan_of_a_large_study_is_summed_up(self, tmp_path, capsys):
    arguments = ["compare", "--study", "levels", "--preset", "paper", "--plan"]
    assert run_command(arguments) == 0
    said = capsys.readouterr().out
    study = make_named_study("levels", "paper")
    count = len(study.runs())
    assert count > MOST_LISTED
    plans = {label: plan_run(config) for label, config in study.agents.items()}
    for name in ("environment_steps", "updates", "simulations"):
      total = sum(getattr(plan, name) for plan in plans.values()) * count // len(plans)
      assert f"{total:,}" in said, name
    assert f"{count} runs in runs/levels_paper" in said
    assert "hours not known" in said
    assert "…" not in said
    assert list(tmp_path.iterdir()) == []

  def test_filters_and_fields_apply_to_any_study(self, capsys):
    arguments = ["compare", "--study", "dqn-ladder", "--preset", "smoke", "--plan"]
    arguments += ["--agents", "dqn", "q_learning", "--seeds", "3", "--games", "coinrun"]
    assert run_command([*arguments, "--agent.discount", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "dqn_coinrun_easy-200_seed-3" in said
    assert "2 runs in runs/dqn-ladder_smoke" in said

  def test_a_run_that_cannot_be_is_named_and_nothing_else_is_printed(self, capsys):
    arguments = ["compare", "--preset", "smoke", "--plan"]
    assert guarded(run_command, [*arguments, "--training.total_environment_steps", "600"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: muzero_leaper_easy-200_seed-0: training.total_environment")
    assert said.err.count("\n") == 1

  @pytest.mark.parametrize(
    ("arguments", "said"),
    [
      (["--study", "dqn_ladder"], "'dqn-ladder'"),
      (["--study", "levels", "--agents", "muzero+spd"], "'muzero+spr'"),
      (["--study", "contest", "--preset", "labtop"], "'laptop'"),
    ],
  )
  def test_a_mistake_is_answered_with_the_nearest(self, arguments, said, capsys):
    assert guarded(run_command, ["compare", "--plan", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1

  def test_a_plan_needs_no_jax(self):
    code = (
      "import sys\nfrom experiments.command_line import run_command\n"
      "assert run_command(['compare', '--study', 'levels', '--preset', 'paper', '--plan']) == 0\n"
      "sys.exit(str({'jax', 'flax', 'procgen', 'matplotlib'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
      [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


class TestTotals:
  def test_they_are_sums_over_runs(self):
    study = make_named_study("levels", "smoke")
    work = [plan_once(run.config) for run in study.runs()]
    assert work == [plan_run(run.config) for run in study.runs()]
    counts, memory, checkpoints = total_lines(work, 2)
    assert f"{sum(plan.environment_steps for plan in work):,} environment steps" in counts
    searches = sum(plan.acting_searches + plan.reanalysing_searches for plan in work)
    assert f"{searches:,} searches" in counts
    assert "the largest 2 side by side" in memory
    assert checkpoints == "checkpoints: between two groups of rollouts, none of which they hold"

  def test_the_last_checkpoint_is_told_from_the_others(self):
    """13 rollouts in groups of 3: after the last one waits, at other checkpoints none does."""
    plans = {name: plan_run(c) for name, c in make_named_study("levels", "laptop").agents.items()}
    plan = plans["ppg"]
    assert plan.open_rollouts == 0
    assert plan.open_rollouts_at_end * 2 == plan.open_rollouts_if_stopped > 0
    said = f"the last up to {gib(plan.open_rollouts_at_end)}"
    assert total_lines(list(plans.values()), 1)[-1] == (
      f"checkpoints: none but the last holds rollouts of an open group; {said}"
    )


class TestRecord:
  def test_labels_of_other_filters_stay(self, tmp_path):
    study = make_named_study("dqn-ladder", "smoke")
    for seeds in ([0], [1]):
      part = select(study, agents=["dqn", "q_learning"], seeds=seeds)
      save_record(part, part.runs(), tmp_path / "new", name="dqn-ladder", preset="smoke")
    record = read_record(tmp_path / "new")
    assert (record.name, record.preset) == ("dqn-ladder", "smoke")
    assert record.contrasts == study.contrasts
    assert record.labels == {
      f"{label}_leaper_easy-200_seed-{seed}": label
      for label in ("dqn", "q_learning")
      for seed in (0, 1)
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["study.json"]

  @pytest.mark.parametrize("text", ["", "[]", '{"name": "levels"}', '{"name": 1, "labels": 2}'])
  def test_a_damaged_record_counts_as_none(self, tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    assert read_record(tmp_path) is None


def test_the_default_comparison_differs_from_the_base_in_no_field():
  """`dqn` is a configuration of Q-learning: what differs can be read off."""
  said = differences(make_preset("laptop", "q_learning"), make_preset("laptop", "dqn"))
  names = {line.partition(":")[0] for line in said}
  allowed = tuple(prefix for prefixes in TOUCHED.values() for prefix in prefixes)
  assert names
  assert all(name.startswith(allowed) for name in names)


FIELD = ["--agent.sequences.batch_size", "64"]  # one of those that the change batch-size sets


def test_a_field_that_agents_are_compared_for_is_left_to_the_study():
  arguments = ["compare", "--study", "dqn-ladder", "--preset", "smoke", "--plan", *FIELD]
  with pytest.raises(UsageError, match=r"agent.sequences.batch_size belongs to .*'batch-size'"):
    run_command(arguments)


@pytest.mark.parametrize(
  "others", [["--agent.discount", "0.99"], [*FIELD, "--agents", "dqn", "dqn+network"]]
)
def test_other_fields_and_agents_are_free(others, capsys):
  arguments = ["compare", "--study", "dqn-ladder", "--preset", "smoke", "--plan", *others]
  assert run_command(arguments) == 0
  assert "environment steps" in capsys.readouterr().out
