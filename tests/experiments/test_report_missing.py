"""Aggregates that are not there, and pairs of agents that can be compared all the same."""

import re

from synthetic_study import write_run

from experiments.report import write_report
from experiments.reporting.estimates import all_aggregates, estimate_all
from experiments.reporting.missing import why_no_aggregate
from experiments.reporting.runs import read_run
from experiments.reporting.study import make_study


def read(*directories):
  return make_study([read_run(directory) for directory in directories], bounds="train-procgen")


def write(root, agent, *games, seeds=1, **options):
  return [
    write_run(root / f"{agent}-{game}-{seed}", agent=agent, game=game, seed=seed, **options)
    for game in games
    for seed in range(seeds)
  ]


def uneven(root, *, seeds):
  """No game has all three agents; two pairs of agents share one each."""
  return [
    *write(root, "dqn", "leaper", seeds=seeds),
    *write(root, "ppg", "coinrun", "leaper", seeds=seeds),
    *write(root, "ppo", "coinrun", "starpilot", seeds=seeds),
  ]


def section_of(tmp_path, *directories):
  page = write_report(directories, tmp_path / "page.html", resamples=100).read_text()
  (section,) = re.findall(r'<section id="aggregate".*?</section>', page, flags=re.DOTALL)
  return section


def test_a_level_distribution_without_a_common_game_is_named_with_what_is_lacking(tmp_path):
  directories = uneven(tmp_path, seeds=1)
  one = write_run(tmp_path / "one", agent="ppo", levels="easy-10")
  section = section_of(tmp_path, *directories, one)
  assert (
    "<p>easy-200: no aggregate, since no game has an evaluation of every agent:"
    " dqn lacks coinrun, starpilot; ppg lacks starpilot; ppo lacks leaper.</p>"
  ) in section
  assert "easy-10: no aggregate" not in section
  assert "<h3>easy-10</h3>" in section
  assert "no two agents share a game and steps with two runs or more each" in section


def test_pairs_of_agents_are_compared_on_the_games_that_those_two_share(tmp_path):
  directories = uneven(tmp_path, seeds=2)
  found = estimate_all(read(*directories), resamples=100).improvements
  assert {pair: each.pair.before.games for pair, each in found.items()} == {
    ("easy-200", "dqn", "ppg"): ("leaper",),
    ("easy-200", "ppg", "ppo"): ("coinrun",),
  }
  assert {each.pair.environment_steps for each in found.values()} == {1_000_000}
  assert found["easy-200", "ppg", "ppo"].estimate.value == 1.0  # skill 0.5 against 0.3
  section = section_of(tmp_path, *directories)
  assert "Probability of improvement on the full distribution, easy-200" in section
  (row,) = [row for row in section.split("<tr") if ">ppg over ppo</td>" in row]
  assert "coinrun" in row
  assert "leaper" not in row
  assert '<td class="number">1M</td>' in row


def test_common_games_without_common_steps_of_training(tmp_path):
  directories = [
    *write(tmp_path, "ppg", "coinrun", total=100_000),  # every 20k steps
    *write(tmp_path, "ppo", "coinrun", total=1_000_000),  # every 200k
  ]
  study = read(*directories)
  assert all_aggregates(study) == {}  # not at step 0 either
  assert why_no_aggregate(study, "easy-200", "test") == (
    "there are no steps of training at which every run on coinrun was evaluated:"
    " ppg at 0 to 100k; ppo at 0 to 1M"
  )
  assert estimate_all(study, resamples=100).improvements == {}


def test_runs_without_an_evaluation(tmp_path):
  directories = write(tmp_path, "ppo", "coinrun", state="running", done=0.0, evaluations=0)
  section = section_of(tmp_path, *directories)
  assert "easy-200: no aggregate, since no run has been evaluated yet." in section
