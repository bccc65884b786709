"""The options of `procplan evaluate`, and what they settle for each run. No JAX here."""

import argparse
from collections.abc import Mapping
import importlib.util
import os
from pathlib import Path

from environments.games import BOUNDS
from experiments.config import ExperimentConfig, load_config
from experiments.errors import UsageError, unknown
from experiments.evaluation_plan import (
  NAMED_SETS,
  EvaluationPlan,
  VideoPlan,
  resolve_level_set,
)
from experiments.options import OptionParser, add_checkpoint
from experiments.registry import AGENTS, agent_name

DEFAULT_SETS = ("train", "test")
DEFAULT_FILMS = 2
POLICIES = ("sampled", "greedy")
LARGEST_SEED = 2**31 - 1
LEVELS_HELP = (
  "train, test (every level), held-out (every level past the training range), any level "
  "distribution such as easy-500@1000 or hard-all, or levels one by one, each as often as any: "
  f"seeds:3,17,40-59 or hard-seeds:7 (default: {' '.join(DEFAULT_SETS)})"
)


def make_parser(description: str) -> OptionParser:
  """Returns the command's options."""
  parser = OptionParser(prog="procplan evaluate", description=description)
  parser.add_argument(
    "runs", metavar="RUN", nargs="+", type=Path, help="run directory, or a directory of runs"
  )
  add_checkpoint(parser)
  parser.add_argument("--levels", metavar="SET", nargs="+", help=LEVELS_HELP)
  parser.add_argument(
    "--environments",
    metavar="N",
    type=int,
    help="environments side by side (default: as in the run's last evaluation); levels one by "
    "one have one each",
  )
  parser.add_argument(
    "--episodes-per-environment",
    metavar="N",
    type=int,
    help="quota: episodes that every environment plays (default: as in the run's last evaluation)",
  )
  parser.add_argument(
    "--policy", metavar="NAME", help="sampled or greedy (default: as in the run's evaluations)"
  )
  parser.add_argument(
    "--seed",
    type=int,
    help="of levels, actions and bootstrap (default: the run's, which repeats its last evaluation)",
  )
  parser.add_argument(
    "--bounds",
    metavar="NAME",
    default=BOUNDS[0],
    help=f"returns that count as score 0 and 1: {' or '.join(BOUNDS)}",
  )
  _add_search(parser)
  _add_outputs(parser)
  return parser


def _add_search(parser: OptionParser) -> None:
  """Adds what only agents that plan understand."""
  parser.add_argument(
    "--simulations",
    metavar="N",
    nargs="+",
    type=int,
    help="for agents that plan: evaluate with each of these numbers of simulations; 0 is the raw "
    "policy (default: as in training)",
  )
  parser.add_argument(
    "--search", metavar="NAME", help="for agents that plan: gumbel or puct (default: the run's)"
  )


def _add_outputs(parser: OptionParser) -> None:
  """Adds what is written, and how many processes are at it."""
  for name, what in (
    ("json", "write everything to FILE as JSON"),
    ("csv", "write every episode to FILE as CSV"),
    ("levels-csv", "write every level to FILE as CSV: its episodes, mean return, success rate"),
    ("plot", "draw return against simulations to FILE, .svg or .png"),
  ):
    parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=what)
  parser.add_argument(
    "--video",
    metavar="DIR",
    type=Path,
    help="film episodes as MP4 and GIF in DIR/RUN, with value, policy and return beside the frame",
  )
  parser.add_argument(
    "--video-episodes",
    metavar="N",
    type=int,
    help=f"films of every evaluation (default: {DEFAULT_FILMS}, with --video)",
  )
  parser.add_argument(
    "--processes",
    metavar="P",
    type=int,
    default=1,
    help="evaluate so many runs side by side; the cores are shared out",
  )


def check(options: argparse.Namespace) -> None:
  """Raises UsageError for a value that no run allows."""
  _check_numbers(options)
  if options.policy not in (None, *POLICIES):
    raise unknown("policy", options.policy, POLICIES)
  if options.bounds not in BOUNDS:
    raise unknown("score bounds", options.bounds, BOUNDS)
  names = options.levels or ()
  if len(set(names)) < len(names):
    raise UsageError(f"--levels names a set twice: {' '.join(names)}")
  for name in names:
    if name not in NAMED_SETS and Path(name).is_dir():
      raise UsageError(f"--levels: {name!r} is a directory; runs stand before --levels")
  _check_files(options)
  _check_pictures(options)


def _check_numbers(options: argparse.Namespace) -> None:
  for name in ("environments", "episodes_per_environment", "video_episodes", "processes"):
    value = getattr(options, name)
    if value is not None and value < 1:
      raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
  if options.seed is not None and not 0 <= options.seed <= LARGEST_SEED:
    raise UsageError(f"--seed must be from 0 to {LARGEST_SEED}, got {options.seed}")
  counts = options.simulations or ()
  if any(count < 0 for count in counts) or len(set(counts)) < len(counts):
    raise UsageError(
      f"--simulations must be different numbers of at least 0, got {' '.join(map(str, counts))}"
    )


