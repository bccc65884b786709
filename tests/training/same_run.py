"""Compares finished runs bit for bit, all but what tells the time."""

import json
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp


def read_arrays(directory: Path, item: str) -> dict[str, np.ndarray]:
  """Returns the arrays of one item of the latest checkpoint, as numpy, by path."""
  step = max(int(path.name) for path in (directory / "checkpoints" / "steps").iterdir())
  path = directory / "checkpoints" / "steps" / str(step) / item
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    tree = checkpointer.metadata(path).item_metadata.tree
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    restored = checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=arguments))
  return {jax.tree_util.keystr(key): x for key, x in jax.tree_util.tree_leaves_with_path(restored)}


def read_counters(directory: Path) -> dict:
  """Returns the latest checkpoint's counters but for time and file positions."""
  step = max(int(path.name) for path in (directory / "checkpoints" / "steps").iterdir())
  path = directory / "checkpoints" / "steps" / str(step) / "counters" / "metadata"
  counters = json.loads(path.read_text())["counters"]
  files = counters["files"]  # rows tell times: their length and bits vary
  del counters["seconds"], files["metrics"], files["checksums"]["metrics"]
  return counters


def read_rows(directory: Path) -> list[dict]:
  """Returns the rows of metrics.jsonl but for what tells the time."""
  rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
  return [
    {k: v for k, v in row.items() if k != "seconds" and not k.startswith(("speed/", "memory/"))}
    for row in rows
  ]


def assert_same_run(directory: Path, reference: Path) -> None:
  """Checks that two finished runs agree in every bit that does not tell the time."""
  for item in ("train_state", "host"):
    found, expected = read_arrays(directory, item), read_arrays(reference, item)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
      assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
      assert found[name].tobytes() == value.tobytes(), f"{item}{name} differs"
  assert any(name.startswith("['environment/") for name in expected)
  assert read_counters(directory) == read_counters(reference)
  assert read_rows(directory) == read_rows(reference)
  episodes = [(each / "episodes.jsonl").read_bytes() for each in (directory, reference)]
  assert episodes[0] == episodes[1]
  results = [json.loads((each / "result.json").read_text()) for each in (directory, reference)]
  compiled = []
  for result in results:
    del result["seconds"]
    compiled.append(set(result.pop("compilations").values()))
  assert results[0] == results[1]
  # Of the last start, which compiles no update if the one before it had trained to the end.
  assert compiled[0] in ({1}, {0, 1})
  assert compiled[1] == {1}
