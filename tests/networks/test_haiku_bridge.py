"""Our networks against the same ones written in Haiku, from the same parameters.

Tolerances, as shares of the largest entry of each compared array: 1e-11 in float64, where
nothing but a different network exceeds it, and 2e-5 in float32, where flax's LayerNorm
takes the variance as E[x^2] - E[x]^2 and Haiku's as E[(x - E[x])^2].
"""

from collections.abc import Callable
import dataclasses
import functools
import subprocess
import sys
import types
from typing import Any, NamedTuple

import flax.linen as nn
import haiku as hk
import haiku_networks as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import config as backbones
from networks import heads
from networks.actor_critic import PHASIC_TRUNKS, SharedActorCritic
from networks.backbones import make_backbone
from networks.config import BackboneConfig, ImpalaConfig, NatureCNNConfig, ResNetConfig
from networks.haiku_bridge import ParameterMismatchError, to_flax, to_haiku
from networks.haiku_names import (
  LAYER_NORM_EPSILON,
  PHASIC_TRUNK_NAMES,
  ActorCriticSizes,
  Names,
  Place,
  WorldModelSizes,
  action_value_names,
  actor_critic_names,
  backbone_names,
  head_names,
  phasic_names,
  planning_names,
  q_network_names,
)
from networks.initialisers import row_normalised_trunk
from networks.q_network import QNetwork
from networks.world_model import WorldModel

TOLERANCES = {"float64": 1e-11, "float32": 2e-5}
FRAME = (18, 13, 3)  # neither square nor a power of two

RESNETS = {
  "one-stem-convolution": ResNetConfig((3,), (2,), (4,), blocks=1),
  "laptop's-stem": ResNetConfig((8, 4), (4, 2), (5, 4), blocks=2),
  "paper's-stem": ResNetConfig((3, 3, 3), (2, 2, 2), (4, 5, 6), blocks=0),
}
IMPALAS = {
  "two-stacks": ImpalaConfig((4, 3), blocks_per_stack=1),
  "one-stack": ImpalaConfig((3,), blocks_per_stack=2),
}
NATURES = {
  "two-convolutions": NatureCNNConfig((4, 3), (2, 1), (4, 5)),
  "three-convolutions": NatureCNNConfig((5, 3, 2), (2, 2, 1), (3, 4, 5)),
}
SIZES = WorldModelSizes(
  observation_shape=FRAME,
  dynamics_blocks=2,
  head_channels=4,
  hidden=6,
  num_actions=4,
  num_value_atoms=5,
  num_reward_atoms=7,
)


class Case(NamedTuple):
  """One network, written twice."""

  names: Names
  haiku: Callable[..., Any]  # (*inputs), within hk.transform
  flax: Callable[..., Any]  # (variables, *inputs)
  inputs: tuple[np.ndarray, ...]


def frames():
  return np.random.default_rng(1).integers(0, 256, (2, *FRAME)).astype(np.uint8)


def haiku_backbone(config: BackboneConfig) -> Callable[[str], hk.Module]:
  """Returns what makes the Haiku backbone of a config, given its name."""
  dtype = jnp.dtype(config.compute_dtype)
  if isinstance(config, ImpalaConfig):
    return lambda name: oracle.ImpalaNetwork(
      config.channels, config.blocks_per_stack, dtype=dtype, name=name
    )
  if isinstance(config, NatureCNNConfig):
    sizes = (config.kernels, config.strides, config.channels)
    return lambda name: oracle.NatureNetwork(*sizes, dtype=dtype, name=name)
  stem = (config.stem_kernels, config.stem_strides, config.stem_channels)
  return lambda name: oracle.ResNetV2(*stem, config.blocks, dtype=dtype, name=name)


def backbone_case(config: BackboneConfig) -> Case:
  return Case(
    names=backbone_names(Place("backbone"), config, frame_channels=FRAME[2]),
    haiku=lambda x: haiku_backbone(config)("backbone")(x),
    flax=make_backbone(config).apply,
    inputs=(frames(),),
  )


def actor_critic_case(config: BackboneConfig) -> Case:
  sizes = {"num_actions": 5, "hidden": 7}
  return Case(
    names=actor_critic_names(config, ActorCriticSizes(FRAME, **sizes)),
    haiku=lambda x: oracle.ActorCritic(haiku_backbone(config), **sizes)(x),
    flax=lambda variables, x: tuple(SharedActorCritic(config, **sizes).apply(variables, x)),
    inputs=(frames(),),
  )


