"""Saved environment states: a payload under a seal.

The seal says what the payload belongs to and carries its checksum, so that a
damaged or foreign state is refused before anything reads it.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
import struct

_MAGIC = b"procplan-state-1"
_DIGEST_SIZE = 16
_LENGTH = struct.Struct("<I")


def _digest(data):
  return hashlib.blake2b(data, digest_size=_DIGEST_SIZE).digest()


def seal(header: Mapping[str, str | int], payload: bytes) -> bytes:
  """Returns one environment's state as bytes.

  Layout: magic with the format's version, digest of all that follows, length of
  the header, header (JSON), payload.

  Args:
    header: what the payload belongs to: game, levels, version.
    payload: the family's own state of one environment.
  """
  text = json.dumps(dict(header), sort_keys=True).encode()
  body = _LENGTH.pack(len(text)) + text + payload
  return _MAGIC + _digest(body) + body


def unseal(states: Sequence[bytes], header: Mapping[str, str | int], *, count: int) -> list[bytes]:
  """Returns the payloads of `states`, after checking every one of them.

  Args:
    states: one entry per environment, from `seal`.
    header: what the payloads must belong to.
    count: how many there must be.

  Raises:
    ValueError: another number of states, one that is damaged, or one that
      belongs to another game, level distribution or version.
  """
  if len(states) != count:
    raise ValueError(f"{len(states)} states do not fit {count} environments")
  return [_unseal(bytes(state), header, index) for index, state in enumerate(states)]


def _unseal(state, header, index):
  """Returns the payload of the state of environment `index`."""
  start = len(_MAGIC) + _DIGEST_SIZE
  if state[: len(_MAGIC)] != _MAGIC:
    raise ValueError(f"state of environment {index} is not a {_MAGIC.decode()} state")
  body = state[start:]
  if state[len(_MAGIC) : start] != _digest(body):
    raise ValueError(f"state of environment {index} is damaged: its checksum does not fit")
  (length,) = _LENGTH.unpack_from(body)
  payload_start = _LENGTH.size + length
  found = json.loads(body[_LENGTH.size : payload_start])
  if found != dict(header):
    names = sorted(found.keys() | header.keys())
    differences = [
      f"{name} is {found.get(name)!r}, needed {header.get(name)!r}"
      for name in names
      if found.get(name) != header.get(name)
    ]
    raise ValueError(f"state of environment {index} does not fit: {'; '.join(differences)}")
  return body[payload_start:]
