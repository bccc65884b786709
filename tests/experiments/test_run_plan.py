"""The plan of a run against the agents themselves, against real buffers and against real trees."""

import dataclasses

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from agents.interface import ActorOutput
from agents.muzero.config import PUCTSearchConfig
from environments.factory import environment_spec, make_environment
from environments.levels import parse_levels
from experiments.presets import PRESETS, make_preset
from experiments.registry import AGENTS, make_agent
from experiments.run_plan import plan_run
from replay.interface import Trajectory
from replay.plan import leaf_specs
from replay.rollout_queue import RolloutQueue
from replay.sequence_buffer import SequenceBuffer

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


def item(plan, name):
  """Returns the bytes of one item of a plan's memory."""
  (found,) = [each.size for each in plan.memory if each.name == name]
  return found


def small(agent, **settings):
  """Returns a small configuration of an agent that replays, its sequences changed."""
  config = make_preset("smoke", agent)
  sequences = dataclasses.replace(config.agent.sequences, **settings)
  return dataclasses.replace(config, agent=dataclasses.replace(config.agent, sequences=sequences))


def filled(source, config, *, rollouts):
  """Adds rollouts of random frames, as the agent's records are."""
  spec = spec_of(config)
  work = config.agent.workload(spec)
  generator = np.random.default_rng(0)
  for _ in range(rollouts):
    source.add(
      {
        name: generator.integers(
          255, size=(work.rollout_length, spec.num_environments, *shape)
        ).astype(dtype)
        for name, (shape, dtype) in work.record.items()
      }
    )
  return source


@pytest.mark.parametrize("agent", ["muzero", "q_learning"])
@pytest.mark.parametrize(
  "settings",
  [{}, {"priority_exponent": 0.6, "importance_exponent": 0.4}, {"memory_budget": 40 * 2**20}],
  ids=["uniform", "prioritised", "compressed"],
)
def test_replay_bytes_are_those_of_the_buffer(agent, settings):
  config = small(agent, **settings)
  request = config.agent.sequences.request()
  buffer = filled(SequenceBuffer(request, seed=0), config, rollouts=5)  # past min_size
  plan = plan_run(config)
  planned = item(plan, "model: replay, frames") + item(plan, "model: replay, the rest")
  assert buffer.nbytes == planned
  assert plan.replay_raw == 4096 * 12288
  assert (planned < plan.replay_raw) == ("memory_budget" in settings)
  drawn = sum(leaf.nbytes for leaf in buffer.draw().values())
  assert item(plan, "model: drawn batches") == 3 * drawn


def test_queue_bytes_are_those_of_a_group():
  config = make_preset("smoke", "ppg")
  queue = filled(
    RolloutQueue(config.agent.workload(spec_of(config)).phases[-1].source), config, rollouts=4
  )
  group = sum(leaf.nbytes for leaf in queue.draw().values())
  assert item(plan_run(config), "auxiliary: queue") == group


def test_ppgs_published_groups_take_6_4_gb():
  frames = item(plan_run(make_preset("gpu", "ppg")), "auxiliary: queue")
  assert 6.4e9 < frames < 6.7e9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["gumbel", "puct"])
def test_tree_bytes_are_those_of_mctx(monkeypatch, kind, dtype):
  config = make_preset("smoke", "muzero")
  backbone = dataclasses.replace(config.agent.backbone, compute_dtype=dtype)
  search = config.agent.search if kind == "gumbel" else PUCTSearchConfig(num_simulations=3)
  agent = dataclasses.replace(config.agent, backbone=backbone, search=search)
  config = dataclasses.replace(config, agent=agent)
  trees, run = [], mctx.search

  def recorded(*arguments, **named):
    trees.append(run(*arguments, **named))
    return trees[-1]

  monkeypatch.setattr("mctx._src.search.search", recorded)
  built = make_agent(agent, spec_of(config), total_environment_steps=4096)
  state = jax.eval_shape(built.init, jax.random.key(0))
  spec = spec_of(config)
  frames = jax.ShapeDtypeStruct((spec.num_environments, *spec.observation_shape), jnp.uint8)
  jax.eval_shape(built.act, state.params, frames, jax.random.key(0))
  (tree,) = trees
  leaves = jax.tree.leaves(tree)
  assert len(leaves) == (14 if kind == "gumbel" else 13)
  plan = plan_run(config)
  acting = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  assert acting == spec.num_environments * agent.workload(spec).tree_bytes
  # A draw has 8 sequences of S + K = 9 positions, all searched at once; 16 environments act.
  assert item(plan, "search trees") == acting // 16 * (9 * 8)
