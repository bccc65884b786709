"""Max-pooling 3x3 with stride 2 whose gradient is cheap on a CPU.

XLA:CPU runs the gradient of `lax.reduce_window` as a scalar loop, a third of the whole
backward pass of IMPALA's network. Here the forward pass notes where each window's maximum
was, and the gradient is a sum of four masked copies: about ten times faster there.
"""

import jax
from jax import lax
import jax.numpy as jnp

_ROW = 4  # a place in a window is coded _ROW * row + column; row and column are 0, 1 or 2


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
  """Maximum over windows of 3x3 with stride 2, padding SAME.

  Equal to `flax.linen.max_pool(x, (3, 3), (2, 2), "SAME")` in values and gradients: among
  equal entries of a window the gradient goes to the first, row by row.

  Args:
    x: `[B, H, W, C]` of a floating dtype.

  Returns:
    `[B, ceil(H / 2), ceil(W / 2), C]`.
  """
  lowest = jnp.asarray(-jnp.inf, x.dtype)
  return lax.reduce_window(x, lowest, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")


def _forward(x):
  maximum, place = _maximum_and_place(x)
  return maximum, (place, x[:0])


def _backward(residuals, g):
  place, empty = residuals
  height, width = empty.shape[1:3]

  def spread(place, g):
    return _spread(place, g, height=height, width=width)

  def entry_by_entry(place, g):
    # XLA:CPU would compute the sum anew inside every operation that reads it; the result
    # of a loop is computed once.
    return lax.map(lambda entry: spread(entry[0][None], entry[1][None])[0], (place, g))

  return (lax.platform_dependent(place, g, cpu=entry_by_entry, default=spread),)


max_pool.defvjp(_forward, _backward)


def _padding(size: int) -> tuple[int, int]:
  """Zeros before and after `size` entries under padding SAME."""
  return (1, 1) if size % 2 else (0, 1)


def _maximum_and_place(x):
  """Returns every window's maximum and the code of the first place that holds it.

  Both `[B, ceil(H / 2), ceil(W / 2), C]`; places are int8. NaN counts as a maximum.
  """
  batch, height, width, channels = x.shape
  pads = ((0, 0), _padding(height), _padding(width), (0, 0))
  padded = jnp.pad(x, pads, constant_values=-jnp.inf)
  rows, columns = -(-height // 2), -(-width // 2)
  maximum, place = None, None
  for row in range(3):
    for column in range(3):
      last = (batch, row + 2 * rows - 1, column + 2 * columns - 1, channels)
      value = lax.slice(padded, (0, row, column, 0), last, (1, 2, 2, 1))
      if maximum is None:
        maximum, place = value, jnp.zeros(value.shape, jnp.int32)
      else:
        above = (value > maximum) | (value != value)  # second term: NaN
        maximum = jnp.where(above, value, maximum)
        place = jnp.where(above, _ROW * row + column, place)
  return maximum, place.astype(jnp.int8)


def _spread(place, g, *, height: int, width: int):
  """Hands every window's gradient to the place of its maximum.

  Entry (2i + p, 2j + q) of the padded input, p and q being 0 or 1, is place (p, q) of
  window (i, j), (p + 2, q) of window (i - 1, j), (p, q + 2) of window (i, j - 1) and
  (p + 2, q + 2) of window (i - 1, j - 1); what is not below 3 is no place and matches none.

  Args:
    place: `[B, h, w, C]` int8.
    g: `[B, h, w, C]`.
    height: H.
    width: W.

  Returns:
    `[B, H, W, C]`.
  """
  batch, rows, columns, channels = g.shape
  shape = (batch, rows, 2, columns, 2, channels)
  margin = ((0, 0), (1, 0), (1, 0), (0, 0))
  place = jnp.pad(place.astype(jnp.int32), margin, constant_values=-1)
  g = jnp.pad(g, margin)
  p = lax.broadcasted_iota(jnp.int32, shape, 2)
  q = lax.broadcasted_iota(jnp.int32, shape, 4)
  total = jnp.zeros(shape, g.dtype)
  for up in (0, 1):
    for left in (0, 1):

      def window(z, up=up, left=left):
        z = z[:, 1 - up : 1 - up + rows, 1 - left : 1 - left + columns]
        return jnp.broadcast_to(z[:, :, None, :, None, :], shape)

      here = window(place) == _ROW * (p + 2 * up) + q + 2 * left
      total += jnp.where(here, window(g), jnp.zeros((), g.dtype))
  total = total.reshape(batch, 2 * rows, 2 * columns, channels)
  above, before = _padding(height)[0], _padding(width)[0]
  return total[:, above : above + height, before : before + width]
