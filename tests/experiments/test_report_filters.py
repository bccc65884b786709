"""What filters hide, as far as it can be seen without a browser."""

import re

import pytest
from synthetic_study import write_run, write_study

from experiments.report import write_report
from experiments.reporting.filters import form, needs, needs_all, needs_of, script
from experiments.reporting.runs import read_run
from experiments.reporting.study import make_study


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("filters")
  write_study(root, seeds=1)
  return root


def study_of(root):
  paths = sorted(path.parent for path in root.rglob("config.yaml"))
  return make_study([read_run(path) for path in paths], bounds="train-procgen")


def test_a_part_needs_one_of_its_agents_games_and_levels(root):
  study = study_of(root)
  assert (study.agents, study.games) == (("ppg", "ppo"), ("coinrun", "starpilot"))
  assert needs(study, agents=["ppo"]) == {"data_needs": "a1"}
  assert needs(study, agents=["ppo", "ppg"], games=["starpilot"]) == {"data_needs": "a0|a1 g1"}
  assert needs(study) == {}
  assert needs(study, games=["chess"]) == {}
  assert needs_all(study, ("ppo", "ppg"), levels=["easy-all"]) == {"data_needs": "a1 a0 l1"}
  (cell,) = (c for c in study.cells_of(levels="easy-200", game="coinrun") if c.agent == "ppo")
  assert needs_of(study, [cell]) == {"data_needs": "a1 g0 l0"}


def test_every_need_can_be_chosen_and_every_choice_is_needed(root, tmp_path):
  page = write_report([root], tmp_path / "report.html", resamples=100).read_text()
  boxes = re.findall(r'<input type="checkbox" checked value="(\w\d+)">', page)
  assert boxes == ["a0", "a1", "g0", "g1", "l0", "l1"]
  needed = {token for text in re.findall(r'data-needs="([^"]*)"', page) for token in text.split()}
  assert {part for token in needed for part in token.split("|")} == set(boxes)
  # The form is hidden until the script shows it, and nothing is hidden by the page itself.
  assert re.search(r'<form id="filters" hidden=""', page)
  assert 'class="filtered-out"' not in page
  # In figures, lines and names of agents can be hidden.
  figure = re.search(
    r"<figure[^>]*><svg[^>]*aria-label=\"Mean episode return.*?</figure>", page, re.S
  )
  assert {'data-needs="a0"', 'data-needs="a1"'} <= set(re.findall(r'data-needs="a\d"', figure[0]))
  interval = re.search(r"<svg[^>]*aria-label=\"IQM of.*?</svg>", page, re.S)[0]
  named = re.findall(r'<g data-needs="(a\d)">\s*<!--|<g data-needs="(a\d)">\s*<text', interval)
  assert len(named) >= 2 * 2  # agents x splits


def test_where_there_is_one_of_each_there_is_nothing_to_choose(tmp_path):
  study = study_of(write_run(tmp_path / "run").parent)
  assert form(study) == script(study) == ""
  page = write_report([tmp_path], tmp_path / "report.html", resamples=100).read_text()
  assert "<script" not in page
  assert "<form" not in page


def test_only_what_has_a_choice_is_offered(tmp_path):
  write_run(tmp_path / "a", game="coinrun")
  write_run(tmp_path / "b", game="leaper")
  text = form(study_of(tmp_path))
  assert re.findall("<legend>(.*?)</legend>", text) == ["Games"]
  assert len(re.findall("<input", text)) == 2
