"""The page: complete, self-contained, honest about what it shows, the same for the same input."""

from html.parser import HTMLParser
import json
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest
from synthetic_study import write_run, write_study

from experiments.report import write_report
from experiments.reporting.wording import NOTHING

VOID = {"meta", "br", "input", "img"}
ROOT = Path(__file__).resolve().parents[2]
# Two panels a game and level distribution: over steps and over time.
CURVES, DIAGNOSTICS = 2, 6
THROUGHPUT, AGGREGATE = 1, 2  # steps/s; the aggregate over steps and over time


class Page(HTMLParser):
  """Elements of a page; fails where a tag is not closed in order."""

  def __init__(self, path):
    super().__init__()
    self.elements, self.texts, self._open = [], [], []
    self.source = Path(path).read_text(encoding="utf-8")
    self.feed(self.source)
    self.close()
    assert self._open == []

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    if self._open and self._open[-1] not in ("style", "script"):
      self.texts.append(data)

  @property
  def text(self):
    return re.sub(r"\s+", " ", " ".join(self.texts))

  def count(self, tag):
    return sum(each == tag for each, _ in self.elements)

  def row(self, section, *cells):
    """Text of the only row in a section's tables that begins with these cells."""
    (content,) = re.findall(rf'<section id="{section}".*?</section>', self.source, flags=re.DOTALL)
    body = re.findall(r"<tr[^>]*>(.*?)</tr>", content, flags=re.DOTALL)
    rows = [[re.sub("<.*?>", " ", cell) for cell in re.split(r"</t[hd]>", row)] for row in body]
    (row,) = [row for row in rows if [c.strip() for c in row[: len(cells)]] == list(cells)]
    return [re.sub(r"\s+", " ", cell).strip() for cell in row]


def report(tmp_path, *directories, **options):
  options.setdefault("resamples", 100)
  return Page(write_report(directories, tmp_path / "out" / "report.html", **options))


@pytest.fixture(scope="module")
def study_page(tmp_path_factory):
  root = tmp_path_factory.mktemp("study")
  write_study(root / "study")
  return report(root, root / "study")


def test_all_figures_and_sections_are_there(study_page):
  cells = 2 * 2  # games x level distributions
  # Level distributions x (curves, IQM, mean, profile, improvement).
  aggregates = 2 * (AGGREGATE + 4)
  # A gap for the one level distribution that is not all levels, success by level there too.
  gap, levels, success = 1, 1, 2
  expected = CURVES * cells + aggregates + gap + levels + success + THROUGHPUT + DIAGNOSTICS
  assert study_page.count("figure") == expected
  headings = re.findall(r"<h2[^>]*>(.*?)</h2>", study_page.source)
  assert headings == [
    "Learning curves",
    "Aggregate over games",
    "Training levels against full distribution",
    "Final scores",
    "Score against number of training levels",
    "Success by level",
    "Sample efficiency in two numbers",
    "Throughput",
    "Protocol",
    "Runs",
    "Losses and diagnostics",
  ]


def test_nothing_is_loaded_from_outside(study_page):
  assert "http" not in study_page.source.replace("http-equiv", "")
  assert "//" not in study_page.source.replace("</", "")
  assert "@import" not in study_page.source
  (policy,) = [a["content"] for _, a in study_page.elements if "http-equiv" in a]
  assert policy.startswith("default-src 'none'")
  assert {"link", "img", "iframe", "object"}.isdisjoint(t for t, _ in study_page.elements)
  for _, attributes in study_page.elements:
    assert "src" not in attributes
    for name in ("href", "xlink:href"):
      assert attributes.get(name, "#").startswith("#")


def test_ids_are_unique_and_references_resolve(study_page):
  ids = [attributes["id"] for _, attributes in study_page.elements if "id" in attributes]
  assert len(set(ids)) == len(ids)
  references = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', study_page.source)
  assert {a or b for a, b in references} <= set(ids)
  labelled = [a["aria-labelledby"] for _, a in study_page.elements if "aria-labelledby" in a]
  assert len(labelled) == study_page.count("h2")
  assert set(labelled) <= set(ids)


