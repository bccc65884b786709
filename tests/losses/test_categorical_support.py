"""The support's arithmetic, its refusals, and that it needs no JAX."""

import subprocess
import sys

import pytest

from losses.categorical_support import CategoricalSupport


def test_spacing():
  assert CategoricalSupport(low=-300.0, high=300.0, num_atoms=601).spacing == 1.0
  assert CategoricalSupport(low=-1.0, high=8.0, num_atoms=37).spacing == 0.25


@pytest.mark.parametrize(
  ("fields", "name"),
  [
    ({"low": 1.0, "high": 1.0, "num_atoms": 3}, "low"),
    ({"low": 2.0, "high": 1.0, "num_atoms": 3}, "low"),
    ({"low": float("-inf"), "high": 1.0, "num_atoms": 3}, "low"),
    ({"low": 0.0, "high": float("nan"), "num_atoms": 3}, "high"),
    ({"low": 0.0, "high": 1.0, "num_atoms": 1}, "num_atoms"),
    ({"low": 0.0, "high": 1.0, "num_atoms": 3.0}, "num_atoms"),
    ({"low": 0.0, "high": 1.0, "num_atoms": True}, "num_atoms"),
    ({"low": 0.0, "high": 1.0, "num_atoms": 3, "epsilon": -0.1}, "epsilon"),
    ({"low": 0.0, "high": 1.0, "num_atoms": 3, "epsilon": float("nan")}, "epsilon"),
  ],
)
def test_wrong_fields_are_named(fields, name):
  with pytest.raises(ValueError, match=name):
    CategoricalSupport(**fields)


def test_importing_it_does_not_import_jax():
  program = "import sys, losses.categorical_support; sys.exit('jax' in sys.modules)"
  subprocess.run([sys.executable, "-c", program], check=True)
