"""Identifies the user of a token, and checks that the token may send exports."""

from dataclasses import dataclass

from atlas.core.credentials import RequestCredentials
from atlas.core.errors import InsufficientScope
from atlas.core.messages import User
from atlas.core.ports import Identities


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Stage that turns credentials into their user. An empty `required_scope` allows every user.

    Raises InsufficientScope, and the errors of `Identities`.
    """

    identities: Identities
    required_scope: str = ""

    async def handle(self, credentials: RequestCredentials, /) -> User:
        user = await self.identities.identify_user(credentials.token, credentials.proof)
        if self.required_scope and self.required_scope not in user.scopes:
            raise InsufficientScope(self.required_scope)
        return user
