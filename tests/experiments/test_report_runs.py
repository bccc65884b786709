"""Reading run directories in every state, and sorting them into cells."""

import dataclasses
import json
from pathlib import Path
import re

import numpy as np
import pytest
from synthetic_study import write_run, write_study

from experiments.reporting.aggregates import aggregate_curve, aggregate_scores
from experiments.reporting.runs import find_run_directories, read_run
from experiments.reporting.series import Series, mean_series, return_series, thin
from experiments.reporting.study import latest_common_step, make_study
from networks.config import BACKBONES, ResNetConfig


def study_of(*directories, bounds="train-procgen"):
  return make_study([read_run(directory) for directory in directories], bounds=bounds)


def test_a_finished_run(tmp_path):
  run = read_run(write_run(tmp_path / "run", seed=3))
  assert (run.agent, run.game, run.levels, run.seed) == ("ppo", "coinrun", "easy-200", 3)
  assert (run.state, run.environment_steps, run.problems) == ("finished", 1_000_000, ())
  assert len(run.training) == 60
  # The final evaluation stands in metrics.jsonl and in result.json, and counts once.
  assert [row["environment_steps"] for row in run.evaluations_of("test", "sampled")] == [
    200_000 * i for i in range(6)
  ]
  assert run.evaluations_of("test", "greedy") == []


def test_the_final_evaluation_replaces_the_row_at_its_steps(tmp_path):
  directory = write_run(tmp_path / "run")
  result = json.loads((directory / "result.json").read_text())
  result["evaluations"][1]["episode_return"] = 123.0
  (directory / "result.json").write_text(json.dumps(result))
  rows = read_run(directory).evaluations_of("test", "sampled")
  assert len(rows) == 6
  assert rows[-1]["episode_return"] == 123.0
  assert rows[-1]["environment_steps"] == 1_000_000


