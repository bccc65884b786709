"""What an evaluation prints and writes: tables, a JSON file, CSV files."""

from collections.abc import Iterable, Mapping, Sequence
import csv
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from experiments.consoles import make_console
from training.json_file import write_json
from training.whole_file import whole_file

MOST_LEVELS_SHOWN = 40  # of a list, in the table of its levels

EPISODE_COLUMNS = (
  "run",
  "checkpoint",
  "level_set",
  "levels",
  "policy",
  "search",
  "simulations",
  "environment",
  "level_seed",
  "episode_return",
  "length",
  "level_complete",
  "timed_out",
)
LEVEL_COLUMNS = (
  *EPISODE_COLUMNS[:7],
  "level_seed",
  "in_training",
  "episodes",
  "episode_return",
  "episode_length",
  "success_rate",
)


def print_run(result: Mapping[str, Any]) -> None:
  """Prints one run's evaluations: a column per level set, or a row per number of simulations."""
  evaluations = result["evaluations"]
  sets = list(dict.fromkeys(each["level_set"] for each in evaluations))
  console = make_console(least_width=max(140, 40 + 28 * len(sets)))
  console.print(_title(result), style="bold", markup=False, highlight=False)
  if len(evaluations) == len(sets):
    console.print(_columns_table(evaluations))
  else:
    for name in sets:
      own = [each for each in evaluations if each["level_set"] == name]
      console.print(_planning_heading(own), markup=False, highlight=False)
      console.print(_planning_table(own))
  for each in evaluations:
    if each["level_seeds"] is not None and len(each["by_level"]) <= MOST_LEVELS_SHOWN:
      console.print(_levels_heading(each), markup=False, highlight=False)
      console.print(_levels_table(each))
  console.print(_notes(result), style="dim", markup=False, highlight=False)
  for path in (path for each in evaluations for path in each["films"]):
    console.print(f"film: {path}", markup=False, highlight=False, soft_wrap=True)


def save_json(results: Sequence[Mapping[str, Any]], path: Path, *, command: Sequence[str]) -> None:
  """Writes all evaluations, episodes included."""
  write_json(path, {"command": ["procplan", "evaluate", *command], "runs": list(results)})


