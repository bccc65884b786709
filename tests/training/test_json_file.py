"""JSON files are whole or not there."""

import json

from full_disk import file_size_limit
import pytest

from training.json_file import read_json, write_json


def test_json_replaces_a_file_as_a_whole(tmp_path):
  path = tmp_path / "x.json"
  write_json(path, {"a": 1})
  with pytest.raises(ValueError, match="not JSON compliant"):
    write_json(path, {"a": float("nan")})
  with file_size_limit(10), pytest.raises(OSError, match="File too large"):
    write_json(path, {"a": "0123456789"})
  assert json.loads(path.read_text()) == read_json(path) == {"a": 1}


def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path):
  path = tmp_path / "x.json"
  for content in (b"", b"{", b"[1]", b"\xff"):
    path.write_bytes(content)
    assert read_json(path) == read_json(tmp_path / "y.json") == {}
