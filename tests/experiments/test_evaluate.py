"""Evaluation of checkpoints, against a slow reference and the run's own last evaluation."""

import csv
import dataclasses
import hashlib
import json
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from agents.config import OptimizerConfig
from agents.ppo.config import PPOConfig
from environments.config import EnvironmentConfig
from environments.factory import make_environment
from environments.levels import parse_levels
from experiments import checkpoint_evaluation, evaluation_output, runner
from experiments.config import ExperimentConfig, load_config, save_config
from experiments.evaluate import main
from experiments.evaluation_plan import LevelSet
from experiments.evaluation_scores import (
  RESAMPLES,
  bootstrap_interval,
  paired_gain,
  stratified_interval,
)
from experiments.options import guarded
from experiments.registry import make_agent
from networks.config import ResNetConfig
from training.checkpoint import Checkpoints
from training.config import EvaluationConfig, TrainingConfig
from training.episodes import Episode
from training.learner import Learner
from training.sharding import make_mesh

STEPS = (256, 512)

CONFIG = ExperimentConfig(
  agent=PPOConfig(
    backbone=ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(8,), blocks=0),
    hidden=16,
    rollout_length=16,
    epochs=2,
    num_minibatches=2,
    optimizer=OptimizerConfig(learning_rate=0.01),
  ),
  environment=EnvironmentConfig(game="catch", levels="easy-20", num_environments=8),
  training=TrainingConfig(
    total_environment_steps=STEPS[-1], checkpoint_every=STEPS[0], keep_checkpoints=3
  ),
  evaluation=EvaluationConfig(
    every=100_000,
    num_environments=6,
    episodes_per_environment=1,
    final_episodes_per_environment=3,
  ),
  seed=11,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run with two checkpoints; tests must not change it."""
  directory = tmp_path_factory.mktemp("runs") / "run"
  assert runner.run(CONFIG, directory, command=["test"]) == 0
  return directory


@pytest.fixture
def copy(run, tmp_path):
  """A copy of the run, to be damaged."""
  return shutil.copytree(run, tmp_path / "copy")


def evaluate(tmp_path, *arguments):
  """Runs the command; returns the content of its JSON file."""
  path = tmp_path / "evaluation.json"
  assert main([*map(str, arguments), "--json", str(path)]) == 0
  return json.loads(path.read_text())


def fails(capsys, *arguments):
  """Runs a command that must be refused with exit code 2; returns its one line."""
  code = guarded(main, [str(argument) for argument in arguments])
  lines = capsys.readouterr().err.splitlines()
  errors = [line for line in lines if line.startswith("error: ")]
  assert (code, len(errors)) == (2, 1), lines
  assert lines[-1] == errors[0]
  return errors[0]


def contents(directory):
  """Returns a digest of every file and the name of every directory below `directory`."""
  return {
    str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
    if path.is_file()
    else None
    for path in directory.rglob("*")
  }


def play_slowly(directory, step, *, levels, seed, num_environments, quota):
  """Greedy episodes of a checkpoint, by other code: the writer's reader, one plain loop."""
  config = load_config(directory / "config.yaml")
  training = make_environment("catch", levels=parse_levels("easy-20"), num_environments=8, seed=0)
  agent = make_agent(config.agent, training.spec, total_environment_steps=STEPS[-1])
  learner = Learner(agent, mesh=make_mesh(jax.devices()[:1]), seed=99)
  checkpoints = Checkpoints(directory / "checkpoints", keep=3)
  _, snapshot = checkpoints.restore(learner.state, step=step)
  checkpoints.close()
  act = jax.jit(agent.act_greedy)
  environment = make_environment(
    "catch", levels=parse_levels(levels), num_environments=num_environments, seed=seed
  )
  shown = environment.observe()
  total, level = [0.0] * num_environments, shown.level_seed.tolist()
  played = {i: [] for i in range(num_environments)}
  while min(len(each) for each in played.values()) < quota:
    output = act(snapshot.train_state.params, shown.observation, jax.random.key(5))
    environment.act(np.asarray(output.action))
    shown = environment.observe()
    for i in range(num_environments):
      total[i] += float(shown.reward[i])
      if shown.first[i]:
        played[i].append((level[i], total[i], bool(shown.previous_level_complete[i])))
        total[i], level[i] = 0.0, int(shown.level_seed[i])
  return {i: each[:quota] for i, each in played.items()}


