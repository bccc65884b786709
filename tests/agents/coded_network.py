"""A linear latent model of one number, whose heads are known in closed form.

It stands in for the network of MuZero and Q-learning: what it says of every frame can be
worked out with a few lines of numpy, so that targets, gradients and searches can be too.
"""

import jax.numpy as jnp
import numpy as np

from agents.model import ModelConfig
from environments.interface import EnvironmentSpec
from losses.categorical_support import CategoricalSupport
from networks.world_model import Prediction, Transition

NUM_ACTIONS = 3
BEST_ACTION = 1  # the one that `penalty` spares
LOW, HIGH = -20.0, 20.0
MODEL = ModelConfig(
  value_support=CategoricalSupport(low=LOW, high=HIGH, num_atoms=2, epsilon=0.0),
  reward_support=CategoricalSupport(low=LOW, high=HIGH, num_atoms=2, epsilon=0.0),
)

# x = encode * code(frame); x' = move x + push a;
# z_value = value x; z_reward = reward x' + echo x - penalty [a != BEST_ACTION];
# policy logits = x * policy.
PARAMS = {
  "encode": 0.1,
  "move": 0.7,
  "push": 0.3,
  "value": 0.02,
  "reward": 0.05,
  "echo": 0.0,
  "penalty": 0.0,
  "policy": (0.3, -0.2, 0.1),
}


def make_params(**changed):
  """`PARAMS` as arrays, some of them changed."""
  return {name: jnp.asarray(x, jnp.float32) for name, x in (PARAMS | changed).items()}


def spec(num_environments=2):
  """Environments whose frames this network reads."""
  return EnvironmentSpec("coded", num_environments, (1, 1, 3), NUM_ACTIONS, 100)


def scalar(z):
  """What the agents must read from two logits (0, z): h^-1 of the mean atom, in float64."""
  y = LOW + (HIGH - LOW) / (1.0 + np.exp(-np.asarray(z, np.float64)))
  return np.sign(y) * ((np.abs(y) + 1.0) ** 2 - 1.0)


def probability_of_high(x):
  """The two-hot target of a scalar on the upper of the two atoms."""
  y = np.sign(x) * (np.sqrt(np.abs(np.asarray(x, np.float64)) + 1.0) - 1.0)
  return (y - LOW) / (HIGH - LOW)


def code(frames):
  """The number that frames `[..., 1, 1, 3]` show."""
  pixels = np.asarray(frames)[..., 0, 0, :].astype(np.float64)
  return pixels[..., 0] + 0.37 * pixels[..., 1] - 40.0


def value_of(frames, params=None):
  """What the value head says of frames `[..., 1, 1, 3]`."""
  params = params or PARAMS
  return scalar(float(params["value"]) * float(params["encode"]) * code(frames))


def action_values_of(frames, *, discount, params=None):
  """Q `[..., A]` of frames `[..., 1, 1, 3]`, worked out from the equations above."""
  p = {name: np.asarray(x, np.float64) for name, x in (params or PARAMS).items()}
  x = p["encode"] * code(frames)
  values = []
  for action in range(NUM_ACTIONS):
    following = p["move"] * x + p["push"] * action
    penalty = p["penalty"] * (action != BEST_ACTION)
    reward = scalar(p["reward"] * following + p["echo"] * x - penalty)
    values.append(reward + discount * scalar(p["value"] * following))
  return np.stack(values, axis=-1)


class CodedNetwork:
  """Answers `init` and `apply` as a WorldModel does; latents are `[B, 1, 1, 1]`."""

  num_actions = NUM_ACTIONS

  def init(self, key, frames, action, *, method):
    """Returns `PARAMS`, whatever the key."""
    del key, frames, action, method
    return make_params()

  def apply(self, params, *args, method):
    """Calls the function of the same name as the world model's `method`."""
    return getattr(self, f"_{method.__name__}")(params, *args)

  def _represent(self, params, frames):
    pixels = frames[:, 0, 0, :].astype(jnp.float32)
    shown = pixels[:, 0] + 0.37 * pixels[:, 1] - 40.0
    return (params["encode"] * shown)[:, None, None, None]

  def _follow(self, params, latent, action):
    latent, action = _each(latent, action)
    following = params["move"] * latent[:, 0, 0, 0] + params["push"] * action
    return following[:, None, None, None]

  def _step(self, params, latent, action):
    latent, action = _each(latent, action)
    following = self._follow(params, latent, action)
    penalty = params["penalty"] * (action != BEST_ACTION)
    z = params["reward"] * following[:, 0, 0, 0] + params["echo"] * latent[:, 0, 0, 0] - penalty
    return Transition(following, _logits(z))

  def _value(self, params, latent):
    return _logits(params["value"] * latent[:, 0, 0, 0])

  def _predict(self, params, latent):
    policy = latent[:, 0, 0, 0][:, None] * params["policy"][None, :]
    return Prediction(policy, self._value(params, latent))


def _each(latent, action):
  """A latent and an action for each step: None stands for every action, in turn."""
  if action is not None:
    return latent, action
  actions = jnp.broadcast_to(jnp.arange(NUM_ACTIONS), (len(latent), NUM_ACTIONS))
  return jnp.repeat(latent, NUM_ACTIONS, axis=0), actions.reshape(-1)


def _logits(z):
  return jnp.stack([jnp.zeros_like(z), z], axis=-1)


def make_record(discount, *, seed=0, starts):
  """A drawn record `[L, N, ...]` of coded frames, with random actions, rewards and policies.

  Args:
    discount: `[L, N]`, 0 where an episode ended.
    seed: of everything random.
    starts: S.
  """
  rng = np.random.default_rng(seed)
  length, width = discount.shape
  frames = np.zeros((length, width, 1, 1, 3), np.uint8)
  frames[..., 0, 0, 0] = rng.integers(0, 100, size=(length, width))
  frames[..., 0, 0, 1] = np.arange(width)[None, :]
  sample = (starts, width)
  return {
    "observation": frames,
    "action": rng.integers(0, NUM_ACTIONS, size=(length, width)).astype(np.int32),
    "reward": rng.normal(size=(length, width)).astype(np.float32),
    "discount": np.asarray(discount, np.float32),
    "search_policy": rng.dirichlet(np.ones(NUM_ACTIONS), size=(length, width)).astype(np.float32),
    "importance_weight": rng.uniform(0.1, 1.0, size=sample).astype(np.float32),
    "age": rng.integers(1, 50, size=sample).astype(np.int32),
    "environment": np.broadcast_to(np.arange(width, dtype=np.int32), sample).copy(),
    "frame_number": rng.integers(0, 50, size=sample).astype(np.int32),
  }
