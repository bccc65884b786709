"""Self-supervised losses in MuZero and Q-learning: switched on, off, aligned, masked, falling."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import OptimizerConfig, SelfSupervisionConfig
from agents.interface import WHOLE
from agents.model import ModelConfig, make_world_model
from agents.muzero.agent import make_muzero
from agents.muzero.config import GumbelSearchConfig, MuZeroConfig
from agents.q_learning.agent import make_q_learning
from agents.q_learning.config import QLearningConfig
from agents.self_supervision import HEADS, add_heads, make_following, self_supervised_losses
from agents.sequences import SequenceConfig
from agents.unrolling import represent
from environments.interface import EnvironmentSpec
from losses.categorical_support import CategoricalSupport
from losses.self_supervision import contrastive_loss, mean_inside, reconstruction_loss, spr_loss
from networks.config import ResNetConfig
from networks.self_supervision import SelfSupervisionHeads
from networks.world_model import WorldModel

S, K, N_STEP, N, A = 2, 3, 2, 4, 3
L = S + K + N_STEP
KEY = jax.random.key(0)
SPEC = EnvironmentSpec("test", N, (8, 8, 3), A, time_limit=100)
SUPPORT = CategoricalSupport(low=-2.0, high=2.0, num_atoms=5)
SHARED = {
  "backbone": ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(4,), blocks=0),
  "model": ModelConfig(
    dynamics_blocks=0, head_channels=2, hidden=8, value_support=SUPPORT, reward_support=SUPPORT
  ),
  "sequences": SequenceConfig(
    starts=S, unroll_steps=K, bootstrap_steps=N_STEP, batch_size=S * N, capacity=1000, min_size=50
  ),
  "target_interval": 1000,
  "optimizer": OptimizerConfig(learning_rate=1e-2, schedule="constant", max_gradient_norm=5.0),
}
ALL_ON = SelfSupervisionConfig(
  reconstruction_coefficient=0.5,
  contrastive_coefficient=0.25,
  spr_coefficient=2.0,
  hidden=8,
  projection_size=5,
)
LOSSES = {"reconstruction", "contrastive", "spr"}
AGENTS = {
  "muzero": lambda ssl: make_muzero(
    MuZeroConfig(
      search=GumbelSearchConfig(num_simulations=2, max_considered_actions=2),
      reanalyse_fraction=0.0,
      self_supervision=ssl,
      **SHARED,
    ),
    SPEC,
    total_environment_steps=10_000,
  ),
  "q_learning": lambda ssl: make_q_learning(
    QLearningConfig(model_steps=K, self_supervision=ssl, **SHARED),
    SPEC,
    total_environment_steps=10_000,
  ),
}


def make_record(seed: int = 0):
  """A drawn record in which episodes end at different places, one of them never."""
  generator = np.random.default_rng(seed)
  discount = np.ones((L, N), np.float32)
  discount[0, 1] = discount[2, 2] = discount[3, 3] = 0
  ones = np.ones((S, N), np.int32)
  return {
    "observation": generator.integers(0, 256, (L, N, 8, 8, 3), np.uint8),
    "action": generator.integers(0, A, (L, N), np.int32),
    "reward": generator.normal(size=(L, N)).astype(np.float32),
    "discount": discount,
    "search_policy": generator.dirichlet(np.ones(A), (L, N)).astype(np.float32),
    "importance_weight": generator.uniform(0.5, 1, (S, N)).astype(np.float32),
    "age": ones,
    "environment": ones,
    "frame_number": ones,
  }


class Case:
  """An agent with some losses on, its state, and a batch of one record."""

  def __init__(self, name: str, config: SelfSupervisionConfig):
    agent = AGENTS[name](config)
    phase = agent.phases[0]
    self.state = jax.jit(agent.init)(KEY)
    self.batch = jax.jit(phase.make_targets)(self.state, make_record(), KEY)
    self.update = jax.jit(phase.update)


@functools.cache
def case(name: str, *, on: bool) -> Case:
  return Case(name, ALL_ON if on else SelfSupervisionConfig())


@functools.cache
def updated(name: str, *, on: bool):
  made = case(name, on=on)
  return made.update(made.state, made.batch, KEY)


@pytest.mark.parametrize("name", AGENTS)
def test_off_leaves_parameters_and_losses_as_they_were(name):
  off, on = case(name, on=False), case(name, on=True)
  assert off.state.params.keys() == {"params"}
  assert on.state.params.keys() == {"params", HEADS}
  jax.tree.map(np.testing.assert_array_equal, off.state.params["params"], on.state.params["params"])
  assert off.batch.following.frames.shape == (N, 0, 8, 8, 3)
  assert off.batch.following.projection.shape[:2] == (N, 0)
  without, metrics = updated(name, on=False)[1], updated(name, on=True)[1]
  assert metrics.keys() - without.keys() == {f"{loss}_loss" for loss in LOSSES}
  for metric in without.keys() - {"loss", "gradient_norm"}:
    np.testing.assert_allclose(metrics[metric], without[metric], rtol=1e-5, atol=1e-6)
  added = sum(c * metrics[f"{loss}_loss"] for loss, c in ALL_ON.coefficients.items())
  np.testing.assert_allclose(metrics["loss"], without["loss"] + added, rtol=1e-5)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_only_what_is_on_has_parameters_and_data(loss):
  config = dataclasses.replace(
    SelfSupervisionConfig(hidden=8, projection_size=5), **{f"{loss}_coefficient": 1.0}
  )
  agent = AGENTS["q_learning"](config)
  state = jax.eval_shape(agent.init, KEY)
  parts = {
    "reconstruction": {"decoder"},
    "contrastive": {"contrastive_projector"},
    "spr": {"spr_projector", "spr_predictor"},
  }
  assert state.params[HEADS].keys() == parts[loss]
  batch = jax.eval_shape(agent.phases[0].make_targets, state, make_record(), KEY)
  assert batch.following.frames.shape[1] == (0 if loss == "spr" else K)
  assert batch.following.projection.shape[1] == (S + K - 1 if loss == "spr" else 0)


@pytest.mark.parametrize("name", AGENTS)
def test_every_loss_falls_on_a_fixed_batch(name):
  made = case(name, on=True)
  first, state = updated(name, on=True)[1], made.state
  for _ in range(60):
    state, metrics = made.update(state, made.batch, KEY)
  fell = {loss: float(metrics[f"{loss}_loss"] / first[f"{loss}_loss"]) for loss in LOSSES}
  assert all(ratio < 0.8 for ratio in fell.values()), fell


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_moves_every_part_but_not_the_target_network(name):
  before, (after, _) = case(name, on=True).state, updated(name, on=True)
  for part in before.params[HEADS]:
    leaves = [tree.params[HEADS][part] for tree in (before, after)]
    moved = jax.tree.map(lambda x, y: bool(np.any(x != y)), *leaves)
    assert any(jax.tree.leaves(moved)), part
  jax.tree.map(np.testing.assert_array_equal, before.target_params, after.target_params)


class Unrolled:
  """A network with every head, latents in the place of unrolled ones, and what came."""

  def __init__(self):
    self.network = make_world_model(SHARED["backbone"], SHARED["model"], num_actions=A)
    self.params, self.target_params = (
      jax.jit(self._init)(KEY),
      jax.jit(self._init)(jax.random.key(1)),
    )
    self.record = make_record(1)
    self.batch = case("muzero", on=True).batch.replace(
      observation=jnp.swapaxes(self.record["observation"][:S], 0, 1),
      following=jax.jit(self.following)(self.target_params),
    )
    self.latent = jax.random.uniform(jax.random.key(2), (K + 1, N * S, 2, 2, 4))
    self.losses = jax.jit(
      lambda params, latent, batch: self_supervised_losses(
        self.network, params, latent, batch, config=ALL_ON, shards=WHOLE
      )
    )

  def _init(self, key):
    frame = jnp.zeros((1, 8, 8, 3), jnp.uint8)
    action = jnp.zeros((1,), jnp.int32)
    params = self.network.init(key, frame, action, method=WorldModel.planning_parts)
    return add_heads(self.network, ALL_ON, params, frame=frame, key=key)

  def following(self, target_params):
    observation = jnp.asarray(self.record["observation"][: S + K])
    latent = represent(self.network, target_params, observation[1:])
    return make_following(
      self.network, ALL_ON, target_params, observation=observation, latent=latent, starts=S
    )


@pytest.fixture(scope="module")
def unrolled():
  return Unrolled()


def came(x):
  """`[S + K, N, ...]` to `[K + 1, N * S, ...]` by counting: after k steps from s, s + k."""
  x = np.asarray(x)
  rows = [[x[s + k, n] for n in range(N) for s in range(S)] for k in range(K + 1)]
  return np.asarray(rows)


def test_losses_compare_with_the_frame_that_came_after_k_steps(unrolled):
  """Against frames gathered by counting and encoded one and all. Start latents are the keys."""
  u = unrolled
  heads = SelfSupervisionHeads(SHARED["backbone"], (8, 8, 3), 8, 5)

  def apply(params, x, method):
    y = heads.apply({"params": params[HEADS]}, x.reshape((-1, 2, 2, 4)), method=method)
    return y.reshape((*x.shape[:2], *y.shape[1:]))

  @jax.jit
  def reference(frames, latent, inside):
    own = represent(u.network, u.params, frames)
    target = represent(u.network, u.target_params, frames)
    project = SelfSupervisionHeads.project_for_contrast
    return {
      "reconstruction": reconstruction_loss(
        apply(u.params, latent, SelfSupervisionHeads.decode), frames, inside
      ),
      "contrastive": contrastive_loss(
        apply(u.params, latent, project)[1:],
        apply(u.params, own, project)[1:],
        inside[1:],
        temperature=ALL_ON.temperature,
      ),
      "spr": spr_loss(
        apply(u.params, latent, SelfSupervisionHeads.predict_for_spr)[1:],
        apply(u.target_params, target, SelfSupervisionHeads.project_for_spr)[1:],
        inside[1:],
      ),
    }

  frames = came(u.record["observation"][: S + K])
  inside = np.asarray(u.batch.inside)  # [N, K + 1, S]
  inside = np.asarray([[inside[n, k, s] for n in range(N) for s in range(S)] for k in range(K + 1)])
  weight = np.asarray([u.batch.importance_weight[n, s] for n in range(N) for s in range(S)])
  encoded = represent(u.network, u.params, frames[:1])
  latent = u.latent.at[0].set(encoded[0])
  losses = u.losses(u.params, latent, u.batch)
  for name, term in reference(frames, latent, inside).items():
    counted = inside[-term.shape[0] :]
    expected = mean_inside(term, counted, weight, count=np.sum(counted))
    np.testing.assert_allclose(losses[name], expected, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_past_the_end_there_is_no_gradient(unrolled, loss):
  u = unrolled
  gradient = jax.jit(jax.grad(lambda x: u.losses(u.params, x, u.batch)[loss]))(u.latent)
  inside = np.moveaxis(np.asarray(u.batch.inside), 0, 1).reshape(K + 1, -1)
  assert np.any(inside == 0)
  touched = np.any(np.asarray(gradient) != 0, axis=(2, 3, 4))
  first = 0 if loss == "reconstruction" else 1
  np.testing.assert_array_equal(touched[first:], inside[first:] > 0)


def test_the_target_network_gets_no_gradient(unrolled):
  u = unrolled

  @jax.jit
  @jax.grad
  def gradient(target_params):
    batch = u.batch.replace(following=u.following(target_params))
    losses = u.losses(u.params, u.latent, batch)
    return sum(losses.values())

  assert not any(np.any(x) for x in jax.tree.leaves(gradient(u.target_params)))


def test_q_learnings_targets_are_the_same_whichever_frames_are_encoded():
  """SPR makes it encode the frames from the first start's next on, not the last n - 1 alone."""
  on, off = case("q_learning", on=True).batch, case("q_learning", on=False).batch
  for field in ("value", "reward", "action", "inside"):
    np.testing.assert_allclose(getattr(on, field), getattr(off, field), rtol=1e-5, atol=1e-6)


def test_both_agents_compare_with_the_same():
  """Of equal records and K; their networks differ, their frames do not."""
  planning, control = case("muzero", on=True).batch, case("q_learning", on=True).batch
  np.testing.assert_array_equal(planning.following.frames, control.following.frames)
  assert planning.following.projection.shape == control.following.projection.shape


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("reconstruction_coefficient", -1.0),
    ("contrastive_coefficient", -0.1),
    ("spr_coefficient", -2.0),
    ("temperature", 0.0),
    ("hidden", 0),
    ("projection_size", 1.5),
  ],
)
def test_wrong_values_are_named(field, value):
  with pytest.raises(ValueError, match=f"agent.self_supervision.{field}"):
    SelfSupervisionConfig(**{field: value})
