"""Who asks, and may he come in? Asked before the body is read: a stranger's stays in the socket."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from atlas.core.errors import BoundToken, Draining, Unauthenticated
from atlas.core.messages import User
from atlas.edge.admission import Admission
from atlas.edge.waiting import Waiting
from atlas.runtime import Address


@dataclass(frozen=True, slots=True)
class Senders:
    """The doorkeeper is asked for the user of a token; the rest is ours to know."""

    doorkeeper: Address[str, User]
    flow: Waiting
    admission: Admission
    is_draining: Callable[[], bool]

    async def with_export(self, request: Request) -> User:
        """Whoever wants to bring something, while anything new is taken at all.

        Raises Draining, Overloaded, and what `known` raises.
        """
        if self.is_draining():
            raise Draining
        self.admission.crowd.look(self.admission.flight.waiting)
        return await self.known(request)

    async def known(self, request: Request) -> User:
        """Raises Unauthenticated and its kinds, RateLimited, InsufficientScope, Unavailable."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "dpop":
            raise BoundToken
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated
        with self.flow.deadline():
            user = await self.doorkeeper.ask(token.strip())
        request.scope["user"] = user.sub
        self.admission.rate.count(user.sub)
        return user
