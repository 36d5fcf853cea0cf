"""pyarrow: its own reductions, which copy nothing, mended where they carry too much or nothing.

A slice does not drag along the buffers it is a slice of, and tensors, which pyarrow does not
pickle, go as numpy arrays over the same memory. May import pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reducer_for"]


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """The reducer for arrays and tensors of exactly `cls`; None for what pyarrow does well."""
    if issubclass(cls, pa.Array):
        return reduce_array if cls.__reduce__ is _array_reduce(cls) else None
    return _TENSORS.get(cls)


def _array_reduce(cls: type) -> Any:
    """The `__reduce__` that pyarrow's own base class of `cls` has, a subclass's override aside."""
    return next(
        base.__reduce__ for base in cls.__mro__ if base.__module__.partition(".")[0] == "pyarrow"
    )


# -- arrays ------------------------------------------------------------------------------------

# Buffers are trimmed when more than half of what they hold is not the array's.
_SLACK_BYTES = 256


def reduce_array(array: pa.Array) -> Any:
    """pyarrow's reduction of the array, cut out of larger buffers if it is a slice of them."""
    if array.get_total_buffer_size() > 2 * array.nbytes + _SLACK_BYTES:
        array = _trimmed(array)
    return array.__reduce__()


def _trimmed(array: pa.Array) -> pa.Array:
    """The same elements in buffers of their own: in place if the elements are of fixed width."""
    if not pa.types.is_primitive(array.type):
        return pa.concat_arrays([array])
    validity, values = array.buffers()
    # The validity bitmap can be cut only between bytes.
    start = array.offset // 8 * 8
    offset = array.offset - start
    length = offset + len(array)
    width = array.type.bit_width
    if validity is not None:
        validity = validity.slice(start // 8, (length + 7) // 8)
    values = values.slice(start * width // 8, (length * width + 7) // 8)
    return type(array).from_buffers(array.type, len(array), [validity, values], -1, offset)


# -- tensors -----------------------------------------------------------------------------------


def _reduce_tensor(tensor: pa.Tensor) -> Any:
    return pa.Tensor.from_numpy, (tensor.to_numpy(), _names(tensor))


def _reduce_coo(tensor: pa.SparseCOOTensor) -> Any:
    data, coordinates = tensor.to_numpy()
    return type(tensor).from_numpy, (data, coordinates, tuple(tensor.shape), _names(tensor))


def _reduce_compressed(tensor: Any) -> Any:
    data, indptr, indices = tensor.to_numpy()
    return type(tensor).from_numpy, (data, indptr, indices, tuple(tensor.shape), _names(tensor))


def _reduce_csf(tensor: pa.SparseCSFTensor) -> Any:
    data, indptr, indices = tensor.to_numpy()
    args = (data, indptr, indices, tuple(tensor.shape), None, _names(tensor))
    return type(tensor).from_numpy, args


def _names(tensor: Any) -> list[str] | None:
    return list(tensor.dim_names) or None


_TENSORS: dict[type, Callable[[Any], Any]] = {
    pa.Tensor: _reduce_tensor,
    pa.SparseCOOTensor: _reduce_coo,
    pa.SparseCSRMatrix: _reduce_compressed,
    pa.SparseCSCMatrix: _reduce_compressed,
    pa.SparseCSFTensor: _reduce_csf,
}
