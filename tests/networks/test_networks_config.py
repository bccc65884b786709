"""Backbone configs refuse what cannot be built, and need no jax to be read."""

import dataclasses
import subprocess
import sys

import pytest

from networks.config import BACKBONES, ImpalaConfig, NatureCNNConfig, ResNetConfig


@pytest.mark.parametrize(
  ("config", "field", "value", "allowed"),
  [
    (ResNetConfig, "stem_kernels", (), "at least one positive integer"),
    (ResNetConfig, "stem_kernels", [8, 4], "tuple"),
    (ResNetConfig, "stem_kernels", 8, "tuple"),
    (ResNetConfig, "stem_strides", (4, 0), "positive integer"),
    (ResNetConfig, "stem_strides", (4, True), "positive integer"),
    (ResNetConfig, "stem_strides", (4, 2.0), "positive integer"),
    (ResNetConfig, "stem_strides", (4,), "as many entries as stem_kernels (2)"),
    (ResNetConfig, "stem_channels", (16, 32, 32), "as many entries as stem_kernels (2)"),
    (ResNetConfig, "stem_channels", (16, -32), "positive integer"),
    (ResNetConfig, "blocks", -1, "integer of at least 0"),
    (ResNetConfig, "blocks", 1.0, "integer of at least 0"),
    (ResNetConfig, "compute_dtype", "float16", "float32, bfloat16"),
    (ImpalaConfig, "channels", (), "at least one positive integer"),
    (ImpalaConfig, "channels", (16, "32"), "positive integer"),
    (ImpalaConfig, "blocks_per_stack", -1, "integer of at least 0"),
    (ImpalaConfig, "blocks_per_stack", False, "integer of at least 0"),
    (ImpalaConfig, "compute_dtype", None, "float32, bfloat16"),
    (NatureCNNConfig, "kernels", (), "at least one positive integer"),
    (NatureCNNConfig, "strides", (4, 2), "as many entries as kernels (3)"),
    (NatureCNNConfig, "channels", (32, 64, 0), "positive integer"),
    (NatureCNNConfig, "compute_dtype", "float64", "float32, bfloat16"),
  ],
)
def test_a_wrong_value_is_named(config, field, value, allowed):
  with pytest.raises(ValueError, match=rf"^{config.__name__}\.{field} ") as caught:
    config(**{field: value})
  assert repr(value) in str(caught.value)
  assert allowed in str(caught.value)


def test_configs_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    ResNetConfig().blocks = 3


def test_the_paper_preset_is_the_papers():
  paper = BACKBONES["paper"]()
  assert (paper.blocks, paper.channels) == (10, 256)
  downscaling = 1
  for stride in paper.stem_strides:
    downscaling *= stride
  assert 64 // downscaling == 8


def test_reading_a_config_imports_neither_jax_nor_flax():
  code = (
    "import sys, networks.config; print([m for m in ('jax', 'flax', 'numpy') if m in sys.modules])"
  )
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert result.stdout.strip() == "[]"
