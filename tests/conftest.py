"""Strict switches for every test: two fake devices, no implicit broadcasting over ranks.

Warnings are errors too: pyproject.toml names the few that are let through, and why.
"""

import os
import sys

DEVICES = 2  # so that whatever runs on a mesh is tested on more than one device

if "jax" in sys.modules:
  raise RuntimeError("JAX was imported before tests/conftest.py could set its switches")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}".strip()
)

import hypothesis  # noqa: E402
import jax  # noqa: E402, after the switches that it reads once
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

# No assertion on time, and the same examples in every run.
hypothesis.settings.register_profile("procplan", deadline=None, derandomize=True)
hypothesis.settings.load_profile("procplan")


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory):
  """Keeps what JAX compiles for the rest of the session: equal functions compile once.

  Returns:
    The environment variables that give a subprocess the same cache.
  """
  settings = {
    "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }
  before = {name: getattr(jax.config, name) for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  yield {name.upper(): str(value) for name, value in settings.items()}
  for name, value in before.items():
    jax.config.update(name, value)
