"""Random fields and values, in files and on command lines: never a traceback.

`fuzz_configs.py --cases 500` prints how many cases there were and how each ended. What is
accepted is planned to the end: networks are built on shapes, memory is counted.
"""

import argparse
import collections
import contextlib
import copy
import io
from pathlib import Path
import random
import signal
import sys
import tempfile
import traceback

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402, after the path

from experiments.command_line import run_command  # noqa: E402
from experiments.config import flatten, to_mapping  # noqa: E402
from experiments.options import guarded  # noqa: E402
from experiments.presets import PRESETS, make_preset  # noqa: E402

SECONDS = 300  # after which a case counts as one that hangs
TEXTS = (
  "-1", "0", "1", "2", "3", "7", "64", "1000", "99999999999999999999", "-0.5", "0.5", "1e-4",
  "1e400", "nan", "inf", "-inf", "true", "False", "None", "null", "", " ", "[]", "{}", "'", '"',
  "é", "a b", "-", "1 2", "1,2", "0x10", "1_000", "relu", "easy-0", "hard-", "easy-10@-1",
  "easy-all-held-out", "../x", "%s", "{0}", "$HOME", "\\", "x" * 300,
)  # fmt: skip
VALUES = (
  -1, 0, 1, 2, 3, 7, 64, 1000, 10**20, -0.5, 0.0, 0.5, 1e-4, 1e300, float("nan"), float("inf"),
  True, False, None, "", "a", "1", "nan", [], [0], [1, 2, 3], ["a"], [[1]], {}, {"kind": "x"},
  {"a": 1}, "easy-0", "hard-10@99999999999",
)  # fmt: skip


class Hanging(BaseException):
  """A case took too long; nobody catches it."""


def options_case(random_: random.Random, folder: Path) -> list[str]:
  """Returns a command line with random values of one to three fields."""
  del folder
  agent = random_.choice(sorted(PRESETS["smoke"]))
  fields = sorted(set(flatten(to_mapping(make_preset("smoke", agent)))) - {"agent_name"})
  arguments = ["train", "--plan", "--agent", agent, "--preset", "smoke"]
  defaults = flatten(to_mapping(make_preset("smoke", agent)))
  for field in random_.sample(fields, random_.choice([1, 1, 1, 2, 3])):
    value = random_.choice(TEXTS)
    if random_.random() < 0.6:
      value = " ".join(map(str, [near(defaults[field], random_)])).strip("[]").replace(",", "")
    if random_.random() < 0.3:
      arguments.append(f"--{field}={value}")
    else:
      arguments += [f"--{field}", *(value.split(" ") if random_.random() < 0.5 else [value])]
  return arguments


def file_case(random_: random.Random, folder: Path) -> list[str]:
  """Returns a command line with a configuration file of which one part is wrong."""
  agent = random_.choice(sorted(PRESETS["smoke"]))
  mapping = to_mapping(make_preset("smoke", agent))
  for _ in range(random_.choice([1, 1, 2])):
    mapping = changed(mapping, random_)
  text = yaml.safe_dump(mapping, sort_keys=False)
  path = folder / "config.yaml"
  if random_.random() < 0.3:
    path.write_bytes(damaged(text.encode(), random_))
  else:
    path.write_text(text)
  return ["train", "--plan", "--config", str(path)]


def words_case(random_: random.Random, folder: Path) -> list[str]:
  """Returns a command with options and words of other places."""
  command = random_.choice(["train", "compare", "sweep", "status", "evaluate", "report", "export"])
  words = [*TEXTS, "--plan", "--preset", "--seeds", "--games", "--config", "--out", "--set", "ppo"]
  words += ["--filter", "--engine", "--agents", "smoke", "--levels", "game=leaper", "--cpus", "ray"]
  chosen = [random_.choice(words) for _ in range(random_.randrange(1, 5))]
  plan = ["--plan"] if command in ("train", "compare", "sweep") else []
  return [command, *chosen, *plan, *(["--out", str(folder / "o")] if command == "export" else [])]


CASES = {"options": options_case, "file": file_case, "words": words_case}


