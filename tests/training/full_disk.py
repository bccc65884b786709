"""A full disk, without filling one."""

import contextlib
import resource


@contextlib.contextmanager
def file_size_limit(size: int):
  """Makes the system refuse to write past `size` bytes of any file, as a full disk would."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
