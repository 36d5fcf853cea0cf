"""numpy arrays that the codec does not carry itself: the elements go as a plain array, in place.

The codec has a tensor column for exact `numpy.ndarray` of plain dtypes. Here everything else is
made of such an array and a recipe to look at it differently, so no buffer is copied. May import
numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reducer_for"]


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """The reducer for arrays of exactly `cls`; None for scalars, dtypes and everything else.

    A subclass that says how it is pickled (`__reduce__`, `__reduce_ex__`, `__setstate__`) is
    reduced that way: None too.
    """
    if not issubclass(cls, np.ndarray):
        return None
    if cls is np.ndarray:
        return reduce_array
    if cls is np.memmap:
        return reduce_memmap
    base = np.ma.MaskedArray if issubclass(cls, np.ma.MaskedArray) else np.ndarray
    for name in ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__"):
        if getattr(cls, name, None) is not getattr(base, name, None):
            return None
    return reduce_subclass if base is np.ndarray else reduce_masked


# -- exact arrays of dtypes that have no column ------------------------------------------------


def reduce_array(array: np.ndarray[Any, Any]) -> Any:
    """Structured, annotated and user-defined dtypes: the same elements seen as opaque bytes.

    With Python objects inside, numpy's own reduction: it makes an empty array first and hands the
    elements over as state, so that an array may contain itself.
    """
    dtype = array.dtype
    if dtype.hasobject or not dtype.itemsize or dtype.kind == "T":
        return array.__reduce__()
    return _view_as, (array.view(f"V{dtype.itemsize}"), dtype)


def _view_as(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    return array.view(dtype)


# -- subclasses --------------------------------------------------------------------------------


def reduce_memmap(array: np.memmap[Any, Any]) -> Any:
    """The elements, without the file: it comes back as an ordinary array."""
    return _same, (array.view(np.ndarray),)


def _same(value: Any) -> Any:
    return value


def reduce_subclass(array: np.ndarray[Any, Any]) -> Any:
    """A view of the elements by the subclass, and the instance's attributes if it has any."""
    attributes: dict[str, Any] | None = getattr(array, "__dict__", None) or None
    if array.dtype.hasobject:
        elements: Any = array.__reduce__()
        if attributes is None:
            return elements
        func, args, state = elements
        return func, args, (state, attributes), None, None, _set_elements_and_attributes
    rv = _view_as_subclass, (array.view(np.ndarray), type(array))
    return rv if attributes is None else (*rv, attributes, None, None, _set_attributes)


def _view_as_subclass(array: np.ndarray[Any, Any], cls: type) -> np.ndarray[Any, Any]:
    return array.view(type=cls)


def _set_attributes(array: Any, attributes: dict[str, Any]) -> None:
    array.__dict__.update(attributes)


def _set_elements_and_attributes(array: Any, state: tuple[Any, dict[str, Any]]) -> None:
    elements, attributes = state
    array.__setstate__(elements)
    array.__dict__.update(attributes)


# -- masked arrays -----------------------------------------------------------------------------

# What MaskedArray keeps in the instance's dictionary; the rest of it is the user's.
_MASKED_ATTRIBUTES = frozenset(np.ma.MaskedArray(0).__dict__) | {"_mask", "_fill_value"}


def reduce_masked(array: Any) -> Any:
    """Data and mask as two arrays; with objects inside numpy's own reduction, which copies both."""
    if array.dtype.hasobject:
        return array.__reduce__()
    baseclass = array.baseclass
    data = array._data if baseclass is np.ndarray else np.ndarray.view(array, np.ndarray)
    # `mask` is a view made anew at each call; `_mask` is the array that other views share.
    mask = None if array._mask is np.ma.nomask else array._mask
    rv = (
        _restore_masked,
        (type(array), data, mask, array._fill_value, array._hardmask, baseclass),
    )
    own = {k: v for k, v in array.__dict__.items() if k not in _MASKED_ATTRIBUTES}
    return (*rv, own, None, None, _set_attributes) if own else rv


def _restore_masked(
    cls: type, data: Any, mask: Any, fill_value: Any, hard_mask: bool, baseclass: type
) -> Any:
    array = data.view(cls)
    array._baseclass = baseclass
    if mask is not None:
        array._mask = mask
    array._fill_value = fill_value
    array._hardmask = hard_mask
    return array