def _check_files(options: argparse.Namespace) -> None:
  """Every file can be written, and none is written over by another one."""
  seen: dict[Path, str] = {}
  for option, path in _files(options).items():
    parent = path.absolute().parent
    if not parent.is_dir() or (path.exists() and not path.is_file()):
      raise UsageError(
        f"cannot write {option} {path}: it must be a file in a directory that is there"
      )
    if not os.access(parent, os.W_OK):
      raise UsageError(f"cannot write {option} {path}: {parent} is not writable")
    other = seen.setdefault(_place(path), option)
    if other != option:
      raise UsageError(f"{other} and {option} are both {path}: each must be a file of its own")


def _files(options: argparse.Namespace) -> dict[str, Path]:
  """Returns option -> file, of those that are to be written."""
  names = ("json", "csv", "levels_csv", "plot")
  paths = {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}
  return {option: path for option, path in paths.items() if path is not None}


def _place(path: Path) -> Path:
  """Returns where a file is written: a link in its place is replaced, not followed."""
  return path.absolute().parent.resolve() / path.name


def _check_pictures(options: argparse.Namespace) -> None:
  if options.plot is not None:
    if options.plot.suffix not in (".svg", ".png"):
      raise UsageError(f"--plot must end in .svg or .png, got {options.plot}")
    if len(options.simulations or ()) < 2:
      raise UsageError(
        "--plot draws return against --simulations: name at least two, e.g. 0 2 8 32"
      )
    if importlib.util.find_spec("matplotlib") is None:  # before hours of playing
      raise UsageError("--plot needs matplotlib: pip install 'procplan[report]'")
  if options.video_episodes is not None and options.video is None:
    raise UsageError("--video-episodes says how many films: it needs --video DIR")


def make_plan(directory: Path, options: argparse.Namespace) -> EvaluationPlan:
  """Settles what to play of the run in `directory`; what was not asked for is the run's own.

  Raises:
    UsageError: there is no run, or a level set or a search is wrong for it.
  """
  if not (directory / "config.yaml").is_file():
    raise UsageError(f"{directory} holds no run: there is no config.yaml")
  config = load_config(directory / "config.yaml")
  training = config.environment.level_distribution
  own = config.evaluation
  level_sets = tuple(resolve_level_set(name, training) for name in options.levels or DEFAULT_SETS)
  if options.environments is not None and all(each.is_list for each in level_sets):
    raise UsageError("--environments has no effect: levels one by one have an environment each")
  quota = options.episodes_per_environment or own.final_episodes_per_environment
  return EvaluationPlan(
    directory=directory,
    config=config,
    checkpoint=options.checkpoint,
    level_sets=level_sets,
    num_environments=options.environments or own.num_environments,
    episodes_per_environment=quota,
    policy=options.policy or own.policy,
    seed=config.seed if options.seed is None else options.seed,
    bounds=options.bounds,
    search=options.search,
    simulations=_simulations(directory, config, options),
    video=_video(directory, options),
  )


def _simulations(
  directory: Path, config: ExperimentConfig, options: argparse.Namespace
) -> tuple[int, ...]:
  """The numbers of simulations to evaluate; empty for an agent that does not plan."""
  name = agent_name(config.agent)
  entry = AGENTS[name]
  if entry.planner is None:
    for option in ("simulations", "search"):
      if getattr(options, option) is not None:
        raise UsageError(f"--{option}: {directory} is a run of {name}, which does not plan")
    return ()
  if options.search is not None and options.search not in entry.searches:
    raise unknown("search", options.search, entry.searches)
  if options.simulations is None:
    return (config.agent.search.num_simulations,)
  return tuple(sorted(options.simulations))


def _video(directory: Path, options: argparse.Namespace) -> VideoPlan | None:
  if options.video is None:
    return None
  name = directory.resolve().name
  return VideoPlan(options.video / name, options.video_episodes or DEFAULT_FILMS)


def check_together(plans: list[EvaluationPlan], options: argparse.Namespace) -> None:
  """Raises UsageError if films cannot be written, or would go to the same folder or to a file."""
  folders = [plan.video.directory for plan in plans if plan.video is not None]
  twice = {folder for folder in folders if folders.count(folder) > 1}
  if twice:
    raise UsageError(f"two runs are called {sorted(twice)[0].name}: film them in different --video")
  files = {_place(path): option for option, path in _files(options).items()}
  for folder in folders:
    _check_films(folder, files)


def _check_films(folder: Path, files: Mapping[Path, str]) -> None:
  """Raises UsageError if `folder`, or what is to be made above it, cannot be a directory."""
  line = [folder.absolute(), *folder.absolute().parents]
  for path in line:
    option = files.get(_place(path))
    if option is not None:
      raise UsageError(f"--video: films go to {folder}, but {path} is the file of {option}")
  there = next(path for path in line if os.path.lexists(path))
  if not there.is_dir():
    raise UsageError(f"--video: films go to {folder}, but {there} is no directory")
  if not os.access(there, os.W_OK):
    raise UsageError(f"--video: films go to {folder}, but {there} is not writable")
