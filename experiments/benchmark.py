"""`procplan benchmark`: speed, memory and compilations of every stage of a run.

The loop of training, without evaluations and checkpoints, with a clock at every stage. A
first measurement, which compiles, is not counted. Nothing is kept of the run.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import statistics
import sys
from typing import Any

from experiments import machine
from experiments.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError
from experiments.options import OptionParser, add_selection, guarded, parse_with_fields
from experiments.registry import agent_name
from experiments.run_plan import replays

MEBIBYTE = 2**20


def main(arguments: Sequence[str]) -> int:
  """Measures; returns the exit code."""
  parser = OptionParser(prog="procplan benchmark", description=__doc__, add_help=False)
  add_selection(parser)
  parser.add_argument(
    "--repeats",
    metavar="N",
    type=int,
    default=3,
    help="measurements; one lasts until every phase of the agent has learnt",
  )
  parser.add_argument(
    "--ratios",
    action="store_true",
    help="also measure folded against unfolded sequences and compressed against raw frames, of an "
    "agent that learns from replayed sequences",
  )
  parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to FILE as JSON")
  options, config = parse_with_fields(parser, arguments)
  if options.repeats < 1:
    raise UsageError(f"--repeats must be at least 1, got {options.repeats}")
  path = options.json
  if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
    raise UsageError(f"cannot write {path}: it must be a file in a directory that is there")
  if options.ratios and not replays(config):
    raise UsageError(f"--ratios: {agent_name(config.agent)} learns from no replayed sequences")
  _warn_unless_quiet()
  from experiments import speed  # here, because it imports JAX
  from experiments.speed_ratios import measure_ratios
  from training.learner import NonFiniteError

  try:
    result = {"command": ["procplan", "benchmark", *arguments]}
    result |= speed.measure(config, repeats=options.repeats)
    if options.ratios:
      result["ratios"] = measure_ratios(config, repeats=options.repeats)
    if path is not None:
      path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
  except KeyboardInterrupt:
    print("stopped; nothing is written", file=sys.stderr)
    return EXIT_INTERRUPTED
  except (NonFiniteError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_FAILED
  print_result(result)
  return 0


def print_result(result: Mapping[str, Any]) -> None:
  """Prints machine, stages and compiled functions."""
  from rich import box
  from rich.table import Table

  from experiments.consoles import make_console

  console = make_console(least_width=120)
  for line in describe(result):
    console.print(line, markup=False, highlight=False)
  stages = Table(box=box.SIMPLE_HEAD)
  for column in ("stage", "steps/s", "min to max", "share", "cores", "peak MiB", "samples/s"):
    stages.add_column(column, justify="left" if column == "stage" else "right")
  for row in stage_rows(result):
    stages.add_row(*row)
  console.print(stages)
  rates = Table(box=box.SIMPLE_HEAD)
  for column in ("work", "per second", "min to max", "per core second", "of the stages"):
    rates.add_column(column, justify="left" if column in ("work", "of the stages") else "right")
  for row in result["rates"]:
    own = _speed(row["per_core_second"])[0]
    rates.add_row(row["work"], *_speed(row["per_second"]), own, " + ".join(row["stages"]))
  console.print(rates)
  for line in ratio_lines(result.get("ratios", {})):
    console.print(line, markup=False, highlight=False)
  functions = Table(box=box.SIMPLE_HEAD)
  for column in ("compiled for", "times", "seconds"):
    functions.add_column(column, justify="left" if column == "compiled for" else "right")
  for each in result["functions"]:
    count = each["compilations"]
    functions.add_row(
      each["function"], "" if count is None else f"{count}", f"{each['seconds']:.1f}"
    )
  console.print(functions)
  for each in result["compiled_while_measuring"]:
    print(f"warning: {each['function']} was compiled again in {each['stage']}", file=sys.stderr)


def describe(result: Mapping[str, Any]) -> list[str]:
  """Returns what was measured, where, and what else the machine was doing."""
  config, facts, memory = result["config"], result["machine"], result["memory"]
  environment, backbone = config["environment"], config["agent"]["backbone"]
  own, others = facts["cores_used"]["own"], facts["cores_used"]["others"]
  peaks = [peak for peak in memory["peak_device_bytes"].values() if peak is not None]
  device = f"{max(peaks) / MEBIBYTE:,.0f} MiB" if peaks else "not told by the backend"
  return [
    f"{result['agent']} on {environment['game']} {environment['levels']}, "
    f"{environment['num_environments']} environments x {result['rollout_length']} steps",
    f"backbone: {', '.join(f'{name} {value}' for name, value in backbone.items())}",
    f"{facts['processor']}, {facts['cores']} of {facts['cores_of_machine']} cores, "
    f"devices: {', '.join(facts['devices'])}",
    f"load average before: {facts['load_average'][0]:g}; cores used while measuring: "
    f"{own:g} by this process, {'?' if others is None else f'{others:g}'} by others",
    f"peak memory: {memory['peak_resident_bytes'] / MEBIBYTE:,.0f} MiB resident "
    f"({memory['resident_before_bytes'] / MEBIBYTE:,.0f} before), on the device: {device}",
    f"median of {result['repeats']} repeats of {result['whole_loop']['steps'][0]:,} environment "
    "steps, without evaluations and checkpoints; cores: core seconds that this process used in "
    "a second of the stage",
  ]


def ratio_lines(ratios: Mapping[str, Any]) -> list[str]:
  """Returns what folding and compression were measured to be worth, in words."""
  if not ratios:
    return []
  folding, compression = ratios["folding"], ratios["compression"]
  return [
    f"targets of {folding['samples']} samples from sequences of {folding['starts']} starts: "
    f"{folding['seconds_folded']:.3f} s; from windows of one start: "
    f"{folding['seconds_unfolded']:.3f} s; folded is {folding['ratio']:.2f} times as fast",
    f"samples drawn per second: {compression['samples_per_second_raw']:,.0f} from raw frames, "
    f"{compression['samples_per_second_compressed']:,.0f} from compressed ones, which take "
    f"{compression['ratio']:.2f} times as long",
  ]


def stage_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
  """Returns the rows of the table of stages: what is inside another stage is indented."""
  alone, whole = result["environment_alone"], result["whole_loop"]
  shares = sum(statistics.fmean(row["share"]) for row in result["stages"] if not row["inside"])
  rows = [
    (
      "environment, random actions",
      *_speed(alone["steps_per_second"]),
      "",
      _cores(alone),
      _mebibytes(alone["peak_resident_bytes"]),
      "",
    ),
    (
      "whole loop",
      *_speed(whole["steps_per_second"]),
      f"{100 * shares:.1f} %",
      _cores(whole),
      "",
      "",
    ),
  ]
  for row in result["stages"]:
    samples = row["samples_per_second"]
    rows.append(
      (
        f"{'    ' if row['inside'] else '  '}{row['stage']}",
        *_speed(row["steps_per_second"]),
        f"{100 * statistics.fmean(row['share']):.1f} %",
        _cores(row),
        _mebibytes(row["peak_resident_bytes"]),
        "" if samples is None else f"{statistics.median(samples):,.0f}",
      )
    )
  return rows


def _cores(row: Mapping[str, Any]) -> str:
  """Returns how many cores this process had while the stage went on."""
  seconds = sum(row["seconds"])
  return f"{sum(row['core_seconds']) / seconds:.2f}" if seconds > 0 else ""


def _speed(rates: Sequence[float | None]) -> tuple[str, str]:
  """Returns median and range; nothing where a stage took no time."""
  known = [rate for rate in rates if rate is not None]
  if not known:
    return "", ""
  digits = 0 if max(known) >= 10 else 2
  low, middle, high = (
    f"{rate:,.{digits}f}" for rate in (min(known), statistics.median(known), max(known))
  )
  return middle, f"{low} to {high}"


def _mebibytes(size: int | None) -> str:
  return "" if size is None else f"{size / MEBIBYTE:,.0f}"


def _warn_unless_quiet() -> None:
  facts = machine.describe()
  load, cores = facts["load_average"][0], facts["cores_of_machine"]
  if not machine.is_quiet(load, cores):
    print(
      f"warning: the machine is not quiet: load average {load:g} on {cores} cores before the "
      "start; speeds will be lower than the machine's own",
      file=sys.stderr,
    )


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
