"""A load balancer for replicas on this machine: each request goes to the next ready one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader, TCPConnector, web

HOST = "127.0.0.1"
READY = "/health/ready"
POLL_SECONDS, POLL_SECONDS_MAX = 0.2, 1.0
CONNECT_SECONDS = 5.0
REPEATED_BYTES_MAX = 8 * 1024 * 1024  # of a body that may be sent to another replica, too
UNREACHABLE = "No replica can be reached."
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
FRAMING = HOP_BY_HOP | {"content-length", "expect"}
FAILURES = (ClientError, OSError, TimeoutError)


@dataclass(slots=True)
class LoadBalancer:
    """Forwards requests to replicas, in turn, those first that were ready when last asked.

    A request that fails, or is answered 503, goes to the next replica: exports are idempotent. Each
    uses a new connection, since a replica that ends could close an idle one at the wrong moment.
    """

    replicas: Sequence[str]  # URLs
    session: ClientSession
    ready: set[str] = field(default_factory=set)
    turn: int = 0

    async def watch(self) -> None:
        """Ask all replicas again and again whether they are ready."""
        while True:
            await asyncio.gather(*map(self.check, self.replicas))
            await asyncio.sleep(POLL_SECONDS)

    async def check(self, replica: str) -> None:
        is_ready = False
        with suppress(*FAILURES):
            timeout = ClientTimeout(total=POLL_SECONDS_MAX)
            async with self.session.get(replica + READY, timeout=timeout) as response:
                is_ready = response.status == 200
        (self.ready.add if is_ready else self.ready.discard)(replica)

    def list_candidates(self) -> list[str]:
        """List all replicas, ready ones first, beginning with another one each time."""
        self.turn += 1
        first = self.turn % len(self.replicas)
        rotated = [*self.replicas[first:], *self.replicas[:first]]
        return sorted(rotated, key=lambda replica: replica not in self.ready)

    async def handle(self, request: web.Request) -> web.Response:
        size = request.content_length if request.can_read_body else 0
        is_repeatable = size is not None and size <= REPEATED_BYTES_MAX
        body = await request.content.read() if is_repeatable else request.content
        refusal = web.Response(status=503, text=UNREACHABLE, headers={"Retry-After": "1"})
        for replica in self.list_candidates():
            try:
                response = await self.forward(request, replica, body)
            except FAILURES:
                self.ready.discard(replica)
            else:
                if response.status != 503:
                    return response
                refusal = response
            if not is_repeatable:
                break
        return refusal

    async def forward(
        self, request: web.Request, replica: str, body: bytes | StreamReader
    ) -> web.Response:
        headers = [item for item in request.headers.items() if item[0].lower() not in FRAMING]
        url = replica + request.raw_path
        async with self.session.request(
            request.method, url, data=body or None, headers=headers, allow_redirects=False
        ) as response:
            content = await response.read()
            kept = [item for item in response.headers.items() if item[0].lower() not in FRAMING]
        return web.Response(status=response.status, body=content, headers=kept)


@asynccontextmanager
async def run_balancer(replicas: Sequence[str], port: int = 0) -> AsyncIterator[str]:
    """Run a balancer over these URLs, and yield its own. Raises OSError if the port is taken."""
    connector = TCPConnector(limit=0, force_close=True)
    timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    async with ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as client:
        balancer = LoadBalancer(replicas, client)
        await asyncio.gather(*map(balancer.check, replicas))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", balancer.handle)
        runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=1.0)
        await runner.setup()
        watching = asyncio.create_task(balancer.watch())
        try:
            await web.TCPSite(runner, HOST, port).start()
            yield f"http://{HOST}:{runner.addresses[0][1]}"
        finally:
            watching.cancel()
            await runner.cleanup()