def by_environment(evaluation):
  """Returns (level, return, complete) of every episode, per environment in order."""
  played = {}
  for each in evaluation["episode_records"]:
    record = (each["level_seed"], each["episode_return"], each["level_complete"])
    played.setdefault(each["environment"], []).append(record)
  return played


@pytest.mark.parametrize("step", STEPS)
def test_greedy_episodes_are_those_of_a_slow_reference(run, copy, tmp_path, step):
  options = ["--policy", "greedy", "--environments", 4, "--episodes-per-environment", 5]
  levels = ["train", "test", "easy-7@30"]
  result = evaluate(tmp_path, run, "--checkpoint", step, *options, "--levels", *levels)
  (played,) = result["runs"]
  assert played["checkpoint"] == step
  for evaluation, name in zip(
    played["evaluations"], ("easy-20", "easy-all", "easy-7@30"), strict=True
  ):
    expected = play_slowly(
      copy, step, levels=name, seed=evaluation["seed"], num_environments=4, quota=5
    )
    assert by_environment(evaluation) == expected
    returns = [record[1] for each in expected.values() for record in each]
    assert evaluation["episodes"] == len(returns) == 20
    assert evaluation["episode_return"] == pytest.approx(sum(returns) / 20)
    assert evaluation["level_complete"] == pytest.approx(returns.count(1.0) / 20)
    # Catch in [-1, 1]: the normalised score is the share of balls that are caught.
    assert evaluation["normalised_score"] == pytest.approx(returns.count(1.0) / 20)


def test_the_two_checkpoints_play_differently(run, tmp_path):
  options = ["--episodes-per-environment", 20, "--levels", "train"]
  first, second = (
    evaluate(tmp_path, run, "--checkpoint", step, *options)["runs"][0]["evaluations"][0]
    for step in STEPS
  )
  assert first["seed"] == second["seed"]
  assert [e["level_seed"] for e in first["episode_records"]] == [
    e["level_seed"] for e in second["episode_records"]
  ]
  assert first["episode_records"] != second["episode_records"]


def test_without_options_the_last_evaluation_of_the_run_is_repeated(run, tmp_path):
  result = json.loads((run / "result.json").read_text())
  (again,) = evaluate(tmp_path, run)["runs"]
  assert again["checkpoint"] == STEPS[-1]
  assert len(again["evaluations"]) == len(result["evaluations"]) == 2
  for row, evaluation in zip(result["evaluations"], again["evaluations"], strict=True):
    assert row["split"] == evaluation["level_set"]
    shared = row.keys() & evaluation.keys()
    assert shared >= {"levels", "seed", "episodes", "episode_return", "episode_return_std"}
    assert {name: row[name] for name in shared} == {name: evaluation[name] for name in shared}


def test_a_seed_decides_everything_and_one_set_does_not_depend_on_the_others(run, tmp_path):
  together = evaluate(tmp_path, run, "--seed", 3, "--levels", "test", "held-out")["runs"]
  assert together == evaluate(tmp_path, run, "--seed", 3, "--levels", "test", "held-out")["runs"]
  alone = evaluate(tmp_path, run, "--seed", 3, "--levels", "held-out")["runs"]
  assert alone[0]["evaluations"] == together[0]["evaluations"][1:]
  other = evaluate(tmp_path, run, "--seed", 4, "--levels", "held-out")["runs"]
  assert (
    other[0]["evaluations"][0]["episode_records"] != (alone[0]["evaluations"][0]["episode_records"])
  )


def test_overlap_with_the_training_levels(run, tmp_path):
  sets = {  # of easy-20: shared levels, episodes on them of 18; None: some, not settled
    "train": (20, 18),
    "test": (20, None),
    "held-out": (0, 0),
    "easy-10@15": (5, None),
    "easy-4@2": (4, 18),
    "hard-20": (0, 0),
  }
  evaluations = evaluate(tmp_path, run, "--levels", *sets)["runs"][0]["evaluations"]
  for evaluation, (shared, episodes) in zip(evaluations, sets.values(), strict=True):
    assert evaluation["levels_shared_with_training"] == shared
    on_training_levels = evaluation["episodes_on_training_levels"]
    assert on_training_levels == (
      sum(e["level_seed"] < 20 for e in evaluation["episode_records"])
      if episodes is None
      else episodes
    )
  assert 0 < evaluations[3]["episodes_on_training_levels"] < 18


