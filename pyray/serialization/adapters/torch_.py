"""torch CPU tensors: each storage once, as bytes in place, and every tensor a view of its storage.

Tensors that share memory share it again. torch has no read-only tensors, so a restored tensor must
not be written to in place while it lies in a read-only message: `clone()` it first. May import
torch and numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reducer_for"]


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """The reducer for exact tensors and storages; subclasses have torch's own reduction."""
    if cls is torch.Tensor:
        return reduce_tensor
    if cls is torch.UntypedStorage:
        return reduce_storage
    if cls is torch.storage.TypedStorage:
        return reduce_typed_storage
    return None


def reduce_tensor(tensor: torch.Tensor) -> Any:
    """Storage, dtype and geometry. What is not dense CPU memory is reduced as torch does.

    As in torch a tensor without its graph: one that was computed comes back as a leaf.
    """
    if (
        tensor.layout is not torch.strided
        or tensor.device.type != "cpu"
        or tensor.is_quantized
        or tensor.is_nested
    ):
        return tensor.__reduce_ex__(5)
    args = (
        tensor.untyped_storage(),
        tensor.dtype,
        tensor.storage_offset(),
        tuple(tensor.size()),
        tuple(tensor.stride()),
        tensor.requires_grad,
        tensor.is_conj(),
        tensor.is_neg(),
    )
    attributes = tensor.__dict__
    if attributes:
        return _restore_tensor, args, attributes, None, None, _set_attributes
    return _restore_tensor, args


def _restore_tensor(
    storage: torch.UntypedStorage,
    dtype: torch.dtype,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    conjugate: bool,
    negative: bool,
) -> torch.Tensor:
    tensor = torch.empty(0, dtype=dtype).set_(storage, offset, size, stride)
    if conjugate:
        tensor = torch._conj(tensor)
    if negative:
        tensor = torch._neg_view(tensor)
    if requires_grad:
        tensor = tensor.detach().requires_grad_()
    return tensor


def _set_attributes(tensor: Any, attributes: dict[str, Any]) -> None:
    tensor.__dict__.update(attributes)


def reduce_storage(storage: torch.UntypedStorage) -> Any:
    """The bytes of a CPU storage as an array over the same memory."""
    if storage.device.type != "cpu":
        return storage.__reduce__()
    return _restore_storage, (torch.empty(0, dtype=torch.uint8).set_(storage).numpy(),)


def reduce_typed_storage(storage: Any) -> Any:
    """What quantized tensors still keep their elements in."""
    return _restore_typed_storage, (storage._untyped_storage, storage.dtype)


class _Memory:
    """The memory of an array, offered as writable; torch warns about memory that is not."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": array.shape,
            "data": (address, False),
        }


def _restore_storage(array: np.ndarray[Any, Any]) -> torch.UntypedStorage:
    # An altered message may hand over anything; only this is as long as its shape says.
    if type(array) is not np.ndarray or array.dtype != np.uint8 or not array.flags.c_contiguous:
        raise ValueError("a storage is made of a contiguous array of bytes")
    return torch.from_numpy(np.asarray(_Memory(array))).untyped_storage()


def _restore_typed_storage(storage: torch.UntypedStorage, dtype: torch.dtype) -> Any:
    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)
