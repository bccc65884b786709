"""The file in which parameters travel: a Haiku tree in an .npz archive, without pickle.

Every parameter is an array called `module/name`, where the module's own name may hold
slashes; `header` is a JSON text about where they come from.
"""

from collections.abc import Iterator, Mapping
import contextlib
import json
from pathlib import Path
from typing import Any
import zipfile
import zlib

import numpy as np

from experiments.errors import UsageError
from training.whole_file import whole_file

HEADER = "header"
FORMAT = 1

HaikuTree = Mapping[str, Mapping[str, np.ndarray]]

# What numpy and zipfile raise about bytes that are not what they should be.
_DAMAGE = (
  ValueError, KeyError, EOFError, OSError, MemoryError, NotImplementedError, RuntimeError,
  zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def write_haiku_file(path: Path, tree: HaikuTree, *, header: Mapping[str, Any]) -> None:
  """Writes a tree and its header; replaces the file as a whole.

  Args:
    path: of the file.
    tree: `{module: {name: array}}`.
    header: what JSON can hold; the format's number is added.

  Raises:
    OSError: it could not be written; what was there stays.
  """
  text = json.dumps({"format": FORMAT, **header}, indent=2, allow_nan=False)
  arrays = {f"{module}/{name}": x for module, xs in tree.items() for name, x in xs.items()}
  with whole_file(path) as part, part.open("wb") as file:
    np.savez(file, **{HEADER: np.array(text)}, **arrays)


def read_haiku_file(path: Path) -> dict[str, dict[str, np.ndarray]]:
  """Returns the tree in a file, whoever wrote it.

  Raises:
    UsageError: it is no .npz file, or entries cannot be read; names all of them.
  """
  tree: dict[str, dict[str, np.ndarray]] = {}
  problems = []
  with _opened(path) as archive:
    for key in archive.files:
      if key == HEADER:
        continue
      module, _, name = key.rpartition("/")
      try:
        array = archive[key]
      except _DAMAGE as error:
        problems.append(f"{key}: {_words(error)}")
        continue
      if not isinstance(array, np.ndarray):
        problems.append(f"{key}: it is no array")
      elif name in tree.setdefault(module, {}):
        problems.append(f"{key}: it is there twice")
      else:
        tree[module][name] = array
  if problems:
    entries = "1 entry" if len(problems) == 1 else f"{len(problems)} entries"
    raise UsageError("\n  ".join([f"{path}: {entries} cannot be read:", *problems]))
  return tree


def read_header(path: Path) -> dict[str, Any] | None:
  """Returns what a file says about itself, or None if it has no header.

  Raises:
    UsageError: it is no .npz file, or its header is damaged or of another format.
  """
  with _opened(path) as archive:
    if HEADER not in archive.files:
      return None
    try:
      header = json.loads(str(archive[HEADER]))
    except _DAMAGE as error:
      raise UsageError(f"{path}: its header cannot be read: {_words(error)}") from None
  if not isinstance(header, dict) or header.get("format") != FORMAT:
    raise UsageError(f"{path}: its header is not of format {FORMAT}")
  return header


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
  with contextlib.ExitStack() as stack:
    try:
      # Opened here: where an archive is damaged, numpy leaves the file it opened to the collector.
      file = stack.enter_context(path.open("rb"))
      is_archive = zipfile.is_zipfile(file)  # numpy takes whatever is none for a pickle
      file.seek(0)
      archive = np.load(file, allow_pickle=False) if is_archive else None
    except (FileNotFoundError, IsADirectoryError):
      raise UsageError(f"there is no file {path}") from None
    except _DAMAGE as error:
      raise UsageError(f"cannot read {path}: {_words(error)}") from None
    if archive is None:
      raise UsageError(f"{path} is no .npz file")
    yield stack.enter_context(archive)


def _words(error: BaseException) -> str:
  return " ".join(str(error).split()) or type(error).__name__
