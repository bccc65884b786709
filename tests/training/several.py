"""Starts one run as several small processes on this machine."""

from collections.abc import Mapping
import dataclasses
import os
from pathlib import Path
import socket
import subprocess
import sys

from agents.config import SelfSupervisionConfig
from environments.config import EnvironmentConfig
from experiments.config import ExperimentConfig, save_config
from experiments.presets import make_preset
from networks.config import ResNetConfig
from training.config import EvaluationConfig, TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
FAULTY = Path(__file__).resolve().with_name("faulty_train.py")
SELF_SUPERVISED = SelfSupervisionConfig(
  reconstruction_coefficient=1.0,
  contrastive_coefficient=1.0,
  spr_coefficient=1.0,
  hidden=8,
  projection_size=4,
)
BACKBONE = ResNetConfig(stem_kernels=(8,), stem_strides=(8,), stem_channels=(4,), blocks=0)
ENVIRONMENTS = 4
ON_ROLLOUTS = {
  "ppo": {"epochs": 2},
  # Its value has epochs of its own, and so a phase of its own.
  "ppg": {
    "value_epochs": 2,
    "minibatches": "steps",
    "rollouts_per_phase": 2,
    "auxiliary_minibatches": 2,
  },
}


def tiny(agent: str, *, turns: int, turn: int) -> ExperimentConfig:
  """A run on Catch of so many turns of so many steps, with a checkpoint after every fourth."""
  preset = make_preset("smoke", agent)
  changes = {"backbone": BACKBONE, "rollout_length": turn // ENVIRONMENTS}
  if agent in ON_ROLLOUTS:
    changes |= {"hidden": 8, "num_minibatches": 2, "gradient_chunk": 0, **ON_ROLLOUTS[agent]}
  else:
    if agent != "dqn":  # which has no model step
      changes["model"] = dataclasses.replace(
        preset.agent.model, dynamics_blocks=0, head_channels=2, hidden=8
      )
    changes["sequences"] = dataclasses.replace(
      preset.agent.sequences,
      starts=2,
      unroll_steps=2,
      bootstrap_steps=2,
      batch_size=8,
      capacity=256,
      min_size=128,
    )
  return ExperimentConfig(
    agent=dataclasses.replace(preset.agent, **changes),
    environment=EnvironmentConfig("catch", "easy-200", num_environments=ENVIRONMENTS),
    training=TrainingConfig(turns * turn, checkpoint_every=4 * turn, keep_checkpoints=2),
    evaluation=EvaluationConfig(
      every=10**9, num_environments=2, episodes_per_environment=1, final_episodes_per_environment=1
    ),
  )


def start(
  config: ExperimentConfig,
  directory: Path,
  *,
  count: int = 2,
  moments: Mapping[int, str] | None = None,
) -> list:
  """Starts the processes of a run in `directory`, one CPU device each.

  Args:
    config: of the run.
    directory: of the run.
    count: of processes.
    moments: index of a process -> when it is struck, see `faulty_train`.
  """
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  file = directory.with_suffix(".yaml")
  save_config(config, file)
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  environment |= {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(ROOT),
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # as in the process of the tests
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    "JAX_NUM_PROCESSES": str(count),
  }
  options = ["--distributed", "--config", str(file), "--out", str(directory)]
  return [
    subprocess.Popen(
      [sys.executable, str(FAULTY), (moments or {}).get(index, "none"), *options],
      cwd=ROOT,
      env=environment | {"JAX_PROCESS_ID": str(index)},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(count)
  ]


def finish(processes: list) -> list[tuple[int, str]]:
  """Waits for the processes; returns each one's exit code and what it said."""
  try:
    said = [each.communicate(timeout=580)[0] for each in processes]
  finally:
    for each in processes:
      each.kill()
  return [(each.returncode, text) for each, text in zip(processes, said, strict=True)]
