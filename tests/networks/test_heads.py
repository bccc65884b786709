"""Heads: shapes, dtypes and how they start."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.heads import CategoricalHead, PolicyHead, ScalarHead

HEADS = {
  "policy": (PolicyHead(15), (4, 15)),
  "scalar": (ScalarHead(), (4,)),
  "categorical": (CategoricalHead(21), (4, 21)),
}


def features(dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(0).standard_normal((4, 32)), dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", HEADS)
def test_output_is_float32(name, dtype):
  head, shape = HEADS[name]
  output = head.apply(jax.jit(head.init)(jax.random.key(0), features(dtype)), features(dtype))
  assert output.shape == shape
  assert output.dtype == jnp.float32


def test_default_kernels():
  x = features()
  policy = jax.jit(PolicyHead(15).init)(jax.random.key(0), x)["params"]["dense"]["kernel"]
  np.testing.assert_allclose(policy.T @ policy, 1e-4 * np.eye(15), atol=1e-8)
  scalar = jax.jit(ScalarHead().init)(jax.random.key(0), x)["params"]["dense"]["kernel"]
  np.testing.assert_allclose(np.linalg.norm(scalar), 1, rtol=1e-5)
  categorical = CategoricalHead(21)
  logits = categorical.apply(jax.jit(categorical.init)(jax.random.key(0), x), x)
  np.testing.assert_array_equal(logits, 0)


@pytest.mark.parametrize(
  "make", [lambda i: PolicyHead(3, i), ScalarHead, lambda i: CategoricalHead(3, i)]
)
def test_the_initialiser_is_an_argument(make):
  head = make(nn.initializers.constant(0.5))
  x = features()
  output = head.apply(jax.jit(head.init)(jax.random.key(0), x), x).reshape(4, -1)
  expected = np.broadcast_to(0.5 * np.asarray(x).sum(axis=1, keepdims=True), output.shape)
  np.testing.assert_allclose(output, expected, atol=1e-5)
