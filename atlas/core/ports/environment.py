"""The clock, the processor, and who sends."""

from collections.abc import Callable, Generator
from datetime import datetime
from typing import Protocol, TypeVar, TypeVarTuple, overload

from atlas.core.messages import (
    User,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Clock = Callable[[], datetime]


class Identities(Protocol):
    """Who sends."""

    async def identify_user(self, token: str) -> User:
        """Whose token this is.

        Raises TokenExpired, InvalidToken, MissingIdentity, AuthUnavailable.
        """

    async def check_ready(self) -> None:
        """Raises AuthUnavailable while no token can be checked."""


class CpuExecutor(Protocol):
    """Runs work that only needs the processor: here, in a thread, in another process.

    What the work returns or raises; `bytes` tells how much of it there is. Work in steps yields
    where it may pause.
    """

    @overload
    async def __call__(
        self, bytes: int, work: Callable[[*Ts], Generator[None, None, T]], /, *args: *Ts
    ) -> T: ...

    @overload
    async def __call__(self, bytes: int, work: Callable[[*Ts], T], /, *args: *Ts) -> T: ...
