"""What the page says of runs that belong to a study: labels, contributions, figures of levels."""

import dataclasses
import re

import numpy as np
import pytest
from synthetic_study import write_run

from experiments.report import write_report
from experiments.reporting.contributions import contrasts, contributions, in_words
from experiments.reporting.pairs import pair_scores
from experiments.reporting.runs import read_run
from experiments.reporting.statistics import difference, score_matrix
from experiments.reporting.study import make_study
from experiments.reporting.summary import summary
from experiments.reporting.svg import looks
from experiments.studies.record import StudyRecord, save_record
from experiments.studies.registry import make_named_study
from experiments.studies.study import Contrast, RunSpec, Study

CONTRASTS = (
  Contrast("one after the other", "network", "dqn", "dqn+network", "a larger one, and its heads"),
  Contrast("one after the other", "reuse", "dqn+network", "q_learning", "20 uses"),
  Contrast("alone on top of DQN", "network", "dqn", "dqn+network", "a larger one, and its heads"),
  Contrast("alone on top of DQN", "absent", "dqn", "not-run", "a change that was filtered out"),
)


def record(directory, *, labels, contrasts=(), figures=None):
  """Writes study.json for made-up runs: name of a directory -> label."""
  empty = make_named_study("contest", "smoke")
  study = Study(empty.agents, empty.games, empty.levels, empty.seeds, contrasts=contrasts,
                figures=figures or {})  # fmt: skip
  runs = [RunSpec(name, label, next(iter(empty.agents.values()))) for name, label in labels.items()]
  save_record(study, runs, directory, name="made-up", preset="smoke")


def write_ladder(root, *, seeds=3, games=("coinrun", "starpilot")):
  """Three agents that differ in a setting; q_learning alone scores higher (as 'ppg' does)."""
  labels = {}
  for label, agent, reuse in (
    ("dqn", "ppo", 8), ("dqn+network", "ppo", 9), ("q_learning", "ppg", 20)
  ):  # fmt: skip
    for game in games:
      for seed in range(seeds):
        name = f"{label}_{game}_{seed}"
        write_run(root / name, agent=agent, game=game, seed=seed, settings={"reuse": reuse})
        labels[name] = label
  record(root, labels=labels, contrasts=CONTRASTS)
  return root


def read_study(root):
  return make_study(
    [read_run(path.parent) for path in sorted(root.rglob("config.yaml"))], bounds="train-procgen"
  )


def page_of(root):
  return write_report([root], root / "report.html", resamples=200).read_text()


def test_agents_are_called_what_their_study_calls_them(tmp_path):
  study = read_study(write_ladder(tmp_path, seeds=1, games=("coinrun",)))
  assert study.agents == ("dqn", "dqn+network", "q_learning")
  assert study.variants == {}


def test_equal_labels_with_other_settings_are_told_apart(tmp_path):
  for name, reuse in (("a", 8), ("b", 20)):
    write_run(tmp_path / name / "run", settings={"reuse": reuse})
    record(tmp_path / name, labels={"run": "dqn"})
  assert read_study(tmp_path).agents == ("dqn (reuse=20)", "dqn (reuse=8)")


def test_a_run_without_a_study_keeps_its_agents_name(tmp_path):
  write_run(tmp_path / "a")
  assert read_run(tmp_path / "a").label == "ppo"
  record(tmp_path, labels={"other": "dqn"})
  assert read_run(tmp_path / "a").label == "ppo"
  assert isinstance(read_run(tmp_path / "a").study, StudyRecord)


def test_only_contrasts_between_agents_that_are_there_count(tmp_path):
  assert contrasts(read_study(write_ladder(tmp_path, seeds=1))) == list(CONTRASTS[:3])


def test_contributions_are_differences_of_normalised_means(tmp_path):
  study = read_study(write_ladder(tmp_path))
  found = contributions(study, "easy-200", resamples=500)
  assert [each.contrast for each in found] == list(CONTRASTS[:3])
  assert found[0].difference == found[2].difference
  bounds = {"coinrun": (5, 10), "starpilot": (2.5, 64)}
  for each in found[:2]:
    sides = []
    for label in (each.contrast.after, each.contrast.before):
      scores = []
      for game, (low, high) in bounds.items():
        for run in study.cells[label, "easy-200", game].runs:
          last = [row for row in run.evaluations if row["split"] == "test"][-1]
          scores.append((last["episode_return"] - low) / (high - low))
      sides.append(np.mean(sorted(scores)[1:-1]))  # of 6 the middle 4: int(.25 * 6) = 1 cut
    assert each.difference.value == pytest.approx(sides[0] - sides[1])
    assert each.pair.environment_steps == 1_000_000
    assert each.difference.interval[0] <= each.difference.value <= each.difference.interval[1]
  assert found[1].difference.interval[0] > 0  # twice the skill, 6 % noise
  assert in_words(found[:2]) == "Better: reuse. Not told apart from 0: network."


