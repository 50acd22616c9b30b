"""The bodies of senders we know are read when there is room for what is made of them."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from atlas.core.errors import UnsupportedMediaType
from atlas.core.messages import User
from atlas.edge.admission import Flight, Held
from atlas.edge.bodies import body
from atlas.edge.waiting import Waiting

T = TypeVar("T")

JSON_WEIGHT = 4  # the body, the base64 in it twice, and what that decodes to
LINES_WEIGHT = 1  # what is made of them is bounded by how many parts are worked at
BEGIN_BYTES = 64 * 1024
HASTE = 32.0  # so many times as fast must a body come while others wait for its room
HELD_SECONDS = 30.0  # ... and so fast that it does not hold what it was promised for longer


@dataclass(frozen=True, slots=True)
class Bodies:
    """`bytes_max` is of JSON, `stream_bytes_max` of lines; both after inflation, too."""

    flow: Waiting
    flight: Flight
    bytes_max: int
    stream_bytes_max: int
    slowest: body.Slowest

    @asynccontextmanager
    async def json(
        self, request: Request, user: User, kind: type[T]
    ) -> AsyncIterator[tuple[T, int]]:
        """A JSON body, and how many bytes it has. It counts for as long as it is used.

        Raises UnsupportedMediaType, TooLarge, TooSlow, Rejected, Unavailable when there is no room.
        """
        if body.media(request) != body.JSON:
            raise UnsupportedMediaType
        with self.flight.body(user.sub, JSON_WEIGHT) as held:
            await self.come(request, held, self.bytes_max)
            yield await body.read(request, kind, self._reading(held, self.bytes_max))

    def lines(self, user: User) -> AbstractContextManager[Held]:
        """Room for a stream: what is not given back in here is at its end."""
        return self.flight.body(user.sub, LINES_WEIGHT)

    async def come(self, request: Request, held: Held, bytes_max: int) -> None:
        """Room before anything is read: for all of it where that is known, else for its begin."""
        length = body.declared(request)
        is_known = length is not None and held.weight == JSON_WEIGHT and not body.encoding(request)
        ahead = BEGIN_BYTES if length is None else length
        if not is_known:
            ahead = min(ahead, BEGIN_BYTES)
        if ahead <= bytes_max:  # or it is refused for that
            with self.flow.deadline():
                await self.flight.reserve(held, ahead)

    def of_lines(self, held: Held) -> body.Reading:
        """On what terms a stream is read."""
        return self._reading(held, self.stream_bytes_max)

    def _reading(self, held: Held, bytes_max: int) -> body.Reading:
        async def room(count: int) -> None:
            with self.flow.deadline():
                await self.flight.take(held, count)

        enough = held.ahead / HELD_SECONDS / self.slowest.bytes_per_second

        def hurry() -> float:
            """Whoever is slow must not be in the way of others."""
            return max(HASTE, enough) if self.flight.is_short else 1.0

        return body.Reading(bytes_max, self.slowest, room, hurry, self.flight.until_closed)
