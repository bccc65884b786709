"""Targets and gradients of the coded network in slow numpy: step by step, sample by sample."""

from coded_network import (
  BEST_ACTION,
  MODEL,
  NUM_ACTIONS,
  CodedNetwork,
  code,
  probability_of_high,
  spec,
)
import numpy as np
import optax

from agents.sequences import SequenceConfig

STARTS, UNROLL, STEPS = 3, 4, 3  # S, K, n
GAMMA = 0.9
LENGTH = STARTS + UNROLL + STEPS
SETTINGS = {"model": MODEL, "discount": GAMMA}
SEQUENCES = SequenceConfig(
  starts=STARTS,
  unroll_steps=UNROLL,
  bootstrap_steps=STEPS,
  batch_size=4 * STARTS,
  capacity=1000,
  min_size=100,
)


def episode_ends():
  """Discounts `[L, N]`: episodes of every critical length, cut at every phase, one endless."""
  columns = [np.ones(LENGTH)]
  for length in sorted({1, 2, UNROLL - 1, UNROLL, UNROLL + 1, UNROLL + STEPS}):
    for phase in range(length):
      columns.append((np.arange(LENGTH) % length != phase).astype(np.float32))
  return np.stack(columns, axis=1).astype(np.float32)


def coded_agent(monkeypatch, module, make, config):
  """An agent on the coded network that descends with plain steps of size 1."""
  monkeypatch.setattr(module, "make_world_model", lambda *_, **__: CodedNetwork())
  monkeypatch.setattr(module, "make_optimizer", lambda *_, **__: optax.sgd(1.0))
  return getattr(module, make)(config, spec(), total_environment_steps=1000)


def n_step(reward, discount, bootstrap, t, n):
  """The n-step return of one environment from step t, stopped by its episode's end."""
  total, weight = 0.0, 1.0
  for i in range(t, t + n):
    total += weight * reward[i]
    if discount[i] == 0.0:
      return total
    weight *= GAMMA
  return total + weight * bootstrap[t + n]


def targets(record, bootstrap, *, unroll_steps, n):
  """Targets by walking every start's episode.

  Args:
    record: `[L, N, ...]`.
    bootstrap: `[L, N]`.
    unroll_steps: K.
    n: steps before bootstrapping.

  Returns:
    value `[N, K + 1, S]`, reward `[N, K, S]`, inside `[N, K + 1, S]`.
  """
  width = record["reward"].shape[1]
  value = np.zeros((width, unroll_steps + 1, STARTS))
  reward = np.zeros((width, unroll_steps, STARTS))
  inside = np.zeros((width, unroll_steps + 1, STARTS))
  for column in range(width):
    r, g, v = (x[:, column] for x in (record["reward"], record["discount"], bootstrap))
    for start in range(STARTS):
      for k in range(unroll_steps + 1):
        value[column, k, start] = n_step(r, g, v, start + k, n)
        inside[column, k, start] = 1.0
        if k == unroll_steps:
          break
        reward[column, k, start] = r[start + k]
        if g[start + k] == 0.0:
          break
  return value, reward, inside


def gradient(params, batch, *, weights, coefficients):
  """The loss's gradient by the chain rule, with what MuZero multiplies in.

  With x_0 = encode c, x_k = move x_{k-1} + push a_k and g_k the loss's direct derivative by
  x_k through the heads, the gradient that arrives at x_k is G_k = g_k + move / 2 * G_{k+1}:
  it is halved on its way into every model step, and nowhere else.

  Args:
    params: of the coded network, floats.
    batch: a SequenceBatch; without policies for Q-learning.
    weights: `[K + 1]` of the value and policy terms, the last K those of the reward terms.
    coefficients: by name, of policy, value and reward.

  Returns:
    A dictionary as `params`.
  """
  width, unroll_steps, starts = np.shape(batch.action)
  total = {name: np.zeros(np.shape(x)) for name, x in params.items()}
  for column in range(width):
    for s in range(starts):
      sample = np.asarray(batch.importance_weight)[column, s] / (width * starts)
      shown = code(np.asarray(batch.observation)[column, s])
      action = np.asarray(batch.action)[column, :, s]
      x = [params["encode"] * shown]
      for a in action:
        x.append(params["move"] * x[-1] + params["push"] * a)
      direct = np.zeros(unroll_steps + 1)
      for k in range(unroll_steps + 1):
        target = probability_of_high(np.asarray(batch.value)[column, k, s])
        error = _sigmoid(params["value"] * x[k]) - target
        error *= sample * coefficients["value"] * weights[k]
        direct[k] += error * params["value"]
        total["value"] += error * x[k]
        if "policy" in coefficients:
          policy = np.asarray(batch.policy)[column, k, s]
          logits = x[k] * np.asarray(params["policy"])
          error = np.exp(logits) / np.sum(np.exp(logits)) * np.sum(policy) - policy
          error *= sample * coefficients["policy"] * weights[k]
          direct[k] += np.sum(error * np.asarray(params["policy"]))
          total["policy"] += error * x[k]
        if k > 0:
          target = probability_of_high(np.asarray(batch.reward)[column, k - 1, s])
          error = _sigmoid(params["reward"] * x[k]) - target
          error *= sample * coefficients["reward"] * weights[k]
          direct[k] += error * params["reward"]
          total["reward"] += error * x[k]
          total["echo"] += error * x[k - 1]
          total["penalty"] -= error * (action[k - 1] != BEST_ACTION)
      arriving = 0.0
      for k in range(unroll_steps, -1, -1):
        arriving = direct[k] + 0.5 * params["move"] * arriving
        if k == 0:
          total["encode"] += shown * arriving
        else:
          total["move"] += x[k - 1] * arriving
          total["push"] += action[k - 1] * arriving
  return total


def random_targets(batch, rng):
  """A batch with random numbers for everything that the loss reads."""
  changed = {
    name: rng.normal(scale=3.0, size=np.shape(getattr(batch, name))).astype(np.float32)
    for name in ("value", "reward")
  }
  changed["action"] = rng.integers(0, NUM_ACTIONS, size=np.shape(batch.action)).astype(np.int32)
  return batch.replace(**changed)


def _sigmoid(z):
  return 1.0 / (1.0 + np.exp(-z))
