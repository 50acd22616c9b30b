"""Authenticates requests before their bodies are read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive

from atlas.core.credentials import Proof, RequestCredentials
from atlas.core.errors import AtlasError, Draining, Unauthenticated
from atlas.core.messages import User
from atlas.edge.admission import Admission
from atlas.edge.app import Handler
from atlas.edge.context import RequestContext
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.used_proofs import UsedProofs
from atlas.runtime import Address

UserHandler = Callable[[RequestContext, User, Receive], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class RequestAuthenticator:
    """Authenticates requests via the authenticate stage, and limits the rate of each user.

    DPoP proofs must name `public_url`, or else the host of the request.
    """

    authenticator: Address[RequestCredentials, User]
    admission: Admission
    errors: ErrorResponses
    reply_seconds: float
    is_draining: Callable[[], bool]
    used_proofs: UsedProofs
    public_url: str = ""

    def protect(self, handle: UserHandler) -> Handler:
        """Authenticate and limit the rate before `handle`. Refusal events name the user."""

        async def handle_authenticated(context: RequestContext, receive: Receive) -> Response:
            credentials = self.read_credentials(context)
            user = await self.authenticator.ask(credentials, self.reply_seconds)
            context.caller.sub = user.sub
            try:
                self.admission.rate_limiter.acquire(user.sub)
                if credentials.proof is not None:
                    receive = self.used_proofs.use(user, context, receive)
                return await handle(context, user, receive)
            except AtlasError as error:
                return self.errors.respond(context, error.detach(), user)

        return handle_authenticated

    def protect_upload(self, handle: UserHandler) -> Handler:
        """Protect an upload route, which also refuses requests during a shutdown."""
        protected = self.protect(handle)

        async def handle_admitted(context: RequestContext, receive: Receive) -> Response:
            if self.is_draining():
                raise Draining
            return await protected(context, receive)

        return handle_admitted

    def read_credentials(self, context: RequestContext) -> RequestCredentials:
        """Return the token, and its proof if it comes with one. Raises Unauthenticated."""
        scheme, _, token = context.authorization.partition(" ")
        scheme, token = scheme.lower(), token.strip()
        if scheme not in {"bearer", "dpop"} or not token:
            raise Unauthenticated
        if scheme == "bearer":
            return RequestCredentials(token)
        path = context.target[2:].partition("/")[2]
        url = f"{self.public_url}/{path}" if self.public_url else context.target
        return RequestCredentials(token, Proof(context.proof, context.method, url))
