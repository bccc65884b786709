"""The one place where an optimiser is built from its config, for start and resume alike."""

import optax

from agents.config import OptimizerConfig


def make_optimizer(config: OptimizerConfig, *, total_updates: int) -> optax.GradientTransformation:
  """Builds the optimiser that `config` describes.

  Args:
    config: what to build.
    total_updates: optimiser steps in the whole run: what a run's environment steps come to.
      A schedule ends there.

  Returns:
    An optax transformation: gradient norm limit, then Adam, decay and learning rate.
  """
  schedules = {
    "constant": lambda: optax.constant_schedule(config.learning_rate),
    "linear": lambda: optax.linear_schedule(config.learning_rate, 0.0, total_updates),
    "cosine": lambda: optax.cosine_decay_schedule(config.learning_rate, total_updates),
  }
  adam = optax.adamw(
    schedules[config.schedule](), eps=config.adam_epsilon, weight_decay=config.weight_decay
  )
  if config.max_gradient_norm == 0:
    return adam
  return optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), adam)