def flax_phasic(config: BackboneConfig, arch: str, **sizes: int) -> nn.Module:
  return PHASIC_TRUNKS[arch](
    config,
    **sizes,
    initialisers=row_normalised_trunk(config),
    head_init=nn.initializers.zeros_init(),
  )


def phasic_case(arch: str, config: BackboneConfig) -> Case:
  sizes = {"num_actions": 5, "hidden": 7}
  network = flax_phasic(config, arch, **sizes)
  return Case(
    names=phasic_names(config, ActorCriticSizes(FRAME, **sizes), trunks=PHASIC_TRUNK_NAMES[arch]),
    haiku=lambda x: oracle.PhasicActorCritic(haiku_backbone(config), **sizes, arch=arch)(x),
    flax=lambda variables, x: tuple(network.apply(variables, x)),
    inputs=(frames(),),
  )


def flax_world_model(config: BackboneConfig, sizes: WorldModelSizes) -> WorldModel:
  return WorldModel(
    backbone=config,
    dynamics_blocks=sizes.dynamics_blocks,
    head_channels=sizes.head_channels,
    hidden=sizes.hidden,
    num_actions=sizes.num_actions,
    num_value_atoms=sizes.num_value_atoms,
    num_reward_atoms=sizes.num_reward_atoms,
  )


def haiku_world_model(config: BackboneConfig, sizes: WorldModelSizes) -> oracle.WorldModel:
  channels = config.latent_shape(sizes.observation_shape)[2]
  return oracle.WorldModel(haiku_backbone(config), sizes, channels=channels)


def planning_case(config: BackboneConfig) -> Case:
  model = flax_world_model(config, SIZES)

  def unroll(module, x, actions):
    latent = module.represent(x)
    outputs = [*module.predict(latent)]
    for action in actions:
      latent, reward = module.step(latent, action)
      outputs += [reward, *module.predict(latent)]
    return (*outputs, latent)

  return Case(
    names=planning_names(config, SIZES),
    haiku=lambda x, actions: haiku_world_model(config, SIZES).plan(x, actions),
    flax=lambda variables, *inputs: model.apply(variables, *inputs, method=unroll),
    inputs=(frames(), np.array([[3, 0]], np.int32)),
  )


def action_value_case(config: BackboneConfig) -> Case:
  model = flax_world_model(config, SIZES)
  return Case(
    names=action_value_names(config, SIZES),
    haiku=lambda x, action: haiku_world_model(config, SIZES).action_value(x, action),
    flax=lambda *inputs: model.apply(*inputs, method=WorldModel.action_value_parts),
    inputs=(frames(), np.array([1, 3], np.int32)),
  )


def direct_value_case(config: BackboneConfig) -> Case:
  """A model step whose value head alone says Q."""
  model = flax_world_model(config, SIZES)
  return Case(
    names=action_value_names(config, SIZES, heads=("value",)),
    haiku=lambda x, action: haiku_world_model(config, SIZES).direct_value(x, action),
    flax=lambda *inputs: model.apply(*inputs, method=WorldModel.value_parts),
    inputs=(frames(), np.array([1, 3], np.int32)),
  )


def q_network_case(config: BackboneConfig, heads: dict[str, int]) -> Case:
  model = QNetwork(config, 7, num_actions=3, num_value_outputs=2, num_reward_outputs=4)

  def outputs(module, x):
    latent = module.represent(x)
    return tuple(getattr(module, head)(latent) for head in heads)

  return Case(
    names=q_network_names(config, ActorCriticSizes(FRAME, 3, 7), heads=heads),
    haiku=lambda x: oracle.QNetwork(haiku_backbone(config), 3, 7, heads)(x),
    flax=lambda variables, x: model.apply(variables, x, method=outputs),
    inputs=(frames(),),
  )


def head_case(head: nn.Module, outputs: int, dtype: str) -> Case:
  def haiku(features):
    logits = hk.Linear(outputs, name="head")(features)
    return logits[:, 0] if isinstance(head, heads.ScalarHead) else logits

  features = np.random.default_rng(2).normal(size=(3, 6)).astype(dtype)
  names = head_names(Place("head"), features=6, outputs=outputs)
  return Case(names=names, haiku=haiku, flax=head.apply, inputs=(features,))


