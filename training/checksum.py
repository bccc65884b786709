"""One number for all bits of a tree of arrays."""

import hashlib
from typing import Any

import jax
import numpy as np


def checksum_of(tree: Any) -> bytes:
  """Returns the sha256, 32 bytes, of the arrays' types, shapes and bits, in the tree's order."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(tree):
    array = np.asarray(leaf)
    digest.update(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.digest()
