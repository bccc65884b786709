"""Diagnostics of unrolled models against sums written out."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from agents.diagnostics import errors_by_step
from agents.figures import join_figures
from agents.interface import WHOLE
from environments.factory import environment_spec
from experiments.presets import make_preset
from experiments.registry import make_agent


def test_errors_are_means_over_the_starts_whose_episode_lasts():
  said = jnp.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [9.0, 9.0, 9.0]])
  target = jnp.array([[1.0, 0.0, 4.0], [1.0, 5.0, 2.0], [0.0, 0.0, 0.0]])
  inside = jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
  errors = errors_by_step("value", said, target, inside, first_step=1)
  errors = join_figures(WHOLE.combine({}, errors)[1])
  # (0 + 2 + 1) / 3; (0 + 1) / 2 without the 4; nothing is left after three steps.
  assert {name: tuple(map(float, error)) for name, error in errors.items()} == {
    "value_error_1": (3.0, 3.0),
    "value_error_2": (1.0, 2.0),
    "value_error_3": (0.0, 0.0),
  }


@pytest.mark.parametrize(("agent", "first"), [("muzero", 0), ("q_learning", 1)])
def test_both_agents_report_them_after_every_number_of_steps(agent, first):
  """Abstractly: the update is traced, nothing is computed."""
  config = make_preset("smoke", agent)
  if agent == "q_learning":  # its default takes one model step only
    config = dataclasses.replace(config, agent=dataclasses.replace(config.agent, model_steps=5))
  spec = environment_spec("leaper", num_environments=16)
  built = make_agent(config.agent, spec, total_environment_steps=4096)
  (phase,) = built.phases
  request = phase.source
  record = {
    name: jax.ShapeDtypeStruct((request.length, request.batch_size, *shape), dtype)
    for name, (shape, dtype) in config.agent.workload(spec).record.items()
  }
  sample = (request.starts, request.batch_size)
  whole = dict.fromkeys(("environment", "frame_number", "age"), "int32")
  for name, dtype in {**whole, "importance_weight": "float32"}.items():
    record[name] = jax.ShapeDtypeStruct(sample, dtype)
  key = jax.random.key(0)
  state = jax.eval_shape(built.init, key)
  batch = jax.eval_shape(phase.make_targets, state, record, key)
  metrics = jax.eval_shape(phase.update, state, batch, key)[1]
  assert {name for name in metrics if name.startswith("value_error")} == {
    f"value_error_{k}" for k in range(first, 6)
  }
  assert {name for name in metrics if name.startswith("reward_error")} == {
    *(f"reward_error_{k}" for k in range(1, 6)), "reward_error_rewarding", "reward_error_other",
  }  # fmt: skip
  shared = {"value_bias", "value_explained_variance", "latent_drift", "age_of_data"}
  planning = {"prior_entropy", "target_entropy", "search_kl"}
  assert shared <= metrics.keys()
  assert (planning <= metrics.keys()) == (agent == "muzero")
