"""Resident memory against memory that is known to be taken and given back."""

import mmap

from training import memory

SIZE = 256 * 2**20


def test_what_is_touched_is_counted_and_what_is_given_back_is_not():
  before = memory.resident_bytes()
  taken = mmap.mmap(-1, SIZE)
  untouched = memory.resident_bytes()
  taken.write(b"x" * SIZE)
  touched = memory.resident_bytes()
  taken.close()
  after = memory.resident_bytes()
  assert untouched - before < SIZE / 8
  assert abs(touched - untouched - SIZE) < SIZE / 8
  assert after - before < SIZE / 8


def test_nothing_is_said_where_the_system_does_not_tell(monkeypatch, tmp_path):
  monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
  assert memory.resident_bytes() is None
