"""Ports to the clock, the identity provider and the processor."""

from collections.abc import Callable, Generator
from datetime import datetime
from typing import Protocol, TypeVar, TypeVarTuple, overload

from atlas.core.credentials import Proof
from atlas.core.messages import User

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Clock = Callable[[], datetime]


class Identities(Protocol):
    """The identity provider."""

    async def identify_user(self, token: str, proof: Proof | None = None) -> User:
        """Return the user of a token. `proof` came with it, under the scheme DPoP.

        Raises TokenExpired, InvalidToken (also for a proof), MissingIdentity, AuthUnavailable.
        """

    async def check_ready(self) -> None:
        """Raise AuthUnavailable while no token can be verified."""


class CpuExecutor(Protocol):
    """Runs CPU-bound work: on the event loop, in a thread or in a worker process.

    A call returns or raises what the work does; `bytes` is the size of its input. A generator
    function yields wherever it may pause.
    """

    @overload
    async def __call__(
        self, bytes: int, work: Callable[[*Ts], Generator[None, None, T]], /, *args: *Ts
    ) -> T: ...

    @overload
    async def __call__(self, bytes: int, work: Callable[[*Ts], T], /, *args: *Ts) -> T: ...
