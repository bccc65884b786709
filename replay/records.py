"""Walks the tree of a record without knowing who made it.

A tree is a leaf (anything with a shape and a dtype), a mapping, a NamedTuple, a
tuple, a list, or a dataclass of trees. Numpy only: leaves may be device arrays
and are passed through untouched.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
from typing import Any

Tree = Any


def _is_named_tuple(tree: Tree) -> bool:
  """Whether `tree` is a tuple whose entries have names."""
  return isinstance(tree, tuple) and hasattr(tree, "_fields")


def _children(tree: Tree) -> list[tuple[str, Tree]] | None:
  """Returns the named entries of a node, or None for a leaf."""
  if hasattr(tree, "shape") and hasattr(tree, "dtype"):
    return None
  if isinstance(tree, Mapping):
    return [(str(key), tree[key]) for key in tree]
  if _is_named_tuple(tree):
    return list(zip(tree._fields, tree, strict=True))
  if isinstance(tree, (tuple, list)):
    return [(str(index), child) for index, child in enumerate(tree)]
  if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
    return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
  raise TypeError(
    f"a record holds arrays, mappings, tuples, lists and dataclasses, got {type(tree)}"
  )


def named_leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yields every leaf with its path.

  Args:
    tree: a record.
    prefix: path of `tree` itself.

  Yields:
    (`extras/value`, leaf) in the tree's own order.

  Raises:
    TypeError: an entry is neither an array nor a known kind of node.
  """
  children = _children(tree)
  if children is None:
    yield prefix, tree
    return
  for name, child in children:
    yield from named_leaves(child, f"{prefix}/{name}" if prefix else name)


def replace_leaves(tree: Tree, replace: Callable[[str], Any], prefix: str = "") -> Tree:
  """Rebuilds a tree of the same structure with other leaves.

  Args:
    tree: a record, for its structure.
    replace: path -> new leaf, asked once for every leaf.
    prefix: path of `tree` itself.

  Returns:
    A tree of the same types; its mappings are plain dicts.

  Raises:
    TypeError: an entry is neither an array nor a known kind of node.
  """
  children = _children(tree)
  if children is None:
    return replace(prefix)
  rebuilt = [
    replace_leaves(child, replace, f"{prefix}/{name}" if prefix else name)
    for name, child in children
  ]
  if isinstance(tree, Mapping):
    return dict(zip(tree, rebuilt, strict=True))
  if _is_named_tuple(tree):
    return type(tree)(*rebuilt)
  if isinstance(tree, (tuple, list)):
    return type(tree)(rebuilt)
  names = [name for name, _ in children]
  return dataclasses.replace(tree, **dict(zip(names, rebuilt, strict=True)))
