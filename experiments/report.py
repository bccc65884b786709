"""`procplan report`: one self-contained HTML page about any number of runs.

Works while runs go on; reads their files only, and imports no JAX.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
import sys

from environments.games import BOUNDS
from environments.names import unknown_name
from experiments.errors import EXIT_FAILED, UsageError
from experiments.options import OptionParser, guarded
from training.whole_file import whole_file

DEFAULT_RESAMPLES = 2_000
HEADLINE_RESAMPLES = 50_000


TITLE = "Planning against model-free agents under procedural generalisation"


def make_parser() -> OptionParser:
  """Returns the command's options."""
  parser = OptionParser(prog="procplan report", description=__doc__)
  parser.add_argument(
    "runs",
    metavar="RUN",
    nargs="+",
    type=Path,
    help="run directory, or a directory of runs; and what `evaluate` wrote, its films or --json",
  )
  parser.add_argument(
    "--out", metavar="FILE", type=Path, default=Path("report.html"), help="the page"
  )
  parser.add_argument(
    "--figure",
    metavar="FILE",
    type=Path,
    help="also write the learning curves as one .svg file, for a paper or a README",
  )
  parser.add_argument(
    "--figure-until",
    metavar="STEPS",
    type=int,
    help="draw that figure up to these environment steps: runs of unequal length side by side",
  )
  parser.add_argument("--title", default=TITLE, help="heading of the page")
  parser.add_argument(
    "--bounds",
    metavar="NAME",
    default=BOUNDS[0],
    help=f"returns that count as score 0 and 1: {' or '.join(BOUNDS)}",
  )
  parser.add_argument(
    "--resamples",
    metavar="N",
    type=int,
    default=HEADLINE_RESAMPLES,
    help="bootstrap resamples of every interval, at least 100",
  )
  return parser


def main(arguments: Sequence[str]) -> int:
  """Writes the page; returns the exit code."""
  from experiments.reporting.beside_runs import find_evaluations, find_films

  options = make_parser().parse_args(arguments)
  for run in options.runs:
    if not run.exists():
      raise UsageError(f"{run} does not exist")
    if not (any(run.rglob("config.yaml")) or find_films([run]) or find_evaluations([run])):
      raise UsageError(f"there is no run directory in {run}: none holds a config.yaml")
  if options.figure is not None and options.figure.suffix != ".svg":
    raise UsageError(f"--figure must end in .svg, got {options.figure}")
  if options.figure_until is not None and options.figure is None:
    raise UsageError("--figure-until is about the file of --figure: name one, ending in .svg")
  try:
    path = write_report(
      options.runs,
      options.out,
      bounds=options.bounds,
      title=options.title,
      resamples=options.resamples,
      figure_path=options.figure,
      figure_until=options.figure_until,
    )
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_FAILED
  except ValueError as error:
    raise UsageError(str(error)) from error
  print(path)
  if options.figure is not None:
    print(options.figure)
  return 0


def write_report(
  run_directories: Iterable[Path | str],
  output_path: Path | str,
  *,
  bounds: str = "train-procgen",
  title: str = TITLE,
  resamples: int = DEFAULT_RESAMPLES,
  figure_path: Path | None = None,
  figure_until: int | None = None,
) -> Path:
  """Writes the page, replacing an older one as a whole.

  Args:
    run_directories: directories of runs, or directories that hold some; a run may be
      queued, going on, failed or finished. Films and evaluations of checkpoints below them
      are shown, and so are those of a directory, or a file, that holds no run.
    output_path: the HTML file; its directory is made if needed.
    bounds: set of score bounds, one of `environments.games.BOUNDS`.
    title: heading of the page.
    resamples: bootstrap resamples of every interval; `HEADLINE_RESAMPLES` to be quoted.
    figure_path: also write the learning curves alone, as SVG.
    figure_until: environment steps up to which these curves are drawn, at least 1; None for all.

  Returns:
    The path of the page.

  Raises:
    ValueError: no run directory, unknown bounds, too few resamples or steps, nothing to draw.
    OSError: the page cannot be written; an older one is left as it was.
  """
  # Matplotlib, rliable and pandas take two seconds to import: not for `--help`.
  from experiments.reporting.beside_runs import find_evaluations, find_films, holds_no_run
  from experiments.reporting.page import render_page
  from experiments.reporting.runs import find_run_directories, read_run
  from experiments.reporting.study import make_study

  _check(bounds=bounds, resamples=resamples, figure_until=figure_until)
  paths = [Path(path) for path in run_directories]
  directories = find_run_directories(path for path in paths if not holds_no_run(path))
  if not directories:
    raise ValueError("there is no run directory to report on")
  output_path = Path(output_path)
  runs = [read_run(directory) for directory in directories]
  study = make_study(runs, bounds=bounds)
  page = render_page(
    study,
    films=find_films(paths),
    evaluations=find_evaluations(paths),
    title=title,
    relative_to=output_path.absolute().parent,
    resamples=resamples,
  )
  if figure_path is not None:
    from experiments.reporting.figure_file import draw_figure

    if figure_until is not None:
      study = make_study([run.until(figure_until) for run in runs], bounds=bounds)
    _replace(figure_path, draw_figure(study, resamples=resamples))
  _replace(output_path, page)
  return output_path


def _check(*, bounds: str, resamples: int, figure_until: int | None) -> None:
  if bounds not in BOUNDS:
    raise ValueError(unknown_name("score bounds", bounds, BOUNDS))
  if resamples < 100:
    raise ValueError(f"resamples must be at least 100, got {resamples!r}")
  if figure_until is not None and figure_until < 1:
    raise ValueError(f"figure_until must be at least 1 environment step, got {figure_until!r}")


def _replace(path: Path, text: str) -> None:
  """Writes a file so that a reader sees the old or the new one."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with whole_file(path) as part:
    part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
