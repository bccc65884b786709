"""Parameter trees between dm-haiku and flax, both ways.

Trees of numpy arrays, renamed after a table of `networks.haiku_names`; no number changes,
and neither library is imported. A tree that does not fit is refused with every mismatch.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from networks.haiku_names import Names

DTYPE = np.dtype(np.float32)  # of every parameter, whatever the compute dtype
COLLECTION = "params"  # flax's name for what is learned

Path = tuple[str, ...]


class ParameterMismatchError(ValueError):
  """A tree has other parameters than it must have; names every one.

  Attributes:
    problems: one line each.
  """

  def __init__(self, problems: Iterable[str]):
    self.problems = tuple(problems)
    count = len(self.problems)
    what = "1 parameter does" if count == 1 else f"{count} parameters do"
    super().__init__("\n  ".join([f"{what} not fit:", *self.problems]))


def to_flax(params: Mapping[str, Mapping[str, Any]], names: Names) -> dict[str, Any]:
  """Renames a Haiku tree.

  Args:
    params: `{module: {name: array}}`, as `hk.transform` makes it.
    names: the network's table.

  Returns:
    `{"params": {...}}`, as `flax.linen.Module.init` makes it, with the same arrays.

  Raises:
    ParameterMismatchError: a parameter is missing, superfluous, of a wrong shape or not
      float32; names all of them.
  """
  found = dict(_leaves(params))
  _check(found, {(each.module, each.name): each.shape for each in names})
  tree: dict[str, Any] = {COLLECTION: {}}
  for each in names:
    node = tree[COLLECTION]
    for step in each.path[:-1]:
      node = node.setdefault(step, {})
    node[each.path[-1]] = found[each.module, each.name]
  return tree


def to_haiku(variables: Mapping[str, Any], names: Names) -> dict[str, dict[str, np.ndarray]]:
  """Renames a flax tree.

  Args:
    variables: `{"params": {...}}`, as `flax.linen.Module.init` makes it.
    names: the network's table.

  Returns:
    `{module: {name: array}}`, as `hk.transform` makes it, with the same arrays.

  Raises:
    ParameterMismatchError: a parameter is missing, superfluous, of a wrong shape or not
      float32; names all of them.
  """
  found = dict(_leaves(variables))
  _check(found, {(COLLECTION, *each.path): each.shape for each in names})
  tree: dict[str, dict[str, np.ndarray]] = {}
  for each in names:
    tree.setdefault(each.module, {})[each.name] = found[(COLLECTION, *each.path)]
  return tree


def _leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, np.ndarray]]:
  """Yields every leaf of nested mappings as an array, with the keys on the way to it."""
  if not isinstance(tree, Mapping):
    yield path, np.asarray(tree)
    return
  for key, child in tree.items():
    yield from _leaves(child, (*path, str(key)))


def _check(found: Mapping[Path, np.ndarray], wanted: Mapping[Path, tuple[int, ...]]) -> None:
  """Raises ParameterMismatchError unless `found` has exactly the wanted parameters."""
  problems = [
    f"missing: {_name(path)}, {_form(DTYPE, shape)}"
    for path, shape in wanted.items()
    if path not in found
  ]
  for path, array in found.items():
    name = _name(path)
    if path not in wanted:
      problems.append(f"superfluous: {name}, {_form(array.dtype, array.shape)}")
      continue
    if array.shape != wanted[path]:
      problems.append(f"wrong shape: {name} is {list(array.shape)}, must be {list(wanted[path])}")
    if array.dtype != DTYPE:
      problems.append(f"wrong dtype: {name} is {array.dtype}, must be {DTYPE}")
  if problems:
    raise ParameterMismatchError(problems)


def _name(path: Path) -> str:
  return "/".join(filter(None, path))


def _form(dtype: np.dtype, shape: tuple[int, ...]) -> str:
  return f"{dtype}{list(shape)}"
