"""`procplan report` as a user calls it."""

import pytest
from synthetic_study import write_run

from experiments.options import guarded
from experiments.report import main


def test_a_page_is_written(tmp_path, capsys):
  write_run(tmp_path / "run")
  page = tmp_path / "pages" / "page.html"
  arguments = [tmp_path, "--out", page, "--title", "My title", "--resamples", 100]
  assert guarded(main, [str(each) for each in arguments]) == 0
  assert capsys.readouterr().out == f"{page}\n"
  text = page.read_text()
  assert "My title" in text
  assert "ppo" in text


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["missing"], "missing does not exist"),
    (["empty"], "no run directory"),
    (["run", "--bounds", "train-procgn"], "'train-procgen'"),
    (["run", "--resamples", "7"], "at least 100"),
    (["run", "--resamples", "many"], "invalid int"),
  ],
)
def test_a_wrong_argument_is_told_in_one_line(arguments, message, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  write_run(tmp_path / "run")
  (tmp_path / "empty").mkdir()
  assert guarded(main, arguments) == 2
  error = capsys.readouterr().err
  assert message in error
  assert error.count("\n") == 1
  assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]