def test_csv_has_the_records_of_the_json_file(run, tmp_path):
  path = tmp_path / "episodes.csv"
  result = evaluate(tmp_path, run, "--csv", path, "--levels", "train", "hard-all")
  with path.open(newline="") as file:
    rows = list(csv.DictReader(file))
  expected = [
    {
      "run": str(run),
      "checkpoint": "512",
      "level_set": evaluation["level_set"],
      "levels": evaluation["levels"],
      "policy": "sampled",
      "search": "",
      "simulations": "",
      "environment": str(episode["environment"]),
      "level_seed": str(episode["level_seed"]),
      "episode_return": str(episode["episode_return"]),
      "length": str(episode["length"]),
      "level_complete": str(int(episode["level_complete"])),
      "timed_out": str(int(episode["timed_out"])),
    }
    for evaluation in result["runs"][0]["evaluations"]
    for episode in evaluation["episode_records"]
  ]
  assert rows == expected
  assert len(rows) == 2 * 6 * 3


def test_table_says_what_was_played(run, capsys):
  assert main([str(run), "--levels", "test", "--bounds", "paper", "--seed", "8"]) == 0
  shown = capsys.readouterr().out
  for text in ("ppo on catch", "easy-20", "512", "6 x 3", "sampled", "paper -1 to 1", "20 of all"):
    assert text in shown
  assert "percentile bootstrap over episodes" in shown
  assert "seed 8" in shown


def test_several_runs_one_after_the_other_and_a_directory_of_runs(run, copy, tmp_path):
  named = evaluate(tmp_path, run, copy)["runs"]
  assert [each["run"] for each in named] == [str(run), str(copy)]
  assert named[0]["evaluations"] == named[1]["evaluations"]
  assert [each["run"] for each in evaluate(tmp_path, run.parent)["runs"]] == [str(run)]


def test_nothing_in_the_run_directory_changes(copy, tmp_path):
  cut_short = copy / "checkpoints" / "steps" / "768"
  shutil.copytree(copy / "checkpoints" / "steps" / "512", cut_short)
  shutil.copytree(cut_short, cut_short.with_name("900.orbax-checkpoint-tmp-1"))
  before = contents(copy)
  (result,) = evaluate(tmp_path, copy)["runs"]
  assert result["checkpoint"] == 512  # 768 has no manifest: it was cut short
  assert contents(copy) == before


def test_sources_are_not_needed(run, copy, tmp_path):
  for step in STEPS:
    shutil.rmtree(copy / "checkpoints" / "steps" / str(step) / "host")
  ours, theirs = evaluate(tmp_path, copy)["runs"], evaluate(tmp_path, run)["runs"]
  assert ours[0]["evaluations"] == theirs[0]["evaluations"]


@pytest.mark.parametrize(("environments", "devices"), [(5, 1), (4, 2)])
def test_plays_on_as_many_devices_as_split_the_environments(run, tmp_path, environments, devices):
  (result,) = evaluate(tmp_path, run, "--environments", environments)["runs"]
  assert len(result["devices"]) == devices
  assert result["evaluations"][0]["episodes"] == 3 * environments


