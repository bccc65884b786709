"""Where tables are printed."""

from rich.console import Console


def make_console(*, least_width: int) -> Console:
  """Returns a console on stdout: as wide as the terminal, or where there is none as is needed.

  Args:
    least_width: characters, in a file or a pipe.
  """
  console = Console()
  return console if console.is_terminal else Console(width=max(console.width, least_width))