def test_a_half_written_last_line_is_no_problem_and_a_damaged_one_is_named(tmp_path):
  directory = write_run(tmp_path / "run", state="running", done=0.5)
  assert not (directory / "metrics.jsonl").read_bytes().endswith(b"\n")
  run = read_run(directory)
  assert (run.state, run.problems, run.environment_steps) == ("running", (), 500_000)
  count = len(run.training) + len(run.evaluations)

  lines = (directory / "metrics.jsonl").read_bytes().split(b"\n")
  assert len(lines) == count + 1
  lines[2] = lines[2][:10]
  (directory / "metrics.jsonl").write_bytes(b"\n".join(lines))
  run = read_run(directory)
  assert len(run.training) + len(run.evaluations) == count - 1
  assert run.problems == ("metrics.jsonl: 1 damaged line(s) left out: 3",)


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_metrics_cut_anywhere_are_read(tmp_path, cut):
  directory = write_run(tmp_path / "run", state="running", done=0.2)
  content = (directory / "metrics.jsonl").read_bytes()
  (directory / "metrics.jsonl").write_bytes(content[: len(content) - cut])
  run = read_run(directory)
  assert run.problems == ()
  assert run.training


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "status.json", "result.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b"a: [b"])
def test_a_damaged_file_is_named_and_the_rest_is_read(tmp_path, name, content):
  directory = write_run(tmp_path / "run")
  (directory / name).write_bytes(content)
  run = read_run(directory)
  assert any(name in problem for problem in run.problems)
  assert len(run.training) == 60
  assert run.is_readable == (name != "config.yaml")


def test_states(tmp_path):
  states = {
    name: read_run(write_run(tmp_path / name, state=name, done=0.5)).state
    for name in ("running", "failed", "interrupted")
  }
  assert states == {name: name for name in states}
  assert read_run(tmp_path / "nowhere").state == "not started"
  directory = write_run(tmp_path / "odd")
  (directory / "result.json").unlink()
  assert read_run(directory).state == "unknown"  # status says finished, the result is missing


def test_null_returns_and_rows_without_numbers_are_left_out(tmp_path):
  directory = write_run(tmp_path / "run", state="running", done=0.5)
  rows = [
    {"kind": "evaluation", "split": "test", "policy": "sampled", "environment_steps": 7},
    {"kind": "evaluation", "environment_steps": None, "episode_return": 1.0},
    {"kind": "evaluation", "environment_steps": 7, "episode_return": float("nan")},
  ]
  text = "".join(json.dumps(row) + "\n" for row in rows)
  (directory / "metrics.jsonl").write_text(text)
  assert read_run(directory).evaluations == ()


def test_runs_are_found_below_a_study(tmp_path):
  directories = write_study(tmp_path / "study", agents=("ppo",), games=("coinrun",), seeds=1)
  assert find_run_directories([tmp_path / "study"]) == sorted(directories)
  assert find_run_directories([*directories, tmp_path / "study"]) == directories
  assert find_run_directories([tmp_path / "queued"]) == [tmp_path / "queued"]


def test_scores_are_those_of_finished_runs(tmp_path):
  done = [write_run(tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
  failed = write_run(tmp_path / "failed", seed=2, state="failed", done=0.5)
  running = write_run(tmp_path / "running", seed=3, state="running", done=0.5)
  (cell,) = study_of(*done, failed, running).cells.values()
  assert len(cell.runs) == 4
  assert [run.seed for run in cell.used] == [0, 1]
  scores = cell.last_scores("test")
  expected = [read_run(d).evaluations_of("test", "sampled")[-1]["episode_return"] for d in done]
  assert list(scores.values) == expected
  assert scores.environment_steps == 1_000_000


def test_unfinished_runs_are_compared_at_their_latest_common_steps(tmp_path):
  ahead = write_run(tmp_path / "a", seed=0, state="running", done=0.9)
  behind = write_run(tmp_path / "b", seed=1, state="running", done=0.5)
  failed = write_run(tmp_path / "c", seed=2, state="failed", done=0.1)
  (cell,) = study_of(ahead, behind, failed).cells.values()
  assert cell.last_scores("test").environment_steps == 400_000
  assert len(cell.last_scores("test").values) == 2


def test_common_steps_are_equal_within_two_percent():
  assert latest_common_step([[0, 100_000, 1_015_808], [0, 999_424]]) == 1_015_808
  assert latest_common_step([[0, 500_000, 1_000_000], [0, 500_000]]) == 500_000
  assert latest_common_step([[0, 100], [0, 200]]) == 0
  assert latest_common_step([[100], [200]]) is None


def test_other_settings_make_another_agent(tmp_path):
  runs = [
    write_run(tmp_path / "a", seed=0),
    write_run(tmp_path / "b", seed=1),
    write_run(tmp_path / "c", seed=0, settings={"backbone": {"kind": "Impala", "channels": 16}}),
    write_run(tmp_path / "d", seed=0, settings={"learning_rate": 1e-3}, game="starpilot"),
  ]
  study = study_of(*runs)
  assert study.agents == ("ppo (Impala)", "ppo (ResNet)")
  cell = study.cells["ppo (ResNet)", "easy-200", "coinrun"]
  assert [run.seed for run in cell.runs] == [0, 1]
  # A setting that only differs between games is no other agent.
  assert study.cells["ppo (ResNet)", "easy-200", "starpilot"].agent_name == "ppo"


def test_runs_of_other_settings_are_never_taken_for_seeds_of_one_agent(tmp_path):
  # The kind alone does not tell the two ResNets apart.
  backbones = [
    {"kind": "ResNetConfig", "blocks": 1, "channels": [32, 32]},
    {"kind": "ResNetConfig", "blocks": 2, "channels": [32, 32]},
    {"kind": "ImpalaConfig", "channels": [16, 32, 32]},
  ]
  study = study_of(
    *(
      write_run(tmp_path / f"{i}-{seed}", seed=seed, settings={"backbone": backbone})
      for i, backbone in enumerate(backbones)
      for seed in (0, 1)
    )
  )
  assert study.agents == ("ppo (Impala)", "ppo (blocks=1)", "ppo (blocks=2)")
  assert [len(cell.runs) for cell in study.cells.values()] == [2, 2, 2]
  for cell in study.cells.values():
    assert len({repr(run.setting("agent.backbone")) for run in cell.runs}) == 1
  assert study.variants == {
    "ppo (blocks=1)": "ResNet, backbone.blocks=1, backbone.channels=32-32",
    "ppo (blocks=2)": "ResNet, backbone.blocks=2, backbone.channels=32-32",
  }


def plain(config):
  """A backbone's fields as config.yaml has them."""
  fields = {"kind": type(config).__name__, **dataclasses.asdict(config)}
  return {name: list(x) if isinstance(x, tuple) else x for name, x in fields.items()}


def test_named_backbones_go_by_their_names(tmp_path):
  backbones = {
    "a": BACKBONES["laptop"](),
    "b": BACKBONES["impala"](),
    "c": ResNetConfig(stem_kernels=(3, 3, 3), stem_strides=(2, 2, 2), stem_channels=(8, 16, 32)),
  }
  runs = [
    write_run(tmp_path / name, settings={"backbone": plain(backbone)})
    for name, backbone in backbones.items()
  ]
  elsewhere = write_run(tmp_path / "d", game="leaper", settings={"backbone": plain(backbones["a"])})
  study = study_of(*runs, elsewhere)
  labels = {run.directory.name: study.label_of(run) for run in study.runs}
  assert labels == {
    "a": "ppo (laptop)",
    "b": "ppo (impala)",
    "c": "ppo (stem_kernels=3-3-3)",
    "d": "ppo (laptop)",
  }
  assert set(study.variants) == {"ppo (stem_kernels=3-3-3)"}  # the others say all that differs
  assert "stem_channels=8-16-32" in study.variants["ppo (stem_kernels=3-3-3)"]


def test_a_run_from_before_a_field_goes_by_the_name_that_fits_but_is_no_seed_of_a_newer(tmp_path):
  laptop, impala = (plain(BACKBONES[name]()) for name in ("laptop", "impala"))
  older = {name: x for name, x in laptop.items() if name != "frame_scaling"}
  runs = [
    write_run(tmp_path / "older", settings={"backbone": older}),
    write_run(tmp_path / "impala", settings={"backbone": impala}),
    write_run(tmp_path / "elsewhere", game="leaper", settings={"backbone": laptop}),
  ]
  study = study_of(*runs)
  labels = {run.directory.name: study.label_of(run) for run in study.runs}
  name = "ppo (laptop)"
  assert labels == {"older": name, "impala": "ppo (impala)", "elsewhere": name}
  newer = study_of(runs[0], write_run(tmp_path / "newer", seed=1, settings={"backbone": laptop}))
  assert len({newer.label_of(run) for run in newer.runs}) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_named_backbone_never_goes_by_another_name(order, tmp_path):
  laptop, impala = (plain(BACKBONES[name]()) for name in ("laptop", "impala"))
  other = laptop | {"compute_dtype": "bfloat16"}
  runs = [
    write_run(tmp_path / "a", settings={"backbone": laptop}),
    write_run(tmp_path / "b", settings={"backbone": other}),
    write_run(tmp_path / "c", game="leaper", settings={"backbone": impala}),
  ]
  study = study_of(*runs[::order])
  labels = {run.directory.name: study.label_of(run) for run in study.runs}
  assert len(set(labels.values())) == 3
  assert "laptop" in labels["a"]
  assert "impala" in labels["c"]


@pytest.mark.parametrize("seed", range(20))
def test_labels_tell_exactly_the_variants_apart(seed, tmp_path):
  random = np.random.default_rng(seed)
  settings = [
    {name: int(random.integers(3)) for name in "vwxyz"[: random.integers(1, 6)]} for _ in range(7)
  ]
  runs = [write_run(tmp_path / str(i), seed=i, settings=each) for i, each in enumerate(settings)]
  study = study_of(*runs)
  labels = [study.label_of(run) for run in study.runs]
  for i, first in enumerate(settings):
    for j, second in enumerate(settings):
      assert (labels[i] == labels[j]) == (first == second), (labels[i], labels[j])
  for label, own in zip(labels, settings, strict=True):
    for name, value in re.findall(r"([vwxyz])=(\d)", label):
      assert own[name] == int(value)


def test_a_seed_that_was_run_twice_is_said(tmp_path):
  study = study_of(write_run(tmp_path / "a", seed=4), write_run(tmp_path / "b", seed=4))
  (warning,) = study.warnings
  assert "seed 4" in warning
  assert "not independent" in warning


def test_scores_are_normalised_and_never_clipped(tmp_path):
  directories = write_study(tmp_path, agents=("ppo",), games=("coinrun", "bigfish"), seeds=2)
  for directory in directories:
    result = json.loads((directory / "result.json").read_text())
    result["evaluations"][1]["episode_return"] = {"coinrun": 0.0, "bigfish": 79.0}[
      directory.name.split("-")[3]
    ]
    (directory / "result.json").write_text(json.dumps(result))
  scores = aggregate_scores(study_of(*directories), "easy-200", "test")
  assert scores.games == ("bigfish", "coinrun")
  # coinrun: (0 - 5) / (10 - 5); bigfish: (79 - 1) / (40 - 1).
  assert scores.matrices["ppo"].values.tolist() == [[2.0, -1.0], [2.0, -1.0]]


def test_bounds_are_the_named_ones(tmp_path):
  directory = write_run(tmp_path / "run", game="leaper")
  for bounds, low in (("train-procgen", 1.5), ("paper", 3.0)):
    study = study_of(directory, bounds=bounds)
    assert study.bounds_of("easy-200", "leaper").minimum == low
  assert study.bounds_of("easy-200", "chess") is None
  assert study.bounds_of("my-levels", "coinrun") is None


def test_aggregates_hold_only_games_that_every_agent_has(tmp_path):
  directories = write_study(tmp_path, games=("coinrun", "starpilot"), seeds=2)
  directories = [d for d in directories if d.name != "ppg-easy-200-starpilot-0"]
  scores = aggregate_scores(study_of(*directories), "easy-200", "test")
  assert scores.matrices["ppo"].values.shape == (2, 2)
  assert scores.matrices["ppg"].values.shape == (1, 2)
  assert any(note.startswith("ppg: 1 run(s) a game") for note in scores.notes)
  directories = [d for d in directories if "ppg-easy-200-starpilot" not in d.name]
  scores = aggregate_scores(study_of(*directories), "easy-200", "test")
  assert scores.games == ("coinrun",)
  assert any("starpilot" in note for note in scores.notes)


def test_the_aggregate_curve_says_when_its_evaluations_were(tmp_path):
  directories = write_study(tmp_path, games=("coinrun", "starpilot"), seeds=2)
  slow = next(d for d in directories if d.name == "ppo-easy-200-coinrun-0")
  rows = [json.loads(line) for line in (slow / "metrics.jsonl").read_text().splitlines()]
  rows = [{**row, "seconds": 5 * row["seconds"]} for row in rows]
  (slow / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  (slow / "result.json").unlink()  # its seconds are those of the quick run
  status = json.loads((slow / "status.json").read_text()) | {"state": "finished"}
  (slow / "result.json").write_text(json.dumps({**status, "seconds": 5000.0, "evaluations": []}))
  study = study_of(*directories)
  curve = aggregate_curve(study, "ppo", aggregate_scores(study, "easy-200", "test"), resamples=100)
  assert curve.along("environment_steps") == tuple(200_000 * i for i in range(6))
  # 1000 steps/s; one run of the four takes five times as long.
  assert curve.along("seconds") == pytest.approx([200 * i * (1 + 1 + 1 + 5) / 4 for i in range(6)])
  assert len(curve.estimates) == 6


def test_the_mean_over_runs_covers_what_all_of_them_cover():
  a = Series(np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 2.0]))
  b = Series(np.array([5.0, 15.0]), np.array([3.0, 3.0]))
  mean = mean_series([a, b])
  assert mean.x.tolist() == [5.0, 10.0, 15.0]
  assert mean.y.tolist() == [1.75, 2.0, 2.25]
  assert len(mean_series([])) == 0


def test_thinning_keeps_both_ends():
  series = thin(Series(np.arange(5000.0), np.arange(5000.0)))
  assert len(series) == 200
  assert (series.x[0], series.x[-1]) == (0.0, 4999.0)


def test_a_run_directory_may_be_given_as_text(tmp_path):
  directory = write_run(tmp_path / "run")
  assert read_run(str(directory)).directory == Path(directory)


def test_a_return_is_drawn_once_enough_episodes_have_ended(tmp_path):
  """Episodes counted by hand; a row without the count says nothing of it."""
  run = write_run(tmp_path / "run")
  ended = [1, 19, 20, 400]
  rows = [
    {
      "kind": "training",
      "environment_steps": 100 * i,
      "training/episode_return": float(i),
      "training/episodes": count,
    }
    for i, count in enumerate(ended)
  ]
  rows.append({"kind": "training", "environment_steps": 400, "training/episode_return": 4.0})
  (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  drawn = return_series(read_run(run), axis="environment_steps")
  assert (drawn.x.tolist(), drawn.y.tolist()) == ([200, 300], [2, 3])


def test_a_failure_after_the_steps_that_are_shown_is_none_yet(tmp_path):
  run = read_run(write_run(tmp_path / "run", state="failed", done=0.5))
  assert (run.state, run.environment_steps) == ("failed", 500_000)
  before = run.until(300_000)
  assert (before.state, before.environment_steps) == ("running", 300_000)
  assert run.until(500_000).state == "failed"
