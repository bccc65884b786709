"""The controlled claim (DESIGN.md, decision 13): Q-learning is MuZero without planning.

Presets, encoders, drawn windows and value targets are compared; what may differ is listed.
"""

import dataclasses

from coded_network import MODEL, CodedNetwork, make_params, make_record, spec
import jax
import numpy as np
import pytest

import agents.muzero.agent as muzero
from agents.muzero.config import MuZeroConfig
import agents.q_learning.agent as q_learning
from agents.q_learning.config import CategoricalHeadsConfig, QLearningConfig, WorldModelConfig
from agents.sequences import SequenceConfig
from environments.interface import EnvironmentSpec
from experiments.presets import PRESETS, make_preset
from losses import returns
from replay.factory import make_source

# All that may differ between the two agents' settings: planning, and how the other explores.
ONLY_MUZERO = {"search", "search_batch", "reanalyse_fraction", "policy_coefficient"}
ONLY_Q_LEARNING = {"exploration", "model_steps"}
# What leads down to a usual DQN. The control has it as MuZero does.
AS_MUZERO = {
  "network": WorldModelConfig(),
  "heads": CategoricalHeadsConfig(),
  "action_value": "reward_and_value",
}

KEY = jax.random.key(0)
SEQUENCES = SequenceConfig(
  starts=3, unroll_steps=4, bootstrap_steps=3, batch_size=12, capacity=1000, min_size=100
)


def fields(config):
  return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def procgen(config):
  return EnvironmentSpec("leaper", config.environment.num_environments, (64, 64, 3), 15, 500)


def coded_agents(monkeypatch, **settings):
  """Both agents on the linear stub network, with equal settings."""
  settings = {"model": MODEL, "sequences": SEQUENCES, "discount": 0.9} | settings
  for module in (muzero, q_learning):
    monkeypatch.setattr(module, "make_world_model", lambda *_, **__: CodedNetwork())
  return (
    muzero.make_muzero(MuZeroConfig(**settings), spec(), total_environment_steps=1000),
    q_learning.make_q_learning(
      QLearningConfig(**settings, model_steps=SEQUENCES.unroll_steps),
      spec(),
      total_environment_steps=1000,
    ),
  )


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_differ_in_listed_fields_only(preset):
  planning, control = make_preset(preset, "muzero"), make_preset(preset, "q_learning")
  a, b = fields(planning.agent), fields(control.agent)
  assert a.keys() - b.keys() == ONLY_MUZERO
  assert b.keys() - a.keys() == ONLY_Q_LEARNING | AS_MUZERO.keys()
  assert {name: b[name] for name in AS_MUZERO} == AS_MUZERO
  differing = {name for name in a.keys() & b.keys() if a[name] != b[name]}
  assert differing == set()
  assert dataclasses.replace(planning, agent=control.agent) == control


def test_defaults_are_equal_too():
  """A preset that leaves out a field must not make it differ."""
  a, b = fields(MuZeroConfig()), fields(QLearningConfig())
  assert {name for name in a.keys() & b.keys() if a[name] != b[name]} == set()
  assert {name: b[name] for name in AS_MUZERO} == AS_MUZERO


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_trees_differ_by_the_policy_head_only(preset):
  trees = []
  for name, make in (("muzero", muzero.make_muzero), ("q_learning", q_learning.make_q_learning)):
    config = make_preset(preset, name)
    agent = make(config.agent, procgen(config), total_environment_steps=10**6)
    state = jax.eval_shape(agent.init, KEY)
    assert jax.tree.structure(state.params) == jax.tree.structure(state.target_params)
    trees.append(state.params["params"])
  planning, control = trees
  assert planning.keys() - control.keys() == {"policy_features", "policy_head"}
  assert control.keys() <= planning.keys()
  assert "representation" in control
  for name in control:
    flat, other = (jax.tree_util.tree_leaves_with_path(tree[name]) for tree in trees)
    assert [(path, x.shape, x.dtype) for path, x in flat] == [
      (path, x.shape, x.dtype) for path, x in other
    ], name


