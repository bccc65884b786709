"""A made-up study on disk, in every state that a run can be in.

As a script it writes a page to look at: `python tests/experiments/synthetic_study.py OUT`.
"""

import json
from pathlib import Path
import sys

import numpy as np
import yaml

SPEED = {"ppo": 1000.0, "ppg": 700.0}
# Agent -> how far up between the bounds it gets on training levels and in general.
SKILL = {"ppo": (0.5, 0.3), "ppg": (0.65, 0.5)}
RANGE = {"coinrun": (5, 10), "starpilot": (2.5, 64), "leaper": (1.5, 10), "bigfish": (1, 40)}


def write_run(
  directory,
  *,
  agent="ppo",
  game="coinrun",
  levels="easy-200",
  seed=0,
  total=1_000_000,
  state="finished",
  done=1.0,
  evaluations=6,
  settings=None,
):
  """Writes one run directory; `done` is the share of the steps that it has taken."""
  directory = Path(directory)
  directory.mkdir(parents=True)
  config = {
    "agent_name": agent,
    "agent": {"learning_rate": 5e-4, "backbone": {"kind": "ResNet", "width": 32}},
    "environment": {"game": game, "levels": levels, "num_environments": 64},
    "training": {"total_environment_steps": total, "checkpoint_every": 100_000},
    "evaluation": {"policy": "sampled", "every": total // 5},
    "seed": seed,
  }
  config["agent"].update(settings or {})
  (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
  _write(directory / "run.json", _provenance(config))
  rows = _rows(config, done=done, evaluations=evaluations)
  text = "".join(json.dumps(row) + "\n" for row in rows)
  if state == "running":
    text += '{"kind": "training", "environment_steps": 99'  # the process is in the middle of a line
  (directory / "metrics.jsonl").write_text(text)
  episodes = "".join(json.dumps(row) + "\n" for row in _episodes(config, done=done))
  (directory / "episodes.jsonl").write_text(episodes)
  steps = int(total * done)
  status = {
    "state": state,
    "updated": f"2026-11-20T18:{seed:02d}:00+00:00",
    "environment_steps": steps,
    "total_environment_steps": total,
    "seconds_left": (total - steps) / SPEED.get(agent, 500.0),
  }
  if state == "failed":
    status["error"] = "at environment step 300000: policy/loss is not finite"
  _write(directory / "status.json", status)
  if state == "finished":
    _write(directory / "result.json", _result(rows, steps))
  return directory


def write_study(root, *, agents=("ppo", "ppg"), games=("coinrun", "starpilot"), seeds=2):
  """Two agents, two games, two level distributions, two seeds; all finished."""
  return [
    write_run(
      Path(root) / f"{agent}-{levels}-{game}-{seed}",
      agent=agent,
      game=game,
      levels=levels,
      seed=seed,
    )
    for agent in agents
    for levels in ("easy-200", "easy-all")
    for game in games
    for seed in range(seeds)
  ]


def _write(path, content):
  path.write_text(json.dumps(content, indent=2))


def _provenance(config):
  command = ["procplan", "train", "--agent", config["agent_name"], "--seed", str(config["seed"])]
  return {
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "command": [*command, "--out", "runs/a <b> & c"],
    "versions": {"jax": "0.7.1", "numpy": "1.26.4"},
    "devices": ["TFRT_CPU_0"],
    "hardware": {"machine": "x86_64", "cpu_count": 2, "memory_gb": 24},
    "started": "2026-11-20T17:00:00+00:00",
  }


def _rows(config, *, done, evaluations):
  """Rows of metrics.jsonl: a saturating curve with noise, and an evaluation now and then."""
  agent, seed = config["agent_name"], config["seed"]
  game, levels = config["environment"]["game"], config["environment"]["levels"]
  random = np.random.default_rng([seed, *map(ord, agent + game + levels)])
  total, (low, high) = config["training"]["total_environment_steps"], RANGE.get(game, (0, 1))
  reach = SKILL.get(agent, (0.4, 0.2))
  reach = (reach[1] * 1.05, reach[1] * 1.05) if levels.endswith("all") else reach
  factors = 1 + 0.06 * random.standard_normal(2)
  ends = dict(zip(("train", "test"), low + np.array(reach) * factors * (high - low), strict=True))
  rows = []
  grid = np.linspace(0, total, 61)
  marks = set(np.linspace(0, 60, evaluations).round().astype(int).tolist())
  for i, steps in enumerate(grid):
    if steps > done * total + 1:
      break
    progress = 1 - np.exp(-3 * steps / total)
    common = {"environment_steps": int(steps), "seconds": float(steps / SPEED.get(agent, 500.0))}
    now = {split: low + (end - low) * progress for split, end in ends.items()}
    noise = 0.03 * (high - low) * random.standard_normal(3)
    if i:
      rows.append({"kind": "training", **common, **_training(now["train"] + noise[0], progress, i)})
    if i in marks:
      for split, extra in (("train", noise[1]), ("test", noise[2])):
        rows.append(
          {"kind": "evaluation", **common, **_evaluation(split, levels, now[split] + extra)}
        )
  return rows


def _episodes(config, *, done):
  """Ten episodes for every training row; a level with a higher seed is harder."""
  random = np.random.default_rng([config["seed"], 1])
  total, levels = config["training"]["total_environment_steps"], config["environment"]["levels"]
  count = 2_000_000 if levels.endswith("all") else 200
  rows = []
  for i in range(1, 61):
    steps = int(total * i / 60)
    for environment in range(10 if steps <= done * total + 1 else 0):
      seed = int(random.integers(count))
      is_complete = bool(random.random() < i / 60 * (1 - 0.9 * seed / count))
      rows.append(
        {
          "environment_steps": steps,
          "environment": environment,
          "level_seed": seed,
          "episode_return": 10.0 * is_complete,
          "length": 150,
          "level_complete": is_complete,
          "timed_out": False,
        }
      )
  return rows


def _training(value, progress, i):
  return {
    "training/episode_return": None if i == 1 else float(value),
    "training/episode_length": 200.0 - 80 * progress,
    "training/episodes": 30 * i,
    "training/time_outs": i // 10,
    "training/level_complete": float(progress),
    "policy/loss": float(-0.01 * np.exp(-progress)),
    "policy/entropy": float(2.7 - progress),
    "speed/steps_per_second": 1000.0 + 50 * (i % 3),
  }


def _evaluation(split, levels, value):
  return {
    "split": split,
    "levels": levels if split == "train" else "easy-all",
    "policy": "sampled",
    "episodes": 128,
    "episodes_per_environment": 2,
    "num_environments": 64,
    "seed": 7,
    "episode_return": float(value),
    "episode_return_std": 4.0,
    "level_complete": 0.5,
    "time_outs": 0,
    "episode_length": 150.0,
  }


def _result(rows, steps):
  last = [row for row in rows if row["kind"] == "evaluation"][-2:]
  returns = [row["training/episode_return"] for row in rows if row["kind"] == "training"]
  omitted = ("kind", "environment_steps", "seconds")
  return {
    "environment_steps": steps,
    "seconds": rows[-1]["seconds"],
    "training_episode_return": returns[-1],
    "evaluations": [{k: v for k, v in row.items() if k not in omitted} for row in last],
  }


def main(out):
  """A page with everything on it."""
  from experiments.report import write_report

  out = Path(out)
  write_study(out, games=tuple(RANGE), seeds=3)
  write_run(out / "failed", seed=8, state="failed", done=0.3)
  write_run(out / "running", seed=9, state="running", done=0.5)
  print(write_report([out, out / "queued"], out / "report.html"))


if __name__ == "__main__":
  main(sys.argv[1])
