"""A figure of return against simulations: what planning adds at test time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import UsageError
from training.whole_file import whole_file

DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))


def save_plot(results: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Draws the mean return of every run and level set against the simulations.

  Runs differ in colour and marker, level sets in the line. Bars are the 95 % intervals of
  the evaluations.

  Args:
    results: of runs whose agents plan.
    path: of an .svg or .png file; replaced as a whole.

  Raises:
    UsageError: matplotlib cannot be loaded.
    OSError: the file could not be written.
  """
  try:
    import matplotlib
    from matplotlib.figure import Figure
  except ImportError as error:
    raise UsageError(f"--plot needs matplotlib: pip install 'procplan[report]' ({error})") from None
  style = {"svg.hashsalt": "procplan", "svg.fonttype": "path", "font.size": 10}
  with matplotlib.rc_context(style):
    figure = Figure(figsize=(8, 5), layout="constrained")
    _draw(figure.add_subplot(), results)
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with whole_file(path) as part:
      figure.savefig(part, format=path.suffix[1:], dpi=150, metadata=metadata)


def curves(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
  """Returns the evaluations of every run and level set, by increasing simulations."""
  found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
  for result in results:
    for each in result["evaluations"]:
      found.setdefault((result["run"], each["level_set"]), []).append(each)
  for evaluations in found.values():
    evaluations.sort(key=lambda each: each["search"]["num_simulations"])
  return found


def _draw(axes: Any, results: Sequence[Mapping[str, Any]]) -> None:
  from experiments.reporting.svg import MARKERS, PALETTE

  lines = curves(results)
  runs = list(dict.fromkeys(run for run, _ in lines))
  sets = list(dict.fromkeys(name for _, name in lines))
  counts = sorted({e["search"]["num_simulations"] for each in lines.values() for e in each})
  for number, ((run, name), evaluations) in enumerate(lines.items()):
    returns = np.array([each["episode_return"] for each in evaluations])
    ends = [each["episode_return_interval"] or [each["episode_return"]] * 2 for each in evaluations]
    low, high = np.array(ends).T
    # A little beside one another, so that bars at equal numbers can be told apart.
    shift = 0.03 * (number - (len(lines) - 1) / 2)
    axes.errorbar(
      _position([each["search"]["num_simulations"] for each in evaluations]) + shift,
      returns,
      yerr=[returns - low, high - returns],
      color=PALETTE[runs.index(run) % len(PALETTE)],
      marker=MARKERS[runs.index(run) % len(MARKERS)],
      linestyle=DASHES[sets.index(name) % len(DASHES)],
      capsize=3,
      label=f"{Path(run).name}, {name}" if len(runs) > 1 else name,
    )
  axes.set_xticks(_position(counts), ["0\nraw policy" if n == 0 else str(n) for n in counts])
  axes.set(xlabel="simulations at test time (spaced as log2(1 + n))", ylabel="mean return, 95 %")
  axes.set_title(_title(results), fontsize=10)
  axes.grid(color="0.88")
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(frameon=False)


def _position(counts: Sequence[int]) -> np.ndarray:
  return np.log2(1 + np.asarray(counts, np.float64))


def _title(results: Sequence[Mapping[str, Any]]) -> str:
  evaluations = [each for result in results for each in result["evaluations"]]
  kinds = dict.fromkeys(each["search"]["kind"] for each in evaluations)
  games, policies = (
    dict.fromkeys(each[name] for each in group)
    for name, group in (("game", results), ("policy", evaluations))
  )
  counts = sorted({each["episodes"] for each in evaluations})  # lists of levels have their own
  episodes = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
  return (
    f"{', '.join(games)}: {' and '.join(policies)}, "
    f"{' and '.join(kind for kind in kinds if kind != 'none')}, {episodes} episodes a point"
  )