def test_equal_seeds_give_equal_initial_encoders():
  states = []
  for name, make in (("muzero", muzero.make_muzero), ("q_learning", q_learning.make_q_learning)):
    config = make_preset("smoke", name)
    agent = make(config.agent, procgen(config), total_environment_steps=10**6)
    states.append(jax.jit(agent.init)(KEY).params["params"])
  planning, control = states
  for name in control:
    jax.tree.map(np.testing.assert_array_equal, planning[name], control[name])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_equal_seeds_draw_equal_windows(monkeypatch, alpha):
  sequences = dataclasses.replace(SEQUENCES, priority_exponent=alpha)
  sources = []
  for agent in coded_agents(monkeypatch, sequences=sequences):
    (phase,) = agent.phases
    assert (phase.epochs, phase.num_minibatches) == (1, 1)
    assert (phase.priorities is None) == (alpha == 0.0)
    sources.append((phase.source, make_source(phase.source, seed=7)))
  (request, planning), (other, control) = sources
  assert request == other
  for seed in range(3):
    record = make_record(np.ones((60, 2)), seed=seed, starts=60)
    kept = {name: record[name] for name in ("observation", "action", "reward", "discount")}
    planning.add(kept | {"search_policy": record["search_policy"]})
    control.add(kept)
  assert planning.updates_due() == control.updates_due() > 3
  for _ in range(4):
    a, b = planning.draw(), control.draw()
    assert a.keys() - b.keys() == {"search_policy"}
    for name in b:
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_both_call_the_same_n_step_function(monkeypatch):
  """Q-learning's n-step target is split over two heads: its value head has n - 1 steps."""
  calls = []
  original = returns.n_step_return

  def counted(reward, discount, bootstrap, *, n):
    calls.append(n)
    return original(reward, discount, bootstrap, n=n)

  monkeypatch.setattr(returns, "n_step_return", counted)
  record = make_record(np.ones((SEQUENCES.length, 2)), starts=SEQUENCES.starts)
  for agent in coded_agents(monkeypatch):
    jax.eval_shape(agent.phases[0].make_targets, jax.eval_shape(agent.init, KEY), record, KEY)
  assert calls == [SEQUENCES.bootstrap_steps, SEQUENCES.bootstrap_steps - 1]


def test_equal_bootstraps_give_equal_targets(monkeypatch):
  """Where max_a Q'(o, a) = V'(o), r + gamma V(s, a) is trained to what MuZero's value is.

  The reward of the best action is made to say V'(o), and the value after a model step 0.
  """
  rng = np.random.default_rng(0)
  discount = (rng.uniform(size=(SEQUENCES.length, 40)) > 0.2).astype(np.float32)
  record = make_record(discount, starts=SEQUENCES.starts)
  echoing = make_params(move=0.0, push=0.0, reward=0.0, echo=0.02, penalty=1.0)
  batches = []
  for agent in coded_agents(monkeypatch):
    state = agent.init(KEY).replace(target_params=echoing)
    batches.append(jax.jit(agent.phases[0].make_targets)(state, record, KEY))
  planning, control = batches
  for name in ("observation", "reward", "inside", "importance_weight", "age", "frame_number"):
    np.testing.assert_array_equal(getattr(planning, name), getattr(control, name), err_msg=name)
  # where an episode goes on, both unroll the actions that were taken
  going_on = np.asarray(planning.inside[:, :-1]) > 0
  np.testing.assert_array_equal(
    np.asarray(planning.action)[going_on], np.asarray(control.action)[going_on]
  )
  q_target = np.asarray(control.reward + 0.9 * control.value[:, 1:])
  np.testing.assert_allclose(q_target, planning.value[:, :-1], atol=2e-4)
  assert np.std(q_target) > 0.5
