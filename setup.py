"""Packaging: what to install, and the `procplan` command."""

from setuptools import find_packages, setup

PACKAGES = ("environments", "networks", "losses", "replay", "agents", "training", "experiments")

# Tried together in one `pip install`, Python 3.11 and 3.12. procgen-mirror holds numpy
# below 2; the code runs on both. chex 0.1.92 fails with numpy 1.26.
CORE = [
  "jax>=0.7.1",
  "flax>=0.12",
  "optax>=0.2.5",
  "chex>=0.1.90,!=0.1.92",
  "dm-haiku>=0.0.14",
  "orbax-checkpoint>=0.12",
  "mctx>=0.0.71",
  "numpy>=1.26",
  "procgen-mirror==0.10.7",
  "tyro>=1,<2",
  "PyYAML",
  "zstandard",
  "tensorboardX",
  "rich",
  "pillow",
  "imageio-ffmpeg",  # for the ffmpeg that it ships; gym3, Procgen's, holds it at 0.3.0
]
REPORT = ["matplotlib>=3.9", "rliable>=1.2", "pandas>=2.2,<3"]
# The core of Ray, from the first version tried here on; on Slurm a sweep needs but Slurm.
SWEEP = ["ray>=2.60,<3"]
TEST = [
  *SWEEP,
  "filelock",  # JAX's, where several processes share what they compile
  "pytest",
  "pytest-timeout",
  "pytest-xdist",
  "hypothesis",
  "ruff",
  "rlax",
  "flashbax",
]

setup(
  name="procplan",
  version="0.1.0",
  description="Planning against model-free RL under procedural generalisation, controlled.",
  python_requires=">=3.11",
  packages=find_packages(include=[pattern for p in PACKAGES for pattern in (p, f"{p}.*")]),
  package_data={
    "experiments": ["reporting/*.json", "reporting/*.css", "reporting/*.js", "launch/*"]
  },
  install_requires=CORE,
  extras_require={
    "report": REPORT,
    "test": TEST,
    "cuda": ["jax[cuda12]>=0.7.1"],
    "tpu": ["jax[tpu]>=0.7.1", "gcsfs"],
    "board": ["tensorboard"],
    "sweep": SWEEP,
  },
  entry_points={"console_scripts": ["procplan=experiments.command_line:main"]},
)