CASES: dict[str, Callable[[str], Case]] = {
  **{
    f"{kind}, {name}": lambda dtype, config=config: backbone_case(in_dtype(config, dtype))
    for kind, configs in (("resnet", RESNETS), ("impala", IMPALAS), ("nature", NATURES))
    for name, config in configs.items()
  },
  **{
    f"{what}, {kind}": lambda dtype, make=make, config=config: make(in_dtype(config, dtype))
    for what, make in (("actor-critic", actor_critic_case), ("planning", planning_case))
    for kind, config in (("resnet", RESNETS["laptop's-stem"]), ("impala", IMPALAS["two-stacks"]))
  },
  **{
    f"phasic, {arch}": lambda dtype, arch=arch: phasic_case(
      arch, in_dtype(IMPALAS["one-stack"], dtype)
    )
    for arch in PHASIC_TRUNKS
  },
  "action values, resnet": lambda dtype: action_value_case(
    in_dtype(RESNETS["one-stem-convolution"], dtype)
  ),
  "direct value, resnet": lambda dtype: direct_value_case(
    in_dtype(RESNETS["one-stem-convolution"], dtype)
  ),
  "q-network, one head": lambda dtype: q_network_case(
    in_dtype(NATURES["three-convolutions"], dtype), {"value": 2}
  ),
  "q-network, two heads": lambda dtype: q_network_case(
    in_dtype(NATURES["two-convolutions"], dtype), {"value": 2, "reward": 4}
  ),
  "policy head": lambda dtype: head_case(heads.PolicyHead(4), 4, dtype),
  "scalar head": lambda dtype: head_case(heads.ScalarHead(), 1, dtype),
  "categorical head": lambda dtype: head_case(heads.CategoricalHead(5), 5, dtype),
}
IN_FLOAT32 = ("resnet, laptop's-stem", "actor-critic, impala", "planning, resnet", "scalar head")


def in_dtype(config: BackboneConfig, dtype: str) -> BackboneConfig:
  return dataclasses.replace(config, compute_dtype=dtype)


@pytest.fixture
def wide(monkeypatch):
  """Float64, also where our networks say float32: in compute dtypes and heads' inputs."""
  monkeypatch.setattr(backbones, "COMPUTE_DTYPES", ("float64",))
  monkeypatch.setattr(heads, "jnp", types.SimpleNamespace(float32=jnp.float64))
  jax.config.update("jax_enable_x64", True)
  yield
  jax.config.update("jax_enable_x64", False)


def haiku_shapes(case: Case) -> Any:
  """The tree that Haiku itself makes; the bridge has no part in it."""
  return jax.eval_shape(hk.transform(case.haiku).init, jax.random.key(0), *case.inputs)


def random_params(case: Case) -> dict[str, dict[str, np.ndarray]]:
  """Float32 parameters of every kind away from zero, for the tree that Haiku makes."""
  generator = np.random.default_rng(3)

  def draw(shape):
    x = generator.normal(size=shape).astype(np.float32)
    if len(shape) == 1:
      return (x * 0.3 + 0.5).astype(np.float32)
    return (x * np.sqrt(1.5 / np.prod(shape[:-1]))).astype(np.float32)

  return jax.tree.map(lambda x: draw(x.shape), haiku_shapes(case))


def outputs_and_gradients(apply, params, inputs):
  """Outputs, and the gradients of their sum with fixed random weights."""

  def loss(params):
    outputs = apply(params, *inputs)
    weights = np.random.default_rng(4)
    total = sum(
      jnp.sum(x * weights.normal(size=x.shape).astype(x.dtype)) for x in jax.tree.leaves(outputs)
    )
    return total, outputs

  compiled = jax.jit(jax.grad(loss, has_aux=True)).lower(params).compile()
  gradients, outputs = compiled(params)
  return jax.device_get((jax.tree.leaves(outputs), gradients))


def assert_close(ours, theirs, dtype):
  assert ours.shape == theirs.shape
  assert ours.dtype == theirs.dtype == dtype
  largest = np.max(np.abs(theirs))
  assert largest > 0
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES[dtype] * largest)


def compare(case: Case, dtype: str) -> None:
  """Checks outputs and every parameter's gradient."""
  params = random_params(case)
  variables = to_flax(params, case.names)
  params, variables = jax.tree.map(lambda x: x.astype(dtype), (params, variables))
  apply = hk.without_apply_rng(hk.transform(case.haiku)).apply
  ours, our_gradients = outputs_and_gradients(case.flax, variables, case.inputs)
  theirs, their_gradients = outputs_and_gradients(apply, params, case.inputs)
  for a, b in zip(ours, theirs, strict=True):
    assert_close(a, b, dtype)
  for each in case.names:
    gradient = our_gradients["params"]
    for step in each.path:
      gradient = gradient[step]
    assert_close(gradient, their_gradients[each.module][each.name], dtype)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("name", CASES)
