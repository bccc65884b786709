"""What is made of a rollout when it arrives: scaled rewards, advantages, value targets."""

import jax
import jax.numpy as jnp

from losses.returns import generalised_advantage
from losses.reward_scaling import RewardScaling, scale_rewards
from replay.interface import Record, Trajectory


def estimate(
  reward_scaling: RewardScaling,
  trajectory: Trajectory,
  final_value: jax.Array,
  *,
  discount: float,
  gae_lambda: float,
  reward_discount: float,
  reward_clip: float,
) -> tuple[RewardScaling, Record]:
  """Scales rewards and estimates advantages (Cobbe et al. 2020; Schulman et al. 2016).

    value target = advantage + value

  Args:
    reward_scaling: running statistics before this rollout.
    trajectory: `[T, B, ...]`, with `log_prob` and `value` as extras.
    final_value: `[B]` of its final observations.
    discount: gamma of the return that is maximised.
    gae_lambda: lambda of generalised advantage estimation.
    reward_discount: gamma of the return whose spread divides the rewards.
    reward_clip: bound of a scaled reward.

  Returns:
    The statistics after this rollout, and a record `[T, B, ...]` with `observation`,
    `action`, `log_prob`, `value`, `advantage` and `value_target`.
  """
  reward_scaling, reward = scale_rewards(
    reward_scaling,
    trajectory.reward,
    trajectory.discount,
    gamma=reward_discount,
    clip=reward_clip,
  )
  value = trajectory.extras["value"]
  advantage = generalised_advantage(
    reward,
    discount * trajectory.discount,
    jnp.concatenate([value, final_value[None]]),
    lambda_=gae_lambda,
  )
  record = {
    "observation": trajectory.observation,
    "action": trajectory.action,
    "log_prob": trajectory.extras["log_prob"],
    "value": value,
    "advantage": advantage,
    "value_target": advantage + value,
  }
  return reward_scaling, record
