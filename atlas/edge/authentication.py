"""Authenticates requests before their bodies are read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive

from atlas.core.errors import AtlasError, Draining, SenderConstrainedToken, Unauthenticated
from atlas.core.messages import User
from atlas.edge.admission import Admission
from atlas.edge.app import Handler
from atlas.edge.context import RequestContext
from atlas.edge.error_responses import ErrorResponses
from atlas.runtime import Address

UserHandler = Callable[[RequestContext, User, Receive], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class RequestAuthenticator:
    """Authenticates requests via the authenticate stage, and limits the rate of each user."""

    authenticator: Address[str, User]
    admission: Admission
    errors: ErrorResponses
    reply_seconds: float
    is_draining: Callable[[], bool]

    def protect(self, handle: UserHandler) -> Handler:
        """Authenticate and limit the rate before `handle`. Refusal events name the user."""

        async def handle_authenticated(context: RequestContext, receive: Receive) -> Response:
            user = await self.authenticate(context)
            try:
                self.admission.rate_limiter.acquire(user.sub)
                return await handle(context, user, receive)
            except AtlasError as error:
                return self.errors.respond(context, error, user)

        return handle_authenticated

    def protect_upload(self, handle: UserHandler) -> Handler:
        """Protect an upload route, which also refuses requests during a shutdown."""
        protected = self.protect(handle)

        async def handle_admitted(context: RequestContext, receive: Receive) -> Response:
            if self.is_draining():
                raise Draining
            return await protected(context, receive)

        return handle_admitted

    async def authenticate(self, context: RequestContext) -> User:
        """Return the user of the token.

        Raises Unauthenticated, InsufficientScope, Unavailable.
        """
        scheme, _, token = context.authorization.partition(" ")
        scheme, token = scheme.lower(), token.strip()
        if scheme == "dpop":
            raise SenderConstrainedToken
        if scheme != "bearer" or not token:
            raise Unauthenticated
        return await self.authenticator.ask(token, self.reply_seconds)
