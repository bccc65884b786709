"""`procplan export`: a checkpoint's parameters as a dm-haiku tree, in one .npz file.

The file holds an array called `module/name` for every parameter (what stands before the
last slash is the module) and `header`, a JSON text with agent, configuration, step and
commit. Every LayerNorm has the header's epsilon, which is not Haiku's default. A ResNet takes
bytes x as 2 x / 255 - 1, the other backbones as x / 255. The run is only read, so that one
that is going on can be exported too.
"""

from collections.abc import Sequence
from pathlib import Path
import sys

from experiments.errors import EXIT_FAILED, UsageError
from experiments.options import OptionParser, add_checkpoint, guarded


def make_parser() -> OptionParser:
  """Returns the command's options."""
  parser = OptionParser(prog="procplan export", description=__doc__)
  parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
  parser.add_argument("--to", metavar="FILE", type=Path, required=True, help="file to write")
  add_checkpoint(parser)
  return parser


def main(arguments: Sequence[str]) -> int:
  """Exports; returns the exit code."""
  options = make_parser().parse_args(arguments)
  if not (options.run / "config.yaml").is_file():
    raise UsageError(f"{options.run} holds no run: there is no config.yaml")
  if options.to.is_dir() or not options.to.absolute().parent.is_dir():
    raise UsageError(f"cannot write {options.to}: it must be a file in a directory that is there")
  from experiments.haiku_exchange import export_run  # here, because it imports JAX
  from training.checkpoint import CheckpointError

  try:
    done = export_run(options.run, options.to, step=options.checkpoint)
  except CheckpointError as error:
    raise UsageError(" ".join(str(error).split())) from error
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_FAILED
  print(f"{options.to}: {done.parameters} parameters of step {done.step:,} of {options.run}")
  if done.left_out:
    print(f"left out, because they have no Haiku names: {', '.join(done.left_out)}")
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
