"""Disks of many sizes that fill up while a run writes: one line, nothing that was saved is lost.

`full_disk.py DIRECTORY` mounts small file systems in memory, which needs root, and prints the
counts. Each disk is then made larger, and the same command must end as on a large one.
"""

import argparse
import collections
import os
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]

from kill_study import tiny_study  # noqa: E402, after the path
from same_run import assert_same_run  # noqa: E402

from experiments.config import save_config  # noqa: E402

SIZES = (0, 4, 16, 40, 80, 240, 480, 560, 620, 680, 740, 800, 860, 920, 980, 1040)  # KiB
LARGE = 64 * 1024


def mount(place: Path, size: int, *, again: bool = False) -> None:
  """Mounts a file system of `size` KiB, or gives the one that is there this size."""
  options = f"{'remount,' if again else ''}size={max(size, 4)}k"
  subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
  if size == 0:
    (place / "filler").write_bytes(b"\0" * 4096)


def train(config: Path, run: Path, cache: Path) -> subprocess.CompletedProcess:
  """Gives the command in a process of its own."""
  settings = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
  command = ["-m", "experiments.train", "--config", str(config), "--out", str(run)]
  return subprocess.run(
    [sys.executable, *command], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True
  )


def check(directory: Path, sizes) -> tuple[collections.Counter, list[str]]:
  """Fills disks of these sizes; returns how that ended, and a text for each defect."""
  directory.mkdir(parents=True)
  config, cache, place = directory / "config.yaml", directory / "cache", directory / "disk"
  save_config(tiny_study([0]).runs()[0].config, config)
  place.mkdir()
  whole = train(config, directory / "whole", cache)
  assert whole.returncode == 0, whole.stderr
  counts, defects = collections.Counter(), []
  for size in sizes:
    mount(place, size)
    try:
      first = train(config, place / "run", cache)
      kept = len(list(place.glob("run/checkpoints/manifests/*.json")))
      mount(place, LARGE, again=True)
      second = train(config, place / "run", cache)
      ending = {0: "finished", 1: f"failed, {kept} checkpoints kept"}.get(first.returncode, "?")
      counts[ending] += 1
      lines = first.stderr.strip().splitlines()
      errors = [line for line in lines if line.startswith("error: ")]
      if first.returncode not in (0, 1) or "Traceback" in first.stderr:
        defects.append(f"{size} KiB: exit code {first.returncode}\n{first.stderr}")
      elif first.returncode == 1 and not (len(errors) == 1 and lines[-1] == errors[0]):
        defects.append(f"{size} KiB: not one line\n{first.stderr}")
      elif second.returncode:
        defects.append(f"{size} KiB, then enough: {second.returncode}\n{second.stderr}")
      else:
        assert_same_run(place / "run", directory / "whole")
    finally:
      subprocess.run(["umount", str(place)], check=True)
  return counts, defects


def main() -> int:
  """Prints the counts, and every defect; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("directory", type=Path, help="to work in; must not be there yet")
  parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="KiB")
  options = parser.parse_args()
  counts, defects = check(options.directory.absolute(), options.sizes)
  for defect in defects:
    print(f"--- {defect}")
  for ending, count in sorted(counts.items()):
    print(f"{ending:32} {count}")
  print(f"{len(options.sizes)} disks, {len(defects)} defects; all others ended equal bit for bit")
  return 1 if defects else 0


if __name__ == "__main__":
  sys.exit(main())