def test_equal_outputs_and_gradients_in_float64(name):
  compare(CASES[name]("float64"), "float64")


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_equal_outputs_and_gradients_in_float32(name):
  compare(CASES[name]("float32"), "float32")


def test_the_comparison_finds_two_blocks_that_are_exchanged():
  case = CASES["resnet, laptop's-stem"]("float32")

  def exchanged(module):
    a, b = "/~/block_0/", "/~/block_1/"
    return module.replace(a, b) if a in module else module.replace(b, a)

  wrong = tuple(each._replace(module=exchanged(each.module)) for each in case.names)
  with pytest.raises(AssertionError, match="Not equal to tolerance"):
    compare(case._replace(names=wrong), "float32")


def assert_names_fit(names: Names, apply: Callable, init: Callable, inputs: tuple) -> None:
  """Checks a table against the shapes of what each library initialises; computes nothing."""
  key = jax.random.key(0)
  leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(init, key, *inputs)["params"])
  in_flax = {tuple(step.key for step in path): x.shape for path, x in leaves}
  assert {each.path: each.shape for each in names} == in_flax
  tree = jax.eval_shape(hk.transform(apply).init, key, *inputs)
  in_haiku = {(module, n): x.shape for module, xs in tree.items() for n, x in xs.items()}
  assert {(each.module, each.name): each.shape for each in names} == in_haiku
  assert len(in_flax) == len(in_haiku) == len(names)


SHAPE = (64, 64, 3)
PROCGEN_FRAME = jnp.zeros((1, *SHAPE), jnp.uint8)


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_names_of_world_models_are_those_of_both_libraries(name):
  config = backbones.BACKBONES[name]()
  sizes = WorldModelSizes(SHAPE, 1, 16, 128, 15, 201, 151)
  model, inputs = flax_world_model(config, sizes), (PROCGEN_FRAME, jnp.zeros((1,), jnp.int32))

  def plan(x, action):
    return haiku_world_model(config, sizes).plan(x, action[None])

  def take(x, action):
    return haiku_world_model(config, sizes).action_value(x, action)

  for names, apply, method in (
    (planning_names(config, sizes), plan, WorldModel.planning_parts),
    (action_value_names(config, sizes), take, WorldModel.action_value_parts),
  ):
    assert_names_fit(names, apply, functools.partial(model.init, method=method), inputs)


@pytest.mark.parametrize("name", ["laptop", "impala"])
def test_names_of_actor_critics_are_those_of_both_libraries(name):
  config, sizes = backbones.BACKBONES[name](), {"num_actions": 15, "hidden": 256}

  def act(x):
    return oracle.ActorCritic(haiku_backbone(config), **sizes)(x)

  network = SharedActorCritic(config, **sizes)
  names = actor_critic_names(config, ActorCriticSizes(SHAPE, **sizes))
  assert_names_fit(names, act, network.init, (PROCGEN_FRAME,))


@pytest.mark.parametrize("arch", PHASIC_TRUNKS)
def test_names_of_phasic_trunks_are_those_of_both_libraries(arch):
  config, sizes = backbones.impala(), {"num_actions": 15, "hidden": 256}

  def act(x):
    return oracle.PhasicActorCritic(haiku_backbone(config), **sizes, arch=arch)(x)

  names = phasic_names(config, ActorCriticSizes(SHAPE, **sizes), trunks=PHASIC_TRUNK_NAMES[arch])
  assert_names_fit(names, act, flax_phasic(config, arch, **sizes).init, (PROCGEN_FRAME,))


def test_every_phasic_trunk_has_names():
  assert set(PHASIC_TRUNK_NAMES) == set(PHASIC_TRUNKS)


def test_the_actor_critic_has_the_published_number_of_parameters():
  """626,256: Procgen's network (Cobbe et al. 2020) with 15 actions."""
  names = actor_critic_names(backbones.impala(), ActorCriticSizes(SHAPE, 15, 256))
  assert sum(np.prod(each.shape, dtype=int) for each in names) == 626_256


def test_epsilon_is_that_of_our_layer_norms():
  assert LAYER_NORM_EPSILON == nn.LayerNorm().epsilon == oracle.EPSILON


