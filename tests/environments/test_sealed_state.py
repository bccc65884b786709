"""The seal refuses what is damaged, foreign or of another number."""

import pytest

from environments.sealed_state import seal, unseal

HEADER = {"game": "maze", "num_levels": 200}


def test_round_trip():
  payloads = [b"", b"\x00\x01" * 100, bytes(range(256))]
  states = [seal(HEADER, payload) for payload in payloads]
  assert unseal(states, HEADER, count=3) == payloads


def test_every_single_flipped_byte_is_refused():
  state = seal(HEADER, b"payload")
  for position in range(len(state)):
    damaged = bytearray(state)
    damaged[position] ^= 1
    with pytest.raises(ValueError, match=r"environment 0 is (damaged|not a)"):
      unseal([bytes(damaged)], HEADER, count=1)


def test_every_truncation_and_an_extra_byte_are_refused():
  state = seal(HEADER, b"payload")
  for wrong in [*(state[:length] for length in range(len(state))), state + b"\x00"]:
    with pytest.raises(ValueError, match=r"environment 0 is (damaged|not a)"):
      unseal([wrong], HEADER, count=1)


def test_another_header_is_refused_and_named():
  state = seal({"game": "heist", "num_levels": 200, "version": 1}, b"payload")
  with pytest.raises(ValueError, match="environment 1 does not fit") as error:
    unseal([seal(HEADER, b""), state], HEADER, count=2)
  assert "game is 'heist', needed 'maze'" in str(error.value)
  assert "version is 1, needed None" in str(error.value)
  assert "num_levels" not in str(error.value)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_is_refused(count):
  with pytest.raises(ValueError, match=f"2 states do not fit {count} environments"):
    unseal([seal(HEADER, b"")] * 2, HEADER, count=count)
