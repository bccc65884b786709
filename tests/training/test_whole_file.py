"""A file is the old one or the new one, and nothing else is left beside it."""

import os

from full_disk import file_size_limit
import pytest

from training.whole_file import whole_file


@pytest.fixture(name="old")
def make_old(tmp_path):
  path = tmp_path / "x.txt"
  path.write_text("old")
  return path


def write(path, text, *, then=None):
  with whole_file(path) as part:
    part.write_text(text)
    if then is not None:
      raise then


def names(path):
  return sorted(each.name for each in path.parent.iterdir())


def test_a_file_is_the_old_one_until_the_block_ends(old):
  with whole_file(old) as part:
    part.write_text("new")
    assert old.read_text() == "old"
  assert old.read_text() == "new"
  assert names(old) == ["x.txt"]


def test_a_new_file_is_not_there_until_the_block_ends(tmp_path):
  path = tmp_path / "x.txt"
  with whole_file(path) as part:
    part.write_text("new")
    assert not path.exists()
  assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_where_writing_fails_the_old_file_stays_alone(old, error):
  with pytest.raises(error):
    write(old, "ne", then=error)
  assert old.read_text() == "old"
  assert names(old) == ["x.txt"]


def test_nothing_is_left_on_a_full_disk(old):
  with file_size_limit(1), pytest.raises(OSError, match="File too large"):
    write(old, "new")
  assert old.read_text() == "old"
  assert names(old) == ["x.txt"]


def test_what_cannot_be_put_in_place_is_an_error_and_leaves_nothing(tmp_path):
  path = tmp_path / "x.txt"
  path.mkdir()
  with pytest.raises(IsADirectoryError):
    write(path, "new")
  assert names(path) == ["x.txt"]


def test_a_directory_that_is_not_there_is_named(tmp_path):
  path = tmp_path / "none" / "x.txt"
  with pytest.raises(FileNotFoundError, match="none"):
    write(path, "new")


def test_of_two_processes_the_last_one_wins(old, monkeypatch):
  with whole_file(old) as part:
    part.write_text("first")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with whole_file(old) as other:
      other.write_text("second")
    assert old.read_text() == "second"
  assert old.read_text() == "first"
  assert names(old) == ["x.txt"]
