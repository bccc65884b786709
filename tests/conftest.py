"""Strict switches for every test: two fake devices, no implicit broadcasting over ranks.

Warnings are errors too: pyproject.toml names the few that are let through, and why.
What JAX compiles is kept until the test run ends, for all of its processes: equal functions
compile once.
"""

import os
import shutil
import sys
import tempfile

DEVICES = 2  # so that whatever runs on a mesh is tested on more than one device

if "jax" in sys.modules:
  raise RuntimeError("JAX was imported before tests/conftest.py could set its switches")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}".strip()
)

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers and subprocesses inherit it
  os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(prefix="procplan_compiled_"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(32 * 2**30),  # with a limit, access is locked
  }

import hypothesis  # noqa: E402
import jax  # noqa: E402, after the switches that it reads once
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

# No assertion on time, and the same examples in every run.
hypothesis.settings.register_profile("procplan", deadline=None, derandomize=True)
hypothesis.settings.load_profile("procplan")


# Where most time goes into compiling, and no value depends on how fast the programs are.
QUICK_FOLDERS = {"agents", "contract", "losses", "networks", "training"}
QUICK_FILES = {
  "test_benchmark.py",
  "test_exchange.py",
  "test_imagine.py",
  "test_readme.py",  # each command is run once
}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request):
  """Compiles without optimisation where the files above say so, in this process.

  Elsewhere, and in processes of their own but for those of `several.py`, as users' are.
  """
  quick = request.path.parent.name in QUICK_FOLDERS or request.path.name in QUICK_FILES
  jax.config.update("jax_disable_most_optimizations", quick)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def pytest_unconfigure(config):
  """Removes the cache, in the process that made it."""
  if not hasattr(config, "workerinput"):
    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