def test_the_difference_is_stratified_and_independent():
  """Against a slow bootstrap that draws runs per game, for each side on its own."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(1.0, 0.2, (5, 3)), rng.normal(0.5, 0.3, (4, 3))
  games = ("a", "b", "c")
  a, b = (score_matrix(dict(zip(games, each.T, strict=True))) for each in (x, y))
  estimate = difference(a, b, resamples=4000)

  def middle(values):
    flat = np.sort(values.ravel())
    cut = int(0.25 * len(flat))
    return flat[cut : len(flat) - cut].mean()

  def draw(values):
    return np.stack([column[rng.integers(0, len(column), len(column))] for column in values.T])

  drawn = [middle(draw(x)) - middle(draw(y)) for _ in range(4000)]
  np.testing.assert_allclose(estimate.value, middle(x) - middle(y))
  np.testing.assert_allclose(estimate.interval, np.percentile(drawn, (2.5, 97.5)), atol=0.02)
  single = dataclasses.replace(a, values=a.values[:1])
  assert difference(single, b, resamples=100).interval is None
  with pytest.raises(ValueError, match="games differ"):
    difference(a, score_matrix({"a": [1.0]}), resamples=100)


def test_the_page_shows_contributions_with_what_is_bundled(tmp_path):
  page = page_of(write_ladder(tmp_path))
  section = re.search(r'<section id="contributions".*?</section>', page, re.DOTALL)[0]
  assert section.count("<svg") == 2
  for text in ("a larger one, and its heads", "dqn+network", "20 uses", "With 3 runs"):
    assert text in section, text
  assert "filtered out" not in section
  top = re.search(r'<div class="headline">.*?</div>', page, re.DOTALL)[0]
  assert "easy-200, each change one after the other: Better: reuse. Not told apart" in top
  assert "not-run" not in page


def test_with_one_run_no_interval_is_claimed(tmp_path):
  section = page_of(write_ladder(tmp_path, seeds=1, games=("coinrun",)))
  assert "With 1 run there is no interval." in section
  assert "Better: " not in section


def test_before_there_are_scores_the_section_says_so(tmp_path):
  for label in ("dqn", "dqn+network"):
    write_run(tmp_path / label, state="running", done=0.0, evaluations=0, settings={"x": label})
  record(tmp_path, labels={"dqn": "dqn", "dqn+network": "dqn+network"}, contrasts=CONTRASTS)
  assert "No change has an evaluation with and without it" in page_of(tmp_path)


def test_no_contributions_without_a_study(tmp_path):
  write_run(tmp_path / "a")
  assert 'id="contributions"' not in page_of(tmp_path)


def test_pairs_are_at_common_games_and_steps(tmp_path):
  write_run(tmp_path / "a", agent="ppo", game="coinrun")
  write_run(tmp_path / "b", agent="ppg", game="coinrun", done=0.6, state="running")
  write_run(tmp_path / "c", agent="ppo", game="bigfish")
  pair = pair_scores(read_study(tmp_path), "easy-200", ("ppo", "ppg"), split="test")
  assert pair.before.games == pair.after.games == ("coinrun",)
  assert pair.environment_steps == 600_000
  assert pair_scores(read_study(tmp_path), "easy-200", ("ppo", "dqn"), split="test") is None


def write_levels(root, figures):
  labels = {}
  for agent in ("ppo", "ppg"):
    for label in (agent, f"{agent}+spr"):
      for levels in ("easy-10", "easy-200", "easy-all"):
        name = f"{label}_{levels}"
        write_run(root / name, agent=agent, levels=levels, settings={"spr": label[-1]})
        labels[name] = label
  record(root, labels=labels, figures=figures)
  return page_of(root)


def test_a_study_of_levels_has_a_figure_for_each_group(tmp_path):
  page = write_levels(tmp_path, {"the paper's": ("ppo", "ppo+spr"), "all": ("ppo", "ppg")})
  section = re.search(r'<section id="levels".*?</section>', page, re.DOTALL)[0]
  pictures = re.findall(r"<figure>.*?</figure>", section, re.DOTALL)
  assert len(pictures) == 2
  assert "easy mode, the paper" in pictures[0]
  assert "easy mode, all" in pictures[1]
  look = looks(("ppg", "ppg+spr", "ppo", "ppo+spr"))
  drawn = [{a for a in look if look[a].colour.lower() in each.lower()} for each in pictures]
  assert drawn == [{"ppo", "ppo+spr"}, {"ppo", "ppg"}]


def test_of_many_agents_the_headline_says_the_order(tmp_path):
  for reuse in range(6):
    write_run(tmp_path / str(reuse), settings={"reuse": reuse})
  study = read_study(tmp_path)
  said = summary(study, {})
  assert len(said) == 3  # what was compared, the order, and that there is one seed
  numbers = [float(x) for x in re.findall(r"\) (\d+\.\d+)", said[1])]
  expected = sorted((cell.last_scores("test").mean for cell in study.cells.values()), reverse=True)
  assert numbers == [round(x, 2) for x in expected]


def test_groups_of_absent_agents_are_left_out(tmp_path):
  page = write_levels(tmp_path, {"other": ("dqn", "q_learning")})
  section = re.search(r'<section id="levels".*?</section>', page, re.DOTALL)[0]
  assert len(re.findall(r"<figure>", section)) == 1
