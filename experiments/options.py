"""Command lines: agent, preset and file first, then any field on top.

Nothing here imports JAX, so that `--help` answers at once. A wrong option or value ends
in one line and exit code 2.
"""

import argparse
from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import io
import os
from pathlib import Path
import re
import sys

import tyro

from agents.muzero.config import SEARCHES
from experiments.config import ExperimentConfig, flatten, load_config, to_mapping
from experiments.errors import EXIT_FAILED, EXIT_USAGE, UsageError, unknown
from experiments.presets import PRESETS, make_preset
from experiments.registry import agent_name
from networks.config import BACKBONES

HELP = ("--help", "-h")
MARKERS = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)


class OptionParser(argparse.ArgumentParser):
  """An argument parser whose errors are one line and that takes no abbreviations."""

  def __init__(self, **arguments):
    super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **arguments)

  def error(self, message: str):
    raise UsageError(message)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
  """Says every default but None and False."""

  def _get_help_string(self, action: argparse.Action) -> str | None:
    silent = action.default is None or action.default is False
    return action.help if silent else super()._get_help_string(action)


def guarded(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
  """Runs a command; a user's mistake becomes one line on stderr and exit code 2.

  What the system refuses (a full disk, a name that is too long) is one line and exit code 1.
  """
  try:
    return main(arguments)
  except UsageError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USAGE
  except BrokenPipeError:  # the reader, such as `head`, has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_FAILED


def add_selection(parser: OptionParser) -> None:
  """Adds the options that choose the configuration to start from."""
  names = ", ".join(PRESETS["smoke"])
  parser.add_argument("--agent", metavar="NAME", default="ppo", help=names)
  parser.add_argument("--preset", metavar="NAME", default="laptop", help=f"{', '.join(PRESETS)}")
  parser.add_argument(
    "--config",
    metavar="FILE",
    type=Path,
    help="start from a run's config.yaml instead of an agent's preset",
  )
  parser.add_argument(
    "--backbone",
    metavar="NAME",
    help=f"replace the preset's backbone by a named one: {', '.join(BACKBONES)}",
  )
  parser.add_argument(
    "--search",
    metavar="NAME",
    help="replace the search of an agent that plans by another kind, with the kind's defaults: "
    f"{', '.join(SEARCHES)}",
  )


def add_checkpoint(parser: OptionParser) -> None:
  """Adds which checkpoint of a run is read."""
  parser.add_argument(
    "--checkpoint",
    metavar="STEP",
    type=int,
    help="environment steps of the checkpoint (default: the latest good one)",
  )


def select_config(selection: argparse.Namespace) -> ExperimentConfig:
  """Returns the configuration that the options of `add_selection` choose.

  Raises:
    UsageError: an unknown name, or a file that cannot be read.
  """
  if selection.config is not None:
    config = load_config(selection.config)
  else:
    config = make_preset(selection.preset, selection.agent)
  return _with_search(_with_backbone(config, selection.backbone), selection.search)


def _with_backbone(config: ExperimentConfig, name: str | None) -> ExperimentConfig:
  """Returns `config` with the named backbone, or as it is."""
  if name is None:
    return config
  if name not in BACKBONES:
    raise unknown("backbone", name, BACKBONES)
  agent = dataclasses.replace(config.agent, backbone=BACKBONES[name]())
  return dataclasses.replace(config, agent=agent)


def _with_search(config: ExperimentConfig, name: str | None) -> ExperimentConfig:
  """Returns `config` with the named kind of search; the kind that it has is left as it is."""
  if name is None:
    return config
  if name not in SEARCHES:
    raise unknown("search", name, SEARCHES)
  if not any(field.name == "search" for field in dataclasses.fields(config.agent)):
    raise UsageError(f"--search {name}: {agent_name(config.agent)} does not search")
  if type(config.agent.search) is SEARCHES[name]:
    return config
  agent = dataclasses.replace(config.agent, search=SEARCHES[name]())
  return dataclasses.replace(config, agent=agent)


def parse_own(
  parser: OptionParser, arguments: Sequence[str]
) -> tuple[argparse.Namespace, list[str], bool]:
  """Parses a command's own options and leaves the others.

  Args:
    parser: with the command's own options.
    arguments: the command line.

  Returns:
    The command's options, the other arguments, and whether help was asked for.

  Raises:
    UsageError: a wrong value of one of the command's own options.
  """
  own, rest = parser.parse_known_args(arguments)
  fields = [each for each in rest if each not in HELP]
  return own, fields, len(fields) < len(rest)


def parse_with_fields(
  parser: OptionParser, arguments: Sequence[str]
) -> tuple[argparse.Namespace, ExperimentConfig]:
  """Parses a command's own options, then every other one as a field of the configuration.

  Args:
    parser: with the options of `add_selection` and the command's own.
    arguments: the command line.

  Returns:
    The command's options and the resolved configuration.

  Raises:
    UsageError: an unknown option or a wrong value.
    SystemExit: help was asked for and has been printed.
  """
  own, fields, wants_help = parse_own(parser, arguments)
  config = override_fields(select_config(own), fields, parser=parser)
  if wants_help:
    print_help(parser, config)
    raise SystemExit(0)
  return own, config


def print_help(parser: OptionParser, config: ExperimentConfig) -> None:
  """Explains a command's own options and every field of `config`."""
  print(parser.format_help())
  print("Every field of the configuration can be set, as --section.field value:\n", flush=True)
  with contextlib.suppress(SystemExit):
    _tyro(config, ["--help"], prog=parser.prog)


def override_fields(
  config: ExperimentConfig, arguments: Sequence[str], *, parser: OptionParser
) -> ExperimentConfig:
  """Returns `config` with `--section.field value` pairs applied.

  Args:
    config: to start from.
    arguments: the pairs.
    parser: whose own options are among those that an unknown one is compared with.

  Raises:
    UsageError: an unknown field or a wrong value.
  """
  fields = [name for name in flatten(to_mapping(config)) if not name.endswith("kind")]
  fields.remove("agent_name")
  options = [f"--{each}" for each in fields]
  options += [option for action in parser._actions for option in action.option_strings]
  for argument in arguments:
    if argument.startswith("--"):
      name = argument[2:].partition("=")[0].replace("-", "_")
      if name not in fields:
        raise unknown("option", argument.partition("=")[0], options)
  captured = io.StringIO()
  try:
    with contextlib.redirect_stderr(captured), contextlib.redirect_stdout(captured):
      return _tyro(config, arguments, prog="procplan")
  except SystemExit:
    raise UsageError(_one_line(captured.getvalue())) from None
  except ValueError as error:
    raise UsageError(str(error)) from None


def _tyro(config: ExperimentConfig, arguments: Sequence[str], *, prog: str) -> ExperimentConfig:
  return tyro.cli(
    ExperimentConfig,
    default=config,
    args=list(arguments),
    prog=prog,
    use_underscores=True,
    config=MARKERS,
  )


def _one_line(text: str) -> str:
  """Takes the frame, the title and the help text off one of tyro's messages."""
  text = re.sub(r"[╭╮╰╯│]|[─-]{3,}", " ", text)
  text = re.sub(r"(For full helptext|Argument helptext).*", "", text, flags=re.DOTALL)
  text = " ".join(text.split())
  text = re.sub(r"^(Parsing error|Value error|Invalid choice|Missing argument) ", "", text)
  text = re.sub(r"invalid literal for int\(\) with base 10:", "must be an integer, got", text)
  text = re.sub(r"could not convert string to float:", "must be a number, got", text)
  text = re.sub(r"^Unrecognized options Unrecognized options: ", "unexpected argument ", text)
  return re.sub(
    r"^Error parsing (ExperimentConfig: |(environment|agent\S*|evaluation|training): |(?=--))",
    "",
    text,
  )
