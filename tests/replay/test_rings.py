"""Both rings against a plain list of frames; the memory that compressed blocks pass through."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from replay.byte_ring import ByteRing
from replay.compressed_ring import CompressedRing
from replay.ring import Ring

B = 2


def _rings(capacity, *, block_frames, nbytes=100_000):
  kind = {"shape": (4, 3), "dtype": np.dtype(np.uint8)}
  return (
    Ring(capacity, B, **kind),
    CompressedRing(capacity, B, **kind, block_frames=block_frames, nbytes=nbytes),
  )


@settings(deadline=None, max_examples=60)
@given(
  capacity=st.integers(4, 30),
  block_frames=st.integers(1, 12),
  first=st.integers(0, 25),
  steps=st.lists(st.integers(1, 30), min_size=1, max_size=12),
  seed=st.integers(0, 1000),
)
def test_raw_and_compressed_give_what_was_written(capacity, block_frames, first, steps, seed):
  rng = np.random.default_rng(seed)
  rings = _rings(capacity, block_frames=block_frames)
  history = np.zeros((first, B, 4, 3), np.uint8)
  for step in steps:
    frames = rng.integers(0, 256, (min(step, capacity), B, 4, 3), np.uint8)
    for ring in rings:
      ring.write(len(history), frames)
    history = np.concatenate([history, frames])
    oldest = max(first, len(history) - capacity)
    length = rng.integers(1, len(history) - oldest + 1)
    begin = rng.integers(oldest, len(history) - length + 1, 7)
    environment = rng.integers(0, B, 7)
    expected = np.stack(
      [history[b : b + length, e] for b, e in zip(begin, environment, strict=True)], axis=1
    )
    for ring in rings:
      found = ring.read(environment, begin, length=int(length))
      np.testing.assert_array_equal(found, expected)
      assert found.dtype == np.uint8


def test_what_is_read_is_a_copy():
  for ring in _rings(8, block_frames=4):
    ring.write(0, np.ones((6, B, 4, 3), np.uint8))
    drawn = ring.read(np.array([0, 1]), np.array([0, 2]), length=4)
    ring.write(6, np.full((8, B, 4, 3), 7, np.uint8))
    assert (drawn == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.int64])
def test_any_dtype(dtype):
  ring = Ring(5, B, shape=(2,), dtype=np.dtype(dtype))
  ring.write(0, np.ones((3, B, 2), dtype))
  assert ring.read(np.array([0]), np.array([1]), length=2).dtype == dtype
  assert ring.nbytes == 5 * B * 2 * np.dtype(dtype).itemsize


def test_frames_that_compress_badly_are_refused_with_the_arithmetic():
  _, ring = _rings(40, block_frames=4, nbytes=1000)
  rng = np.random.default_rng(0)
  with pytest.raises(MemoryError, match=r"1000 bytes of memory_budget .* capacity of 80 frames"):
    ring.write(0, rng.integers(0, 256, (40, B, 4, 3), np.uint8))


def test_the_same_memory_holds_frames_that_compress_well():
  _, ring = _rings(40, block_frames=4, nbytes=1000)
  ring.write(0, np.ones((40, B, 4, 3), np.uint8))
  assert (ring.read(np.array([1]), np.array([0]), length=40) == 1).all()
  assert ring.nbytes == 1000


def test_too_little_memory_for_a_block():
  with pytest.raises(ValueError, match="100 bytes are too few"):
    _rings(40, block_frames=4, nbytes=100)


@settings(deadline=None, max_examples=200)
@given(sizes=st.lists(st.integers(1, 15), max_size=60), end=st.integers(15, 60))
def test_bytes_pass_through_in_order(sizes, end):
  ring, held = ByteRing(end), []
  for number, size in enumerate(sizes):
    piece = bytes([number % 256]) * size
    while True:  # gives up the oldest piece until there is room
      try:
        position = ring.append(piece, oldest=held[0][0] if held else None)
        break
      except MemoryError:
        del held[0]
    held.append((position, piece))
    for position, piece in held:
      assert bytes(ring.view(position, len(piece))) == piece


def test_half_of_a_ring_of_bytes_is_always_of_use():
  ring, held = ByteRing(100), []
  for _ in range(50):
    held = [*held, ring.append(bytes(9), oldest=held[0] if held else None)][-5:]


def test_a_full_ring_of_bytes_refuses_and_stays_whole():
  ring = ByteRing(10)
  first = ring.append(b"aaaa", oldest=None)
  second = ring.append(b"bbbb", oldest=first)
  with pytest.raises(MemoryError, match="no room for 3 bytes in a ring of 10"):
    ring.append(b"ccc", oldest=first)
  third = ring.append(b"dd", oldest=first)
  assert [bytes(ring.view(p, n)) for p, n in ((first, 4), (second, 4), (third, 2))] == [
    b"aaaa",
    b"bbbb",
    b"dd",
  ]
  wrapped = ring.append(b"eee", oldest=second)  # the first piece has been given up
  assert wrapped == 0
  assert bytes(ring.view(second, 4)) == b"bbbb"
