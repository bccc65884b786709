"""How many positions are searched, how many side by side, and what their trees take.

Arithmetic of plain numbers, no JAX: the plan of a run and reanalyse share it.
"""

import fractions
import math


def reanalysed_sequences(fraction: float, num_sequences: int) -> int:
  """Returns how many of the sequences are searched anew: the fraction, rounded up."""
  exact = fractions.Fraction(str(fraction))  # .07 of 100 is 7; in binary it is a little more
  return math.ceil(exact * num_sequences)


def rows_per_chunk(rows: int, columns: int, *, limit: int) -> int:
  """Returns the most rows of `columns` positions that stay within `limit` and divide `rows`.

  At least one row: its `columns` searches are never split.
  """
  fitting = [n for n in range(1, rows + 1) if rows % n == 0 and n * columns <= limit]
  return max(fitting, default=1)


def tree_bytes(
  num_simulations: int, *, num_actions: int, latent_bytes: int, extra_values: int
) -> int:
  """Returns the bytes of mctx's search tree of one position.

  A tree has a node for the root and one for every simulation. A node holds 5 numbers of
  its own (visits, raw and searched value, parent, action), 6 for every action (child,
  prior, visits, reward, discount, value) and its latent; the root also says which actions
  are invalid. All numbers take 4 bytes.

  Args:
    num_simulations: model steps.
    num_actions: A.
    latent_bytes: of one latent, in its own dtype.
    extra_values: what the search itself keeps at the root, in numbers.
  """
  nodes = num_simulations + 1
  return nodes * (4 * (5 + 6 * num_actions) + latent_bytes) + 4 * (num_actions + extra_values)