def save_episodes(results: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Writes one line per episode; yes and no are 1 and 0."""
  _save_csv(results, path, columns=EPISODE_COLUMNS, entry="episode_records")


def save_levels(results: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Writes one line per level of every evaluation; yes and no are 1 and 0."""
  _save_csv(results, path, columns=LEVEL_COLUMNS, entry="by_level")


def _save_csv(
  results: Iterable[Mapping[str, Any]], path: Path, *, columns: Sequence[str], entry: str
) -> None:
  with whole_file(path) as part, part.open("w", newline="") as file:
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    for result in results:
      for each in result["evaluations"]:
        search = each["search"] or {"kind": "", "num_simulations": ""}
        shared = {
          "run": result["run"],
          "checkpoint": result["checkpoint"],
          **{name: each[name] for name in ("level_set", "levels", "policy")},
          "search": search["kind"],
          "simulations": search["num_simulations"],
        }
        for row in each[entry]:
          plain = {name: int(x) if isinstance(x, bool) else x for name, x in row.items()}
          writer.writerow({**shared, **plain})


def _columns_table(evaluations: Sequence[Mapping[str, Any]]) -> Table:
  """Everything about a few evaluations, one column each."""
  table = Table(box=box.SIMPLE_HEAD)
  table.add_column("")
  for each in evaluations:
    table.add_column(each["level_set"], justify="right")
  for label, cell in _ROWS.items():
    if any(cell(each) for each in evaluations):
      table.add_row(label, *(cell(each) for each in evaluations))
  return table


def _planning_table(evaluations: Sequence[Mapping[str, Any]]) -> Table:
  """What planning adds on one level set: one row per number of simulations."""
  first = evaluations[0]["search"]["num_simulations"]
  table = Table(box=box.SIMPLE_HEAD)
  columns = {
    "simulations": lambda each: _simulations(each["search"]),
    "mean return, 95 %": _ROWS["mean return, 95 %"],
    f"more than with {first}, 95 %": lambda each: _interval(each, "gain", 2),
    "normalised score, 95 %": _ROWS["normalised score, 95 %"],
    "completed": _ROWS["levels completed"],
    "length": _ROWS["mean length"],
    "value bias": _ROWS["value bias"],
    "explained": _ROWS["explained variance of values"],
  }
  for name in columns:
    table.add_column(name, justify="right")
  for each in evaluations:
    table.add_row(*(cell(each) for cell in columns.values()))
  return table


def _levels_table(each: Mapping[str, Any]) -> Table:
  """Every level of a list."""
  table = Table(box=box.SIMPLE_HEAD)
  for name in ("level", "in training", "episodes", "mean return", "mean length", "completed"):
    table.add_column(name, justify="right")
  for row in each["by_level"]:
    table.add_row(
      str(row["level_seed"]),
      "yes" if row["in_training"] else "no",
      str(row["episodes"]),
      f"{row['episode_return']:.2f}",
      f"{row['episode_length']:.1f}",
      f"{100 * row['success_rate']:.0f} %",
    )
  return table


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


def _levels_played(each: Mapping[str, Any]) -> str:
  never = sum(row["success_rate"] == 0 for row in each["by_level"])
  return f"{len(each['by_level']):,}, {never:,} never completed"


def _simulations(search: Mapping[str, Any] | None) -> str:
  if search is None:
    return ""
  count = search["num_simulations"]
  return f"{search['kind']} {count}" if count else "0, raw policy"


def _value_bias(each: Mapping[str, Any]) -> str:
  return f"{each['value_bias']:+.2f}" if "value_bias" in each else ""


def _value_explained(each: Mapping[str, Any]) -> str:
  if "value_bias" not in each:
    return ""
  explained = each["value_explained_variance"]
  return "undefined" if explained is None else f"{explained:.2f}"


_ROWS = {
  "levels": lambda each: each["levels"],
  "episodes": lambda each: f"{each['episodes']:,}",
  "quota": lambda each: f"{each['num_environments']} x {each['episodes_per_environment']}",
  "policy": lambda each: each["policy"],
  "simulations": lambda each: _simulations(each["search"]),
  "mean return, 95 %": lambda each: _interval(each, "episode_return", 2),
  "standard deviation": lambda each: f"{each['episode_return_std']:.2f}",
  "normalised score, 95 %": lambda each: _interval(each, "normalised_score", 3),
  "score bounds": _bounds,
  "levels completed": lambda each: f"{100 * each['level_complete']:.1f} %",
  "time-outs": lambda each: f"{each['time_outs']:,}",
  "mean length": lambda each: f"{each['episode_length']:.1f}",
  "different levels played": _levels_played,
  "levels shared with training": _shared,
  "episodes on training levels": lambda each: f"{each['episodes_on_training_levels']:,}",
  "value bias": _value_bias,
  "explained variance of values": _value_explained,
}


def _title(result: Mapping[str, Any]) -> str:
  return (
    f"{result['agent']} on {result['game']}, trained on {result['training_levels']}, "
    f"seed {result['run_seed']}, checkpoint at {result['checkpoint']:,} environment steps"
  )


def _planning_heading(evaluations: Sequence[Mapping[str, Any]]) -> str:
  each = evaluations[0]
  return (
    f"{each['level_set']} ({each['levels']}): {each['episodes']:,} episodes, "
    f"{_ROWS['quota'](each)}, {each['policy']}; score bounds {_bounds(each)}; "
    f"{_shared(each)} levels shared with training"
  )


def _levels_heading(each: Mapping[str, Any]) -> str:
  how = _simulations(each["search"])
  return f"levels of {each['level_set']}, {each['policy']}" + (f", {how}" if how else "")


def _notes(result: Mapping[str, Any]) -> str:
  bootstrap, evaluations = result["bootstrap"], result["evaluations"]
  lines = [
    f"run: {result['run']}; {len(result['devices'])} device(s): {', '.join(result['devices'])}",
    "quota: environments x episodes that each of them plays; later ones do not count.",
    f"95 %: percentile bootstrap over episodes, {bootstrap['resamples']:,} resamples, seed "
    f"{bootstrap['seed']}:",
    "of this one policy, not of other training seeds; too narrow for few episodes.",
  ]
  if any(each["level_seeds"] is not None for each in evaluations):
    lines.append(
      "levels one by one: a resample takes episodes within every level; with one each, no interval."
    )
  if any("gain" in each for each in evaluations):
    lines.append("more: the same levels in the same order, pairs of episodes.")
  if any("value_bias" in each for each in evaluations):
    lines.append(
      "value bias: predicted value minus the discounted return that came, mean over all states of "
      "the episodes,\nin units of reward; explained variance: of those returns, by those values."
    )
  return "\n".join(lines) + "\n"
