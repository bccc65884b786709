"""The plan of a run against the agents themselves, against real buffers and against real trees."""

import dataclasses

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from agents.interface import ActorOutput
from agents.muzero.config import PUCTSearchConfig
from agents.muzero.search import search_exploring
from environments.factory import environment_spec, make_environment
from environments.levels import parse_levels
from experiments.presets import PRESETS, make_preset
from experiments.registry import AGENTS, make_agent
from experiments.run_plan import plan_run
from replay.interface import Sequences, Trajectory
from replay.plan import leaf_specs
from replay.rollout_queue import RolloutQueue
from replay.sequence_buffer import SequenceBuffer
from training.config import EvaluationConfig, TrainingConfig

EVERY_PRESET = [(preset, agent) for preset, agents in PRESETS.items() for agent in agents]


def spec_of(config):
  """Returns what the environments of a configuration look like."""
  return environment_spec(
    config.environment.game, num_environments=config.environment.num_environments
  )


def abstract_record(config, agent):
  """Returns the shapes of what the agent makes of a rollout, and of its train state."""
  spec, time = spec_of(config), agent.rollout_length
  state = jax.eval_shape(agent.init, jax.random.key(0))
  frame = jax.ShapeDtypeStruct((spec.num_environments, *spec.observation_shape), jnp.uint8)
  params = jax.eval_shape(agent.policy_params, state)
  output = jax.eval_shape(agent.act, params, frame, jax.random.key(0))
  assert isinstance(output, ActorOutput)

  def rollout(leaf):
    return jax.ShapeDtypeStruct((time, *leaf.shape), leaf.dtype)

  numbers = jax.ShapeDtypeStruct((time, spec.num_environments), jnp.float32)
  trajectory = Trajectory(
    observation=rollout(frame),
    action=rollout(output.action),
    reward=numbers,
    discount=numbers,
    extras=jax.tree.map(rollout, dict(output.extras)),
    final_observation=frame,
  )
  return jax.eval_shape(agent.postprocess, state, trajectory)[1]


@pytest.mark.parametrize("name", AGENTS)
def test_the_workload_is_the_agents_own(name):
  config = make_preset("smoke", name)
  agent = make_agent(config.agent, spec_of(config), total_environment_steps=4096)
  work = config.agent.workload(spec_of(config))
  assert work.rollout_length == agent.rollout_length
  for planned, phase in zip(work.phases, agent.phases, strict=True):
    for field in ("name", "source", "epochs", "num_minibatches"):
      assert getattr(planned, field) == getattr(phase, field), (planned.name, field)
  leaves = leaf_specs(abstract_record(config, agent))
  assert leaves == {key: (shape, np.dtype(kind)) for key, (shape, kind) in work.record.items()}


@pytest.mark.parametrize("game", ["catch", "leaper"])
def test_the_spec_is_the_environments_own(game):
  environment = make_environment(game, levels=parse_levels("easy-200"), num_environments=2, seed=0)
  environment.close()
  assert environment_spec(game, num_environments=2) == environment.spec


@pytest.mark.parametrize(("preset", "agent"), EVERY_PRESET)
def test_every_preset_can_be_planned(preset, agent):
  """Presets whose capacity was no multiple of their environments failed at the first rollout."""
  plan = plan_run(make_preset(preset, agent))
  assert plan.updates > 0
  assert plan.environment_steps >= make_preset(preset, agent).training.total_environment_steps
  assert all(item.size > 0 for item in plan.memory)
