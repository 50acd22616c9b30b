"""Auth0 and Foundry in a process of their own: `python -m tests.bench.standins FOLDER LATENCY`.

Prints the two addresses when they can be reached, and ends with its standard input.
"""

import asyncio
import sys
from pathlib import Path

import anyio
from aiohttp import web

from atlas.local import auth0, foundry
from atlas.process import address, bind


async def main(folder: Path, latency_seconds: float) -> None:
    stack = foundry.Foundry(folder)
    stack.switches.latency_seconds = latency_seconds
    tenant = auth0.Auth0("")
    addresses = []
    for app in (foundry.application(stack), auth0.application(tenant)):
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        bound = bind("127.0.0.1", 0)
        await web.SockSite(runner, bound).start()
        addresses.append(address(bound))
    tenant.issuer = f"{addresses[1]}/"
    print(*addresses, flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), float(sys.argv[2]), backend_options={"use_uvloop": True})