def damage(step_directory):
  """Flips one bit of the largest file of the train state."""
  files = [path for path in (step_directory / "train_state").rglob("*") if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  largest.write_bytes(bytes(content))


def test_a_damaged_checkpoint_is_passed_over_or_refused(copy, tmp_path, capsys, caplog):
  damage(copy / "checkpoints" / "steps" / "512")
  (result,) = evaluate(tmp_path, copy, "--levels", "train")["runs"]
  assert result["checkpoint"] == 256
  assert "512 is not used" in caplog.text
  capsys.readouterr()
  assert "damaged" in fails(capsys, copy, "--checkpoint", 512)
  damage(copy / "checkpoints" / "steps" / "256")
  line = fails(capsys, copy)
  assert "256" in line
  assert "512" in line


@pytest.mark.parametrize("content", ["", "{", "[]", "[1, 2]", "{}", "null"])
def test_a_wrong_manifest_is_refused(copy, capsys, content):
  (copy / "checkpoints" / "manifests" / "512.json").write_text(content)
  assert "manifest" in fails(capsys, copy, "--checkpoint", 512)


@pytest.mark.parametrize(
  "agent",
  [
    dataclasses.replace(CONFIG.agent, hidden=32),
    dataclasses.replace(CONFIG.agent, optimizer=OptimizerConfig(max_gradient_norm=0)),
    dataclasses.replace(
      CONFIG.agent, backbone=dataclasses.replace(CONFIG.agent.backbone, blocks=1)
    ),
  ],
)
def test_a_checkpoint_of_another_agent_is_refused(copy, capsys, agent):
  save_config(dataclasses.replace(CONFIG, agent=agent), copy / "config.yaml")
  assert "of another agent" in fails(capsys, copy)


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (["--checkpoint", "300"], "256, 512"),
    (["--levels", "tset"], "Did you mean 'test'?"),
    (["--levels", "easy-200@"], "easy-200"),
    (["--levels", "train", "train"], "twice"),
    (["--policy", "gredy"], "Did you mean 'greedy'?"),
    (["--bounds", "papers"], "Did you mean 'paper'?"),
    (["--environments", "0"], "--environments"),
    (["--episodes-per-environment", "-1"], "--episodes-per-environment"),
    (["--episodes-per-environment", "two"], "--episodes-per-environment"),
    (["--seed", "-1"], "--seed"),
    (["--json", "/no/such/directory/file.json"], "/no/such/directory"),
    (["--polic", "greedy"], "--polic"),
    (["--simulations", "0", "2"], "does not plan"),
    (["--search", "puct"], "does not plan"),
  ],
)
def test_wrong_options_get_one_line_and_exit_code_2(run, capsys, arguments, expected):
  assert expected in fails(capsys, run, *arguments)


def below_a_file(folder):
  (folder / "file").touch()
  return folder / "file" / "below"


@pytest.mark.parametrize("option", ["--json", "--csv", "--levels-csv", "--video"])
def test_nothing_is_played_for_what_cannot_be_written(run, tmp_path, capsys, option):
  path = below_a_file(tmp_path)
  for each in (path, path / "deep", path / "deep" / "deeper", tmp_path / "file" / "x.json"):
    line = fails(capsys, run, option, each)
    assert option in line
    assert str(each) in line
  if option == "--video":
    assert f"{path.parent} is no directory" in fails(capsys, run, option, path.parent)
  else:
    assert str(tmp_path) in fails(capsys, run, option, tmp_path)
    assert "/dev/null" in fails(capsys, run, option, "/dev/null")  # would be replaced


def test_films_go_to_no_file_and_to_none_that_is_written(run, tmp_path, capsys):
  (tmp_path / "films").mkdir()
  (tmp_path / "films" / "run").touch()  # where the run's own folder would be
  assert "run is no directory" in fails(capsys, run, "--video", tmp_path / "films")
  line = fails(capsys, run, "--json", tmp_path / "x", "--video", tmp_path / "x" / "y")
  assert "the file of --json" in line
  (tmp_path / "link").symlink_to(tmp_path / "nowhere")
  assert "link is no directory" in fails(capsys, run, "--video", tmp_path / "link")


def test_two_files_are_not_written_over_one_another(run, tmp_path, capsys):
  (tmp_path / "here").mkdir()
  (tmp_path / "link").symlink_to(tmp_path / "here")
  same = [tmp_path / "here" / "x", tmp_path / "link" / "x", tmp_path / "here" / ".." / "here" / "x"]
  for other in same:
    line = fails(capsys, run, "--json", same[0], "--csv", other)
    assert "--json and --csv are both" in line
    assert "--csv and --levels-csv" in fails(capsys, run, "--csv", same[0], "--levels-csv", other)
  assert list((tmp_path / "here").iterdir()) == []


def make_unfinished(directory):
  """A run that has no checkpoint yet."""
  directory.mkdir(parents=True)
  save_config(CONFIG, directory / "config.yaml")
  return directory


