"""The learning curves as an SVG file: all panels, the page's looks, nothing from outside."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest
from synthetic_study import write_run, write_study

from experiments.options import guarded
from experiments.report import main
from experiments.reporting.svg import PALETTE

SVG = "{http://www.w3.org/2000/svg}"


def draw(directory, name="figure.svg", *options):
  """Writes page and figure; returns the figure's root element and its text."""
  path = directory / name
  words = [directory, "--out", directory / "page.html", "--figure", path, "--resamples", 100]
  words += options
  assert guarded(main, [str(word) for word in words]) == 0
  return ElementTree.fromstring(path.read_text()), path.read_text()


def panels(root):
  """The axes of a figure: matplotlib numbers their groups."""
  groups = [group.get("id", "") for group in root.iter(f"{SVG}g")]
  return [name for name in groups if re.fullmatch(r"axes_\d+", name)]


def test_every_game_and_level_distribution_has_a_panel_and_so_have_the_aggregates(tmp_path, capsys):
  write_study(tmp_path)  # 2 agents, 2 games, 2 level distributions
  root, text = draw(tmp_path)
  assert len(panels(root)) == 2 * 2 + 2
  assert all(colour.lower() in text.lower() for colour in PALETTE[:2])
  assert PALETTE[2].lower() not in text.lower()
  assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "figure.svg")


def test_one_game_has_no_aggregate(tmp_path):
  write_run(tmp_path / "run")
  root, _ = draw(tmp_path)
  assert len(panels(root)) == 1


def test_it_stands_alone_and_is_the_same_for_the_same_runs(tmp_path):
  write_study(tmp_path, games=("coinrun",), seeds=1)
  _, text = draw(tmp_path)
  assert text == draw(tmp_path, "again.svg")[1]
  assert not re.search(r'href="(?!#)', text)  # loads nothing
  assert "<text" not in text  # letters are outlines: no font is needed
  assert not re.search(r"#01020[345]", text)  # no stand-in of the page's colours is left


def test_until_some_steps_it_is_the_figure_of_runs_that_have_come_that_far(tmp_path):
  write_study(tmp_path / "long", games=("coinrun",), seeds=2)  # to 1M, evaluated every 200k
  whole, page = draw(tmp_path / "long")[1], (tmp_path / "long" / "page.html").read_text()
  shutil.copytree(tmp_path / "long", tmp_path / "short")
  for path in (tmp_path / "short").rglob("metrics.jsonl"):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(x for x in lines if json.loads(x)["environment_steps"] <= 400_000))
    (path.parent / "result.json").unlink()
    status = json.loads((path.parent / "status.json").read_text())
    (path.parent / "status.json").write_text(json.dumps(status | {"environment_steps": 400_000}))
  cut = draw(tmp_path / "long", "cut.svg", "--figure-until", 400_000)[1]
  assert cut != whole
  assert cut == draw(tmp_path / "short")[1]
  assert (tmp_path / "long" / "page.html").read_text() == page  # the page is about all steps


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (["--figure", "f.svg", "--figure-until", "0"], "figure_until must be at least 1"),
    (["--figure", "f.svg", "--figure-until", "1e5"], "1e5"),
    (["--figure-until", "100"], "--figure-until is about the file of --figure"),
  ],
)
def test_steps_that_bound_nothing_are_refused(options, said, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  write_run(tmp_path / "run")
  assert guarded(main, [str(tmp_path), "--out", "page.html", *options]) == 2
  assert said in capsys.readouterr().err
  assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("name", ["figure.png", "figure"])
def test_another_kind_of_file_is_refused(name, tmp_path, capsys):
  write_run(tmp_path / "run")
  words = [str(tmp_path), "--out", str(tmp_path / "p.html"), "--figure", str(tmp_path / name)]
  assert guarded(main, words) == 2
  assert f"--figure must end in .svg, got {tmp_path / name}" in capsys.readouterr().err
  assert not (tmp_path / "p.html").exists()


def test_runs_without_a_return_are_told(tmp_path, capsys):
  run = write_run(tmp_path / "run", state="running", done=0.0, evaluations=1)
  (run / "metrics.jsonl").write_text("")
  words = [str(tmp_path), "--out", str(tmp_path / "p.html"), "--figure", str(tmp_path / "f.svg")]
  assert guarded(main, words) == 2
  assert "nothing to draw yet" in capsys.readouterr().err