@pytest.mark.parametrize("name", ["planning, resnet", "actor-critic, impala"])
def test_there_and_back_is_exact(name):
  case = CASES[name]("float32")
  params = random_params(case)
  there = to_flax(params, case.names)
  back = to_haiku(there, case.names)
  assert {module: set(xs) for module, xs in back.items()} == {
    m: set(xs) for m, xs in params.items()
  }
  for module, arrays in params.items():
    for key, x in arrays.items():
      assert back[module][key] is x
  again = to_flax(back, case.names)
  assert jax.tree.structure(again) == jax.tree.structure(there)
  assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(there), strict=True))


def small_tree():
  """A scalar head's names, and a tree that fits them."""
  names = head_names(Place("net/~/value_head", ("value",)), features=3, outputs=1)
  weights = np.arange(3, dtype=np.float32)[:, None]
  return names, {"net/~/value_head": {"w": weights, "b": np.ones(1, np.float32)}}


def test_renamed_by_hand():
  names, tree = small_tree()
  head = tree["net/~/value_head"]
  flax_tree = to_flax(tree, names)
  assert flax_tree == {"params": {"value": {"dense": {"kernel": head["w"], "bias": head["b"]}}}}


def test_every_mismatch_of_a_haiku_tree_is_named():
  case = CASES["resnet, one-stem-convolution"]("float32")
  tree = {module: dict(arrays) for module, arrays in random_params(case).items()}
  del tree["backbone/~/block_0/~/layer_norm_1"]
  tree["backbone/~/stem_conv_0"]["w"] = np.zeros((3, 3, 4, 3), np.float32)
  tree["backbone/~/block_0/~/conv_0"]["b"] = np.zeros((4, 1), np.float64)
  tree["backbone/~/block_0/~/conv_1"]["scale"] = np.ones(2, np.int32)
  tree["backbone/~/block_1/~/conv_0"] = {"w": np.zeros((), np.float32)}
  with pytest.raises(ParameterMismatchError) as caught:
    to_flax(tree, case.names)
  problems = (
    "missing: backbone/~/block_0/~/layer_norm_1/scale, float32[4]",
    "missing: backbone/~/block_0/~/layer_norm_1/offset, float32[4]",
    "wrong shape: backbone/~/stem_conv_0/w is [3, 3, 4, 3], must be [3, 3, 3, 4]",
    "wrong shape: backbone/~/block_0/~/conv_0/b is [4, 1], must be [4]",
    "wrong dtype: backbone/~/block_0/~/conv_0/b is float64, must be float32",
    "superfluous: backbone/~/block_0/~/conv_1/scale, int32[2]",
    "superfluous: backbone/~/block_1/~/conv_0/w, float32[]",
  )
  assert sorted(caught.value.problems) == sorted(problems)
  first, *lines = str(caught.value).splitlines()
  assert first == "7 parameters do not fit:"
  assert [line.strip() for line in lines] == list(caught.value.problems)


def test_every_mismatch_of_a_flax_tree_is_named():
  names, tree = small_tree()
  variables = to_flax(tree, names)
  dense = variables["params"]["value"]["dense"]
  dense["kernel"] = dense["kernel"].astype(np.float16)
  dense["scale"] = dense.pop("bias")
  variables["batch_stats"] = {"mean": np.zeros(2)}
  with pytest.raises(ParameterMismatchError) as caught:
    to_haiku(variables, names)
  assert sorted(caught.value.problems) == [
    "missing: params/value/dense/bias, float32[1]",
    "superfluous: batch_stats/mean, float64[2]",
    "superfluous: params/value/dense/scale, float32[1]",
    "wrong dtype: params/value/dense/kernel is float16, must be float32",
  ]


def test_a_tree_without_its_modules_or_its_collection_is_refused():
  names, tree = small_tree()
  for wrong in ({}, tree["net/~/value_head"], to_flax(tree, names)):
    with pytest.raises(ParameterMismatchError, match="missing: net/~/value_head/w"):
      to_flax(wrong, names)
  with pytest.raises(ParameterMismatchError, match="missing: params/value/dense/kernel"):
    to_haiku(to_flax(tree, names)["params"], names)


def test_the_bridge_imports_neither_library():
  heavy = {"jax", "flax", "haiku"}
  code = f"import sys, networks.haiku_bridge; print({heavy!r} & set(sys.modules))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "set()"
