"""The page that is kept up to date: when it is written, and what happens if it cannot be."""

import time

import pytest

from experiments import live_report
from experiments.live_report import LiveReport

COUNT = "import sys; open(sys.argv[1], 'a').write('x')"


@pytest.fixture
def report(tmp_path):
  made = LiveReport([tmp_path / "run"], tmp_path / "report.html")
  yield made
  made.close()


def advance_until_idle(report):
  said = [report.advance()]
  while report._process is not None:
    time.sleep(0.01)
    said.append(report.advance())
  return [each for each in said if each]


def pages(report):
  return len(report.page.read_text()) if report.page.exists() else 0


def test_nothing_is_written_before_it_is_asked_for(report):
  assert advance_until_idle(report) == []
  assert pages(report) == 0


def test_a_page_is_told_once(report, monkeypatch):
  monkeypatch.setattr(live_report, "WRITE", COUNT)
  monkeypatch.setattr(live_report, "REFRESH_SECONDS", 0.0)
  report.request()
  assert advance_until_idle(report) == [f"the report is {report.page}"]
  report.request()
  assert advance_until_idle(report) == []
  assert pages(report) == 2
  assert report.finish() == f"the report is {report.page}"
  assert pages(report) == 3


def test_pages_are_not_written_too_often(report, monkeypatch):
  monkeypatch.setattr(live_report, "WRITE", COUNT)
  report.request()
  advance_until_idle(report)
  report.request()
  assert advance_until_idle(report) == []
  assert pages(report) == 1
  report.finish()
  assert pages(report) == 2


def test_a_failure_is_told_and_the_page_before_it_stays(report, monkeypatch):
  monkeypatch.setattr(live_report, "REFRESH_SECONDS", 0.0)
  report.page.write_text("before")
  monkeypatch.setattr(live_report, "WRITE", "print('long story'); raise ValueError('no figure')")
  report.request()
  (said,) = advance_until_idle(report)
  assert "no figure" in said
  assert "long story" not in said
  report.request()
  assert advance_until_idle(report) == []  # the same again is not told again
  assert "no figure" in report.finish()
  assert report.page.read_text() == "before"


def test_a_page_that_takes_too_long_is_given_up(report, monkeypatch):
  monkeypatch.setattr(live_report, "LAST_PAGE_SECONDS", 0.05)
  monkeypatch.setattr(live_report, "WRITE", "import time; time.sleep(600)")
  assert "not finished" in report.finish()
  report.close()
  assert report._process is None


def test_the_real_page_is_written_of_a_run_that_has_not_begun(report):
  assert report.finish() == f"the report is {report.page}"
  assert report.page.read_text().lstrip().lower().startswith("<!doctype html")