def test_of_a_directory_of_runs_those_without_a_checkpoint_are_left_out(
  run, copy, tmp_path, capsys
):
  study = tmp_path / "study"
  good = shutil.copytree(run, study / "b")
  waiting = [make_unfinished(study / name) for name in "ac"]
  (result,) = evaluate(tmp_path, study, "--levels", "train")["runs"]
  assert result["run"] == str(good)
  said = capsys.readouterr().err.splitlines()
  assert [x for x in said if x.startswith("left out: ")] == [
    f"left out: {each} has no complete checkpoint" for each in waiting
  ]
  # One that is named by itself is refused, in a directory that is named too or not.
  assert "no complete checkpoint" in fails(capsys, waiting[1], study)
  # So is a directory in which nothing is left.
  assert f"no run in {study} is left" in fails(capsys, study, "--checkpoint", 300)
  assert "it has: 256, 512" in fails(capsys, study, copy, "--checkpoint", 300)
  shutil.rmtree(good)
  assert f"no run in {study} is left" in fails(capsys, study)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_evaluation_that_fails_loses_no_other(run, tmp_path, capsys, processes):
  """Of four: a damaged checkpoint, one whose films the disk refuses, and two that are good."""
  runs = [shutil.copytree(run, tmp_path / "study" / f"run_{i}") for i in range(4)]
  for step in STEPS:
    damage(runs[0] / "checkpoints" / "steps" / str(step))
  films = tmp_path / "films"
  for level in range(20):  # a directory where the film would be, whichever level it is of
    name = f"train_sampled_environment-0_level-{level}.mp4"
    (films / "run_2" / name).mkdir(parents=True)
  path = tmp_path / "all.json"
  arguments = [tmp_path / "study", "--levels", "train", "--video", films, "--video-episodes", 1]
  arguments += ["--processes", processes, "--json", path]
  assert main([str(argument) for argument in arguments]) == 1
  saved = json.loads(path.read_text())["runs"]
  assert [each["run"] for each in saved] == [str(runs[1]), str(runs[3])]
  shown = capsys.readouterr()
  assert all(f"run: {each}" in shown.out for each in (runs[1], runs[3]))
  errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
  assert len(errors) == 2
  assert "damaged" in errors[0]
  assert f"error: the evaluation of {runs[2]} failed: " in errors[1]
  last = shown.err.splitlines()[-1]
  assert last == "2 of 4 evaluations failed; the others are complete and written"


class FullDisk:
  """Stands in for a writer of evaluations: refuses so many times, then writes."""

  def __init__(self, writer, refusals):
    self.writer, self.refusals = writer, refusals

  def __call__(self, results, path, **options):
    if self.refusals:
      self.refusals -= 1
      raise OSError("No space left on device")
    self.writer(results, path, **options)


