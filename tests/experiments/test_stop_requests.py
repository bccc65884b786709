"""What a second Ctrl-C does to a process that is in the middle of a long call."""

import os
from pathlib import Path
import signal
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[2]

# A call of minutes in which Python handles no signal; hashing lets other threads run, as XLA does.
BUSY = """
import hashlib
from experiments.stop_requests import stop_requests
with stop_requests():
  print("ready", flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
  print("not reached")
"""


def test_a_second_ctrl_c_ends_a_process_within_a_long_call():
  process = subprocess.Popen(
    [sys.executable, "-c", BUSY],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "ready\n"
  for _ in range(2):
    process.send_signal(signal.SIGINT)
    state = Path(f"/proc/{process.pid}/status")
    while os.path.exists(state) and pending(state):
      pass  # two that wait at once are one to the system
  out, err = process.communicate()
  assert (process.returncode, out) == (130, "")
  assert err.endswith("ended at once; the last checkpoint stays\n")


def pending(status: Path) -> bool:
  """Whether SIGINT is sent and not delivered yet."""
  fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
  waiting = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
  return bool(waiting >> (signal.SIGINT - 1) & 1)


def test_nothing_of_it_is_left_behind():
  from experiments.stop_requests import stop_requests

  handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
  open_files = set(os.listdir("/proc/self/fd"))
  with stop_requests():
    pass
  assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
  assert signal.set_wakeup_fd(-1) == -1
  assert set(os.listdir("/proc/self/fd")) == open_files
