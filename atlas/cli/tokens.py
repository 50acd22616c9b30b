"""`atlas token`: who somebody is, as the stand-in of Auth0 attests it."""

from typing import Annotated

import aiohttp
import anyio
import typer

from atlas.cli import emulators
from atlas.core.errors import CommandError

ANSWER_SECONDS = 5.0

SubOption = Annotated[str, typer.Option(help="Whose token.")]
Auth0Option = Annotated[str, typer.Option(metavar="URL", help="The stand-in that gives it.")]


def token(sub: SubOption = emulators.SUB, auth0: Auth0Option = emulators.AUTH0) -> None:
    """A token from the stand-in of Auth0 that `atlas local` runs.

    Example: export ATLAS_TOKEN=$(atlas token --sub 'auth0|ada')
    """
    typer.echo(anyio.run(fetch_token, auth0, sub))


async def fetch_token(auth0_url: str, sub: str) -> str:
    """A token of the stand-in. Raises CommandError when none runs there."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            url = f"{auth0_url.rstrip('/')}/stand-in/tokens"
            async with session.get(url, params={"sub": sub}) as answer:
                return await answer.text()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise CommandError(
            f"No stand-in of Auth0 answers at {auth0_url}: run atlas local."
        ) from error