def test_figures_and_tables_can_be_read_aloud(study_page):
  tags = [tag for tag, _ in study_page.elements]
  assert tags.count("table") == tags.count("caption") > 5
  pictures = [a for tag, a in study_page.elements if tag == "svg" and a.get("role") == "img"]
  assert len(pictures) == study_page.count("figure")
  assert all(len(attributes["aria-label"]) > 15 for attributes in pictures)
  assert 'name="viewport"' in study_page.source
  assert "@media print" in study_page.source


def test_text_from_runs_is_escaped(study_page):
  assert "runs/a &lt;b&gt; &amp; c" in study_page.source
  assert "runs/a <b>" not in study_page.source


def test_published_scores_stand_beside_equal_steps_only(tmp_path):
  same = write_run(tmp_path / "a", total=1_015_808)
  row = report(tmp_path, same).row("scores", "easy-200", "coinrun", "ppo")
  assert row[-2] == "train 7.90 ± 0.31 test 7.41 ± 0.36"
  other = write_run(tmp_path / "b", total=400_000)
  page = report(tmp_path, other)
  assert page.row("scores", "easy-200", "coinrun", "ppo")[-2] == "none at 400k steps"
  assert "7.90" not in page.source
  unpublished = write_run(tmp_path / "c", agent="muzero", total=1_000_000)
  assert (
    report(tmp_path, unpublished)
    .row("scores", "easy-200", "coinrun", "muzero")[-2]
    .startswith("none")
  )


