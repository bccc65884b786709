"""What an evaluation prints and writes: a table, a JSON file, a CSV file."""

from collections.abc import Mapping, Sequence
import csv
import os
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from training.metrics import write_json

CSV_COLUMNS = (
  "run",
  "checkpoint",
  "level_set",
  "levels",
  "policy",
  "environment",
  "level_seed",
  "episode_return",
  "length",
  "level_complete",
  "timed_out",
)


def print_run(result: Mapping[str, Any]) -> None:
  """Prints one run's evaluations as a table, one column per level set."""
  evaluations = result["evaluations"]
  table = Table(box=box.SIMPLE_HEAD)
  table.add_column("")
  for each in evaluations:
    table.add_column(each["level_set"], justify="right")
  for label, cell in _ROWS.items():
    table.add_row(label, *(cell(each) for each in evaluations))
  console = Console()
  if not console.is_terminal:
    console = Console(width=max(console.width, 100, 40 + 28 * len(evaluations)))
  console.print(_title(result), style="bold", markup=False, highlight=False)
  console.print(table)
  console.print(_notes(result), style="dim", markup=False, highlight=False)


def save_json(results: Sequence[Mapping[str, Any]], path: Path, *, command: Sequence[str]) -> None:
  """Writes all evaluations, episodes included."""
  write_json(path, {"command": ["procplan", "evaluate", *command], "runs": list(results)})


def save_csv(results: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Writes one line per episode; yes and no are 1 and 0."""
  temporary = path.with_name(path.name + ".partial")
  with temporary.open("w", newline="") as file:
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in results:
      for each in result["evaluations"]:
        shared = {name: each[name] for name in ("level_set", "levels", "policy")}
        shared |= {"run": result["run"], "checkpoint": result["checkpoint"]}
        for episode in each["episode_records"]:
          flags = {name: int(episode[name]) for name in ("level_complete", "timed_out")}
          writer.writerow({**shared, **episode, **flags})
  os.replace(temporary, path)


def _interval(each: Mapping[str, Any], name: str, digits: int) -> str:
  if each[f"{name}_interval"] is None:
    return f"{each[name]:.{digits}f}"
  low, high = each[f"{name}_interval"]
  return f"{each[name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _bounds(each: Mapping[str, Any]) -> str:
  bounds = each["bounds"]
  return f"{bounds['name']} {bounds['minimum']:g} to {bounds['maximum']:g}"


def _shared(each: Mapping[str, Any]) -> str:
  size = f"{each['num_levels']:,}" if each["num_levels"] else "all"
  return f"{each['levels_shared_with_training']:,} of {size}"


_ROWS = {
  "levels": lambda each: each["levels"],
  "episodes": lambda each: f"{each['episodes']:,}",
  "quota": lambda each: f"{each['num_environments']} x {each['episodes_per_environment']}",
  "policy": lambda each: each["policy"],
  "mean return, 95 %": lambda each: _interval(each, "episode_return", 2),
  "standard deviation": lambda each: f"{each['episode_return_std']:.2f}",
  "normalised score, 95 %": lambda each: _interval(each, "normalised_score", 3),
  "score bounds": _bounds,
  "levels completed": lambda each: f"{100 * each['level_complete']:.1f} %",
  "time-outs": lambda each: f"{each['time_outs']:,}",
  "mean length": lambda each: f"{each['episode_length']:.1f}",
  "levels shared with training": _shared,
  "episodes on training levels": lambda each: f"{each['episodes_on_training_levels']:,}",
}


def _title(result: Mapping[str, Any]) -> str:
  return (
    f"{result['agent']} on {result['game']}, trained on {result['training_levels']}, "
    f"seed {result['run_seed']}, checkpoint at {result['checkpoint']:,} environment steps"
  )


def _notes(result: Mapping[str, Any]) -> str:
  bootstrap = result["bootstrap"]
  return (
    f"run: {result['run']}; {len(result['devices'])} device(s): {', '.join(result['devices'])}\n"
    "quota: environments x episodes that each of them plays; later ones do not count.\n"
    f"95 %: percentile bootstrap over episodes, {bootstrap['resamples']:,} resamples, seed "
    f"{bootstrap['seed']}:\nof this one policy, not of other training seeds; "
    "too narrow for few episodes.\n"
  )
