"""The classes of the actors that the runtime benchmark calls, of pyray and of Ray.

In a module of their own, as a program has them: each actor's process imports it, and would import
how rows are measured, too, if it were in there.
"""

from __future__ import annotations

from collections.abc import Sized


class Server:
    def small_value(self) -> bytes:
        return b"ok"

    def small_value_arg(self, value: object) -> bytes:
        return b"ok"

    def length(self, value: Sized) -> int:
        return len(value)


class AsyncServer:
    async def small_value(self) -> bytes:
        return b"ok"

    async def small_value_with_arg(self, value: object) -> bytes:
        return b"ok"
