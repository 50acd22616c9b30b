"""`atlas token`: gets a token from the Auth0 emulator."""

from typing import Annotated

import aiohttp
import anyio
import typer

from atlas.cli import emulators
from atlas.core.errors import CommandError

TIMEOUT_SECONDS = 5.0

SubOption = Annotated[str, typer.Option(metavar="TEXT", help="The user.")]
Auth0Option = Annotated[str, typer.Option(metavar="URL", help="The Auth0 emulator.")]


def token(sub: SubOption = emulators.SUB, auth0: Auth0Option = emulators.AUTH0) -> None:
    """Print a token from the Auth0 emulator of `atlas local`.

    Example: export ATLAS_TOKEN=$(atlas token --sub 'auth0|ada')
    """
    typer.echo(anyio.run(fetch_token, auth0, sub))


async def fetch_token(auth0_url: str, sub: str, seconds: int | None = None) -> str:
    """Fetch a token from the Auth0 emulator, valid for `seconds` or a day.

    Raises CommandError if no emulator runs there.
    """
    query = {"sub": sub} if seconds is None else {"sub": sub, "expires_in": str(seconds)}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            url = f"{auth0_url.rstrip('/')}/stand-in/tokens"
            async with session.get(url, params=query) as response:
                return await response.text()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise CommandError(
            f"No Auth0 emulator responds at {auth0_url}: run atlas local."
        ) from error
