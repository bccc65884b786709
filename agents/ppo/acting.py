"""Acting with an actor-critic: sampled, or the most likely action."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agents.interface import ActorOutput
from losses import policy


def sample(network: nn.Module, params: Any, observation: jax.Array, key: jax.Array) -> ActorOutput:
  """Acts by the policy's probabilities.

  Args:
    network: maps frames to something with `logits` `[B, A]` and `value` `[B]`.
    params: of the network.
    observation: `[B, H, W, C]` uint8.
    key: consumed.

  Returns:
    Actions, with `log_prob` and `value` as extras.
  """
  output = network.apply(params, observation)
  action = jax.random.categorical(key, output.logits).astype(jnp.int32)
  return _report(output, action)


def most_likely(network: nn.Module, params: Any, observation: jax.Array) -> ActorOutput:
  """Takes the most likely action; arguments and results as in `sample`, without a key."""
  output = network.apply(params, observation)
  return _report(output, jnp.argmax(output.logits, axis=-1).astype(jnp.int32))


def _report(output: Any, action: jax.Array) -> ActorOutput:
  log_prob = policy.log_prob(output.logits, action)
  return ActorOutput(action, {"log_prob": log_prob, "value": output.value})
