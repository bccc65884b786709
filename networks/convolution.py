"""Convolution that XLA:CPU runs fast, its gradients included, inside loops too.

XLA:CPU brings a convolution into the form that its fast kernel takes only where it
stands outside of any loop; the gradients that JAX writes are in another form, and inside
`lax.scan` or `lax.map` they run some thirty times slower. Here the gradients are written
in the fast form. On other platforms everything is JAX's own.
"""

from collections.abc import Sequence
import functools

import jax
from jax import lax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]  # (before, after), rows then columns

_NHWC = ("NHWC", "HWIO", "NHWC")
_FEW_CHANNELS = 4  # of the input: below, XLA:CPU's kernel is slowed by short rows
_BLOCK = 4  # outputs of a row computed at once then


def convolution(
  x: jax.Array,
  kernel: jax.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **options: object,
) -> jax.Array:
  """Two-dimensional convolution, equal to `lax.conv_general_dilated` in values and gradients.

  It has that function's interface so that `flax.linen.Conv` takes it as its
  `conv_general_dilated`, and serves the part that the backbones use.

  Args:
    x: `[B, H, W, C]`.
    kernel: `[k, l, C, D]`.
    window_strides: of rows and columns.
    padding: `SAME`, `VALID`, or zeros (before, after) rows and columns.
    **options: what flax passes on; dilation, groups and another precision than the
      default are not served.

  Returns:
    `[B, h, w, D]`.

  Raises:
    ValueError: `options` asks for something that is not served, or an operand is not
      four-dimensional.
  """
  _check_served(x, kernel, options)
  strides = (int(window_strides[0]), int(window_strides[1]))
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
  pads = tuple((int(before), int(after)) for before, after in padding)
  return _convolution(x, kernel, strides, pads)


def _check_served(x: jax.Array, kernel: jax.Array, options: dict[str, object]) -> None:
  """Raises ValueError for operands or options that `convolution` does not serve."""
  if x.ndim != 4 or kernel.ndim != 4:
    raise ValueError(f"convolution takes 4 axes each, got {x.shape} and {kernel.shape}")
  for name, value in options.items():
    if name in ("lhs_dilation", "rhs_dilation"):
      served = value is None or tuple(value) == (1, 1)
    elif name == "feature_group_count":
      served = value == 1
    elif name == "dimension_numbers":
      numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, value)
      served = numbers == lax.conv_dimension_numbers(x.shape, kernel.shape, _NHWC)
    else:
      served = name == "precision" and value is None
    if not served:
      raise ValueError(f"convolution does not serve {name}={value!r}")


def _plain(x, kernel, strides, padding):
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_NHWC)


def _values(x, kernel, strides, padding):
  width = x.shape[2] + sum(padding[1]) - kernel.shape[1] + 1
  if strides != (1, 1) or x.shape[3] > _FEW_CHANNELS or width % _BLOCK:
    return _plain(x, kernel, strides, padding)
  return lax.platform_dependent(
    x,
    kernel,
    cpu=lambda x, kernel: convolution_by_blocks(x, kernel, padding=padding, block=_BLOCK),
    default=lambda x, kernel: _plain(x, kernel, strides, padding),
  )


def convolution_by_blocks(
  x: jax.Array, kernel: jax.Array, *, padding: Padding, block: int
) -> jax.Array:
  """Convolution with stride 1 that computes neighbours in a row as channels.

  The kernel is widened by zeros and repeated at every position of the block: more
  arithmetic, in larger pieces. Twice as fast for three input channels on a CPU.

  Args:
    x: `[B, H, W, C]`.
    kernel: `[k, l, C, D]`.
    padding: of rows and columns.
    block: how many neighbours; must divide w.

  Returns:
    `[B, h, w, D]`.
  """
  shifted = [jnp.pad(kernel, ((0, 0), (i, block - 1 - i), (0, 0), (0, 0))) for i in range(block)]
  result = _plain(x, jnp.concatenate(shifted, axis=3), (1, block), padding)
  batch, rows, columns, _ = result.shape
  return result.reshape(batch, rows, columns * block, kernel.shape[3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolution(x, kernel, strides, padding):
  return _values(x, kernel, strides, padding)


def _forward(x, kernel, strides, padding):
  return _values(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, residuals, g):
  x, kernel = residuals

  def in_fast_form(x, kernel, g):
    dx = input_gradient(g, kernel, x.shape, strides=strides, padding=padding)
    return dx, kernel_gradient(x, g, kernel.shape, strides=strides, padding=padding)

  def by_jax(x, kernel, g):
    return jax.vjp(lambda x, kernel: _plain(x, kernel, strides, padding), x, kernel)[1](g)

  return lax.platform_dependent(x, kernel, g, cpu=in_fast_form, default=by_jax)


_convolution.defvjp(_forward, _backward)


def input_gradient(
  g: jax.Array,
  kernel: jax.Array,
  x_shape: tuple[int, ...],
  *,
  strides: tuple[int, int],
  padding: Padding,
) -> jax.Array:
  """Gradient with respect to a convolution's input: the transposed convolution.

  Args:
    g: `[B, h, w, D]`, gradient with respect to the output.
    kernel: `[k, l, C, D]`.
    x_shape: `[B, H, W, C]` of the input.
    strides: of the convolution.
    padding: of the convolution.

  Returns:
    `[B, H, W, C]`.
  """
  flipped = lax.rev(kernel, (0, 1)).transpose(0, 1, 3, 2)
  pads = []
  for axis in range(2):
    reach = kernel.shape[axis] - 1
    spread = (g.shape[1 + axis] - 1) * strides[axis] + 1
    before = reach - padding[axis][0]
    pads.append((before, x_shape[1 + axis] + reach - spread - before))
  return lax.conv_general_dilated(
    g, flipped, (1, 1), pads, lhs_dilation=strides, dimension_numbers=_NHWC
  )


def kernel_gradient(
  x: jax.Array,
  g: jax.Array,
  kernel_shape: tuple[int, ...],
  *,
  strides: tuple[int, int],
  padding: Padding,
) -> jax.Array:
  """Gradient with respect to a convolution's kernel.

  A convolution whose batch is the input's channels, whose kernel is the gradient and
  whose summed axis is the batch.

  Args:
    x: `[B, H, W, C]`.
    g: `[B, h, w, D]`, gradient with respect to the output.
    kernel_shape: `[k, l, C, D]`.
    strides: of the convolution.
    padding: of the convolution.

  Returns:
    `[k, l, C, D]`.
  """
  pads = []
  for axis in range(2):
    before = padding[axis][0]
    spread = (g.shape[1 + axis] - 1) * strides[axis] + 1
    pads.append((before, kernel_shape[axis] - 1 + spread - x.shape[1 + axis] - before))
  result = lax.conv_general_dilated(
    x.transpose(3, 1, 2, 0),
    g.transpose(1, 2, 0, 3),
    (1, 1),
    pads,
    rhs_dilation=strides,
    dimension_numbers=_NHWC,
  )
  return result.transpose(1, 2, 0, 3)