def changed(mapping: dict, random_: random.Random) -> dict:
  """Returns a configuration with a field replaced, dropped, added or moved."""
  mapping = copy.deepcopy(mapping)
  place = mapping
  while True:
    key = random_.choice(list(place))
    if not isinstance(place[key], dict) or not place[key] or random_.random() < 0.1:
      break
    place = place[key]
  kind = random_.choice(["replace", "replace", "replace", "drop", "add", "rename"])
  if kind == "replace":
    is_near = random_.random() < 0.6
    place[key] = near(place[key], random_) if is_near else random_.choice(VALUES)
  elif kind == "drop":
    del place[key]
  elif kind == "add":
    place[random_.choice(["x", "", "kind", 3, None, "learning_rate"])] = random_.choice(VALUES)
  else:
    place[f"{key}s"] = place.pop(key)
  return mapping


def near(value, random_: random.Random):
  """Returns a value of the same type that may well be a good one."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, int):
    return random_.choice([random_.randrange(2 * abs(value) + 4), value + 1, 2 * value])
  if isinstance(value, float):
    return value * random_.choice([-1, 0, 0.5, 2, 10]) + random_.choice([0, 0, 1, 0.5])
  if isinstance(value, list):
    return [near(each, random_) for each in value][: random_.choice([None, None, 1])]
  if isinstance(value, str):
    words = [
      "ppo",
      "muzero",
      "greedy",
      "sampled",
      "bfloat16",
      "float32",
      "hard-10",
      "maze",
      "catch",
    ]
    return random_.choice(words)
  return value


def damaged(content: bytes, random_: random.Random) -> bytes:
  """Returns bytes that were cut short, or of which some were changed."""
  content = bytearray(content)
  if random_.random() < 0.3:
    return bytes(content[: random_.randrange(len(content))])
  for _ in range(random_.randrange(1, 5)):
    content[random_.randrange(len(content))] = random_.randrange(256)
  return bytes(content)


def run_case(arguments: list[str]) -> tuple[str, str]:
  """Carries out one command; returns how it ended, and what is wrong with that, if anything."""
  out, error = io.StringIO(), io.StringIO()

  def hang(number, frame):
    raise Hanging

  previous = signal.signal(signal.SIGALRM, hang)
  signal.alarm(SECONDS)
  try:
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
      code = guarded(run_command, arguments)
  except SystemExit as stop:
    code = stop.code
  except Hanging:
    return "hangs", f"took more than {SECONDS} s"
  except BaseException:
    return "traceback", traceback.format_exc()
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)
  lines = error.getvalue().splitlines()
  if code == 2 and not (len(lines) == 1 and lines[0].startswith("error: ")):
    return "not one line", error.getvalue()
  if code not in (0, 1, 2, None):
    return f"exit code {code}", error.getvalue()
  return {0: "accepted", None: "accepted", 1: "failed, said why", 2: "refused"}[code], ""


def fuzz(cases: int, *, seed: int, kinds=tuple(CASES)) -> tuple[collections.Counter, list[str]]:
  """Carries out so many cases; returns how they ended, and a text for each that is a defect."""
  random_ = random.Random(seed)
  endings, defects = collections.Counter(), []
  with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    for number in range(cases):
      kind = kinds[number % len(kinds)]
      arguments = CASES[kind](random_, Path(folder))
      ending, problem = run_case(arguments)
      endings[kind, ending] += 1
      if problem:
        content = ""
        if kind == "file":
          content = (Path(folder) / "config.yaml").read_bytes().decode(errors="replace")
        defects.append(f"{arguments}\n{content}\n{problem}")
  return endings, defects


def main() -> int:
  """Prints the counts, and every defect; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--cases", type=int, default=500)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--kinds", nargs="+", default=list(CASES), choices=CASES)
  options = parser.parse_args()
  endings, defects = fuzz(options.cases, seed=options.seed, kinds=tuple(options.kinds))
  for defect in defects:
    print(f"--- {defect}")
  for (kind, ending), count in sorted(endings.items()):
    print(f"{kind:8} {ending:18} {count}")
  print(f"{options.cases} cases, {len(defects)} defects")
  return 1 if defects else 0


if __name__ == "__main__":
  sys.exit(main())
