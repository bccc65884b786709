"""Files that are replaced as a whole. Imports no JAX: light commands write them too."""

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
  """Gives a path to write to; what is written there then takes the place of `path` at once.

  A reader sees the old file or the new one, never a part. Where writing fails, on a full disk
  too, the old file stays and the part that was written is deleted. Every process writes to a
  path of its own, so that of several writers the last one wins. Nothing is flushed to the disk:
  where a file must outlive a crash of the machine, do so before the block ends.

  Args:
    path: of the file that is replaced; its directory must exist.

  Raises:
    OSError: the file could not be written, or not be put in place.
  """
  part = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    yield part
    os.replace(part, path)
  except BaseException:
    with contextlib.suppress(OSError):  # it may not have been made at all
      part.unlink()
    raise