def test_the_table_says_what_the_files_say(tmp_path):
  directories = [write_run(tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
  returns = {"train": [], "test": []}
  training = []
  for directory in directories:
    result = json.loads((directory / "result.json").read_text())
    training.append(result["training_episode_return"])
    for row in result["evaluations"]:
      returns[row["split"]].append(row["episode_return"])
  row = report(tmp_path, *directories).row("scores", "easy-200", "coinrun", "ppo", "1M", "2")
  means = [sum(values) / 2 for values in (training, returns["train"], returns["test"])]
  for cell, mean, values in zip(row[5:8], means, (training, *returns.values()), strict=True):
    assert cell == f"{mean:.2f} {min(values):.2f} to {max(values):.2f}"
  assert row[8].split()[0] == f"{means[1] - means[2]:.2f}".replace("-", "\N{MINUS SIGN}")


def test_steps_are_counted_to_the_best_ppo_beside_each_cell(tmp_path):
  def final(name, value, **settings):
    directory = write_run(tmp_path / name, **settings)
    result = json.loads((directory / "result.json").read_text())
    result["evaluations"][1]["episode_return"] = value
    (directory / "result.json").write_text(json.dumps(result))
    return directory

  wide, narrow = ({"backbone": {"kind": "ResNet", "width": width}} for width in (64, 8))
  directories = [
    final("wide", 9.0, settings=wide),
    final("narrow", 6.0, settings=narrow),
    final("elsewhere", 7.0, settings=narrow, game="leaper"),
    final("other", 5.5, agent="ppg"),
  ]
  page = report(tmp_path, *directories)
  row = page.row("efficiency", "easy-200", "coinrun", "ppg")
  assert row[6:8] == ["9.00 ppo (width=64) at 1M", "not within 1M"]
  assert page.row("efficiency", "easy-200", "coinrun", "ppo (width=64)")[7] == "1M"
  assert page.row("efficiency", "easy-200", "leaper", "ppo (width=8)")[6].startswith(
    "7.00 ppo (width=8) at 1M"
  )


def test_world_models_have_a_section_of_their_own(tmp_path):
  run = write_run(tmp_path / "run", agent="muzero")
  lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  for row in lines:
    if row["kind"] == "training":
      row |= {"model/search_kl": 0.1, "model/value_explained_variance": -6e16, "model/loss": 1.0}
    else:
      row |= {"value_bias": 0.5}
  (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
  page = report(tmp_path, run)
  (planning,) = re.findall(r'<section id="planning".*?</section>', page.source, flags=re.DOTALL)
  assert re.findall(r"<title>(\S+)", planning) == [
    "model/value_explained_variance",
    "model/search_kl",
    "value_bias,",
    "value_bias,",
  ]
  assert "The axis ends at -1, below which there are values." in planning
  (rest,) = re.findall(r'<section id="diagnostics".*?</section>', page.source, flags=re.DOTALL)
  assert "model/loss" in rest
  assert "model/search_kl" not in rest


def test_a_failed_run_is_shown_and_counts_in_no_mean(tmp_path):
  done = write_run(tmp_path / "done", seed=0)
  failed = write_run(tmp_path / "broken", seed=1, state="failed", done=0.5)
  page = report(tmp_path, done, failed)
  assert "1 run failed; no mean includes a failed run." in page.text
  row = page.row("runs", "../broken")
  assert row[5] == "failed at environment step 300000: policy/loss is not finite"
  assert row[6] == "500k of 1M"
  assert page.row("scores", "easy-200", "coinrun", "ppo")[4] == "1 + 1 failed"
  alone = report(tmp_path, done).row("scores", "easy-200", "coinrun", "ppo")
  assert page.row("scores", "easy-200", "coinrun", "ppo")[5:] == alone[5:]


def test_only_failed_and_queued_runs(tmp_path):
  failed = write_run(tmp_path / "broken", state="failed", done=0.0, evaluations=1)
  page = report(tmp_path, failed, tmp_path / "queued")
  assert page.row("runs", "../queued")[5] == "not started"
  assert page.row("scores", "easy-200", "coinrun", "ppo")[7] == "\N{EN DASH}"
  assert "No evaluation on the full distribution" in page.text


def test_a_run_with_one_evaluation(tmp_path):
  run = write_run(tmp_path / "run", evaluations=1, state="running", done=0.1)
  page = report(tmp_path, run)
  success = 1
  assert page.count("figure") == CURVES + AGGREGATE + 1 + 1 + success + THROUGHPUT + DIAGNOSTICS
  assert "one seed" in page.text
  assert "An interval needs two runs or more per game" in page.text
  assert "This is an interim report" in page.text
  assert "steps so far" in page.text
  assert page.row("runs", "../run")[5].startswith("running")


def test_a_game_outside_the_table_of_bounds(tmp_path):
  page = report(tmp_path, write_run(tmp_path / "run", game="pong", levels="all-of-them"))
  assert page.count("figure") == CURVES + THROUGHPUT + DIAGNOSTICS
  assert "all-of-them: no aggregate, since no game has known score bounds (pong)." in (page.text)
  assert page.row("scores", "all-of-them", "pong", "ppo")[-2] == "none at 1M steps"


def test_seeds_that_overlap_are_said_to(tmp_path):
  def scored(name, seed, value):
    directory = write_run(tmp_path / f"{name}{seed}", agent=name, seed=seed)
    result = json.loads((directory / "result.json").read_text())
    result["evaluations"][1]["episode_return"] = value
    (directory / "result.json").write_text(json.dumps(result))
    return directory

  a = [scored("ppo", 0, 5.0), scored("ppo", 1, 7.0)]
  b = [scored("ppg", 0, 6.0), scored("ppg", 1, 9.0)]
  text = report(tmp_path, *a, *b).text
  assert "ppg is 1.50 above ppo, but their seeds overlap: these runs do not separate them." in text
  c = [scored("dqn", 0, 1.0), scored("dqn", 1, 2.0)]
  assert "ppo is 4.50 above dqn, and no seed of one reaches the other's." in (
    report(tmp_path, *a, *c).text
  )
  assert "with a single seed that may be chance" in report(tmp_path, a[0], c[0]).text
  same = [scored("muzero", 0, 6.0), scored("muzero", 1, 6.001)]
  text = report(tmp_path, *a, *same).text
  assert "at 1M steps: muzero and ppo score the same, 6.00." in text
  assert "0.00 above" not in text


def test_the_headline_goes_between_evaluations_and_agrees_with_the_table(tmp_path):
  run = write_run(tmp_path / "run", done=0.45, state="running")
  rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()[:-1]]
  for row in rows:
    if row["kind"] == "training":  # over one episode at first, and past the last evaluation
      row["training/episode_return"] = 10.0 if row["training/episodes"] < 100 else 6.4
    elif row["split"] == "train":
      row["episode_return"] = {0: 3.59, 200_000: 5.0, 400_000: 7.03}[row["environment_steps"]]
  (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  page = report(tmp_path, run)
  assert "From 0 to 400k steps, its score on training levels went from 3.59 to 7.03." in page.text
  assert "training return went" not in page.text
  assert page.row("scores", "easy-200", "coinrun", "ppo")[6].split()[0] == "7.03"


def test_there_is_no_gap_where_an_agent_trains_on_all_levels(tmp_path):
  few = report(tmp_path, write_run(tmp_path / "few", levels="easy-200")).text
  assert "on its training levels: a gap of" in few
  every = report(tmp_path, write_run(tmp_path / "every", levels="easy-all")).text
  assert re.search(r"\(one seed\), on which it trains, and [\d.]+ in other episodes of it\.", every)
  assert "a gap of" not in every
  few, every = (report(tmp_path, tmp_path / name) for name in ("few", "every"))
  assert "The line between them is the generalisation gap" in few.text
  assert "The line between them" not in every.text
  gap = 8  # of the columns
  assert few.row("scores", "easy-200", "coinrun", "ppo")[gap] != NOTHING
  assert every.row("scores", "easy-all", "coinrun", "ppo")[gap] == NOTHING


def test_agents_are_not_compared_before_training(tmp_path):
  short = write_run(tmp_path / "short", agent="ppg", total=100_000)  # every 20k steps
  long = write_run(tmp_path / "long", total=1_000_000)
  said = "ppg and ppo have no evaluation at the same steps of training."
  assert f"easy-200: {said}" in report(tmp_path, short, long).text.replace("coinrun, ", "")


def test_the_headline_compares_at_the_latest_steps_that_both_have(tmp_path):
  short = write_run(tmp_path / "short", agent="ppg", total=500_000)  # every 100k steps
  long = write_run(tmp_path / "long", total=1_000_000)  # every 200k
  assert "coinrun, easy-200, at 400k steps: pp" in report(tmp_path, short, long).text


def test_the_same_input_gives_the_same_bytes_without_jax(tmp_path):
  write_study(tmp_path / "study", games=("coinrun",), seeds=1)
  code = (
    "import sys; from experiments.report import write_report;"
    " write_report([sys.argv[1]], sys.argv[2], resamples=100);"
    " assert 'jax' not in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
  )
  pages = []
  for seed in ("1", "2"):
    out = tmp_path / f"report{seed}.html"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", code, tmp_path / "study", out]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    pages.append(out.read_bytes())
  assert pages[0] == pages[1]


def test_a_page_that_cannot_be_replaced_stays_as_it_was(tmp_path, monkeypatch):
  run = write_run(tmp_path / "run", evaluations=1, done=0.05, state="running")
  path = tmp_path / "out" / "report.html"
  path.parent.mkdir()
  path.write_text("the old page")

  def full(source, target):
    raise OSError("No space left on device")

  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(OSError, match="No space"):
    write_report([run], path, resamples=100)
  assert path.read_text() == "the old page"
  assert list(path.parent.iterdir()) == [path]


def test_wrong_arguments_are_refused(tmp_path):
  run = write_run(tmp_path / "run")
  with pytest.raises(ValueError, match="nearest is 'train-procgen'"):
    write_report([run], tmp_path / "r.html", bounds="train-progen")
  with pytest.raises(ValueError, match="no run directory"):
    write_report([], tmp_path / "r.html")
  with pytest.raises(ValueError, match="at least 100"):
    write_report([run], tmp_path / "r.html", resamples=3)
