"""The doorkeeper: a token in, its user out."""

from dataclasses import dataclass

from atlas.core.errors import InsufficientScope
from atlas.core.messages import User
from atlas.core.ports import Identities


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Who is there, and may they send exports?

    Raises InsufficientScope, and what Identities does. Without a required scope, none is needed.
    """

    identities: Identities
    required_scope: str = ""

    async def handle(self, token: str, /) -> User:
        user = await self.identities.identify_user(token)
        if self.required_scope and self.required_scope not in user.scopes:
            raise InsufficientScope(self.required_scope)
        return user
