"""Runs `procplan train` and strikes it at a named moment: `faulty_train.py MOMENT [OPTIONS]`.

A moment is `none`, or SIGNAL:PLACE:N, e.g. `SIGKILL:turn:7`: the signal is sent to this
process when PLACE is reached for the N-th time; of `SIGINT,SIGINT` one after the other.
"""

import os
import signal
import sys

from experiments.options import guarded
from experiments.train import main
from training import checkpoint, loop, turn


def strike_before(owner, name: str, strike, *, only=lambda *arguments: True) -> None:
  """Calls `strike` before every call of `owner.name` that `only` picks."""
  original = getattr(owner, name)

  def struck(*arguments, **options):
    if only(*arguments):
      strike()
    return original(*arguments, **options)

  setattr(owner, name, struck)


def arm(moment: str) -> None:
  """Sends the signal when the place is reached for the n-th time."""
  signal_names, place, number = moment.split(":")
  remaining = [int(number)]

  def strike():
    remaining[0] -= 1
    if remaining[0] == 0:
      for name in signal_names.split(","):
        os.kill(os.getpid(), getattr(signal, name))

  if place == "turn":  # a rollout has been collected, nothing has been learnt from it
    strike_before(turn.Turn, "_learn", strike)
  elif place == "row":  # the turn's episodes have been written, its metrics have not
    strike_before(loop.MetricsWriter, "write", strike)
  elif place == "manifest":  # a checkpoint's arrays have been written, its manifest has not
    is_manifest = "manifests"
    strike_before(
      checkpoint, "write_json", strike, only=lambda path, _: path.parent.name == is_manifest
    )
  else:
    raise ValueError(f"no such place: {place}")


if __name__ == "__main__":
  if sys.argv[1] != "none":
    arm(sys.argv[1])
  sys.exit(guarded(main, sys.argv[2:]))
