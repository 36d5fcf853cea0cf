"""The exceptions of the serializer, one hierarchy that fits under pickle's.

Code that catches `pickle.PicklingError` or `pickle.UnpicklingError` catches these too.
May import only `_pickle`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from pickle import PicklingError, UnpicklingError
else:
    # The C module defines them; importing `pickle` would cost its pure-Python half as well.
    from _pickle import PicklingError, UnpicklingError

__all__ = [
    "DeserializationCallbackError",
    "DeserializationError",
    "PicklingError",
    "SerializationCallbackError",
]


class DeserializationError(UnpicklingError):
    """The message is truncated, altered, of a newer format, or names what is not allowed."""

    __module__ = "pyray"


class SerializationCallbackError(PicklingError):
    """A type registered with a `SerializationContext` could not be serialized.

    `example_object` is the object that was met.
    """

    __module__ = "pyray"

    def __init__(self, message: str, example_object: object = None) -> None:
        super().__init__(message)
        self.example_object = example_object


class DeserializationCallbackError(DeserializationError):
    """The message holds a type id that the reader's `SerializationContext` does not know.

    `type_id` is the id that was met.
    """

    __module__ = "pyray"

    def __init__(self, message: str, type_id: object = None) -> None:
        super().__init__(message)
        self.type_id = type_id

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.type_id)