def test_a_file_that_the_disk_refuses_stops_no_evaluation(run, tmp_path, capsys, monkeypatch):
  """The first of three files, after each of two runs, and once more at the end."""
  runs = [shutil.copytree(run, tmp_path / "study" / f"run_{i}") for i in range(2)]
  path, *tables = (tmp_path / name for name in ("all.json", "episodes.csv", "levels.csv"))
  arguments = [tmp_path / "study", "--levels", "train", "--json", path]
  arguments += ["--csv", tables[0], "--levels-csv", tables[1]]
  refused = f"error: {path} could not be written: No space left on device"
  writer = evaluation_output.save_json

  def evaluate(refusals):
    monkeypatch.setattr(evaluation_output, "save_json", FullDisk(writer, refusals))
    code = main([str(argument) for argument in arguments])
    for table in tables:
      with table.open(newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {str(each) for each in runs}
      table.unlink()
    return code, [line for line in capsys.readouterr().err.splitlines() if "error" in line]

  assert evaluate(3) == (1, [refused] * 3)
  assert not path.exists()
  assert evaluate(2) == (0, [refused] * 2)
  assert [each["run"] for each in json.loads(path.read_text())["runs"]] == [str(x) for x in runs]


@pytest.mark.parametrize(("refusals", "said"), [(2, "are not all written"), (1, "are written")])
def test_what_the_disk_refused_is_tried_again_when_it_is_stopped(
  run, tmp_path, capsys, monkeypatch, refusals, said
):
  runs = [shutil.copytree(run, tmp_path / "study" / f"run_{i}") for i in range(2)]
  path = tmp_path / "all.json"
  save = FullDisk(evaluation_output.save_json, refusals)
  original = checkpoint_evaluation.evaluate_run

  def stopped(plan, checkpoints):
    if plan.directory == runs[1]:
      signal.raise_signal(signal.SIGINT)
    return original(plan, checkpoints)

  monkeypatch.setattr(evaluation_output, "save_json", save)
  monkeypatch.setattr(checkpoint_evaluation, "evaluate_run", stopped)
  assert main([str(tmp_path / "study"), "--levels", "train", "--json", str(path)]) == 130
  last = capsys.readouterr().err.splitlines()[-1]
  assert last.endswith(f"1 of 2 evaluations were complete and {said}")
  assert path.exists() == (said == "are written")


def test_what_is_no_run_is_refused(run, copy, tmp_path, capsys):
  assert "config.yaml" in fails(capsys, tmp_path / "nowhere")
  assert "config.yaml" in fails(capsys, run / "checkpoints")
  assert "runs stand before" in fails(capsys, run, "--levels", "train", str(copy))
  shutil.rmtree(copy / "checkpoints" / "manifests")
  assert "no complete checkpoint" in fails(capsys, copy)
  (copy / "config.yaml").write_text("agent_name: ppo\n")
  assert "agent" in fails(capsys, copy)


def test_all_levels_have_no_held_out_set(run, copy, capsys):
  everything = dataclasses.replace(CONFIG.environment, levels="easy-all")
  save_config(dataclasses.replace(CONFIG, environment=everything), copy / "config.yaml")
  # Nothing is played for the good run before the bad one is refused.
  line = fails(capsys, run, copy, "--levels", "held-out")
  assert "'easy-all' has no held-out set" in line


def test_bootstrap_interval():
  values = np.random.default_rng(0).normal(3.0, 2.0, 4000)
  low, high = bootstrap_interval(values, seed=1)
  # By the central limit theorem: mean plus and minus 1.96 standard errors.
  half = 1.959964 * values.std() / len(values) ** 0.5
  assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
  assert high == pytest.approx(values.mean() + half, abs=0.05 * half)
  assert bootstrap_interval(values, seed=1) == [low, high]
  assert bootstrap_interval(values, seed=2) != [low, high]
  assert bootstrap_interval(np.full(9, 2.5), seed=0) == [2.5, 2.5]
  assert bootstrap_interval(np.array([1.0]), seed=0) is None
  # Two values: a resample's mean is either, or with probability 1/2 their middle.
  assert bootstrap_interval(np.array([0.0, 1.0]), seed=0) == [0.0, 1.0]
  assert RESAMPLES >= 10_000


def test_stratified_interval():
  """Only the spread within levels counts: that between them is no uncertainty."""
  generator = np.random.default_rng(0)
  within = generator.normal(0, 2.0, (50, 40))
  low, high = stratified_interval(within + 100 * np.arange(50)[:, None], seed=1)
  centre = within.mean() + 100 * 24.5
  half = 1.959964 * (within.var(axis=1).mean() / within.size) ** 0.5
  assert low == pytest.approx(centre - half, abs=0.06 * half)
  assert high == pytest.approx(centre + half, abs=0.06 * half)
  assert stratified_interval(np.arange(5.0)[:, None], seed=0) is None
  assert stratified_interval(np.tile(np.arange(5.0)[:, None], 3), seed=0) == [2.0, 2.0]


def test_gains_are_of_pairs():
  def episodes(returns, seeds):
    return [
      Episode(b, seed, x, 1, level_complete=False, timed_out=False)
      for b, seed, x in zip((1, 0, 1, 0), seeds, returns, strict=True)
    ]

  levels = LevelSet("test", parse_levels("easy-all"))
  before, after = episodes([5.0, 50.0, 7.0, 70.0], [1, 2, 3, 4]), episodes([8.0] * 4, [1, 2, 3, 4])
  found = paired_gain(after, before, levels, seed=0)
  assert found["gain"] == pytest.approx((3 - 42 + 1 - 62) / 4)
  constant = paired_gain(episodes([6.0, 51.0, 8.0, 71.0], [1, 2, 3, 4]), before, levels, seed=0)
  assert constant == {"gain": 1.0, "gain_interval": [1.0, 1.0]}
  with pytest.raises(ValueError, match="same levels"):
    paired_gain(episodes([8.0] * 4, [1, 2, 4, 3]), before, levels, seed=0)


def test_help_does_not_import_jax():
  code = (
    "import sys\nfrom experiments.evaluate import main\n"
    "try:\n  main(['--help'])\nexcept SystemExit as end:\n  assert end.code == 0\n"
    "assert not {'jax', 'orbax', 'procgen'} & set(sys.modules)"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  for option in ("--levels", "--checkpoint", "--policy", "--bounds", "--json", "--csv"):
    assert option in done.stdout
