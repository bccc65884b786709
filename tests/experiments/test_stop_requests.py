"""What a second Ctrl-C does to a process that is in the middle of a long call."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A call of minutes in which Python handles no signal; hashing lets other threads run, as XLA does.
BUSY = """
import hashlib, threading
from experiments.stop_requests import stop_requests
with stop_requests():
  threading.Timer(1.0, print, ["ready"], {"flush": True}).start()
  hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
  print("not reached")
"""
# Waits for a request to stop and saves, for longer than a second Ctrl-C would be waited for.
SAVING = """
import time
from experiments import stop_requests
with stop_requests.stop_requests() as requests:
  print("ready", flush=True)
  while not requests.requested():
    time.sleep(0.01)
  time.sleep(stop_requests.IMPATIENCE_SECONDS + 1)
print("saved", requests.signal, flush=True)
"""


@pytest.fixture
def start():
  """Starts a script and waits until it is ready; it is killed where a test leaves it going."""
  processes = []

  def begin(script, **options):
    options = {"stderr": subprocess.PIPE, **options}
    process = subprocess.Popen(
      [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, **options
    )
    processes.append(process)
    assert process.stdout.readline() == "ready\n"
    return process

  yield begin
  for process in processes:
    process.kill()
    process.communicate()


def send(process, *numbers):
  """Sends signals, each once the one before is delivered: two that wait are one to the system."""
  for number in numbers:
    process.send_signal(number)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None and pending(status, number):
      pass


def test_a_second_ctrl_c_ends_a_process_within_a_long_call(start):
  process = start(BUSY)
  send(process, signal.SIGINT, signal.SIGINT)
  out, err = process.communicate(timeout=120)
  assert (process.returncode, out) == (130, "")
  assert err.endswith("ended at once; the last checkpoint stays\n")


def test_it_does_so_where_nobody_reads_what_it_says(start):
  """Ctrl-C ends the `tee` behind a pipe too."""
  reader, writer = os.pipe()
  os.close(reader)
  process = start(BUSY, stderr=writer)
  os.close(writer)
  send(process, signal.SIGINT, signal.SIGINT)
  assert process.wait(timeout=120) == 130


@pytest.mark.parametrize(
  "numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]]
)
def test_one_ctrl_c_leaves_time_to_save_and_the_first_signal_counts(start, numbers):
  reader, writer = os.pipe()
  os.close(reader)
  process = start(SAVING, stderr=writer)
  os.close(writer)
  for number in numbers:
    send(process, number)
    time.sleep(0.5)  # a signal is handled before the next one comes
  assert process.communicate(timeout=120)[0] == f"saved {int(numbers[0])}\n"


def test_a_second_ctrl_c_does_not_wait_for_a_save(start):
  process = start(SAVING)
  send(process, signal.SIGINT)
  assert process.stderr.readline() == "stopping after this turn, with a checkpoint\n"
  send(process, signal.SIGINT)
  out, err = process.communicate(timeout=120)
  assert "saved" not in out
  assert "KeyboardInterrupt" in err


def pending(status: Path, number: int) -> bool:
  """Whether a signal is sent and not delivered yet."""
  fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
  waiting = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
  return bool(waiting >> (number - 1) & 1)


def test_nothing_of_it_is_left_behind():
  from experiments.stop_requests import stop_requests

  handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
  open_files = set(os.listdir("/proc/self/fd"))
  with stop_requests():
    pass
  assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
  assert signal.set_wakeup_fd(-1) == -1
  assert set(os.listdir("/proc/self/fd")) == open_files
