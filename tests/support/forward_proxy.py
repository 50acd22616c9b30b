"""A forward proxy: CONNECT for https, an absolute URI for http. Every name is this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class ForwardProxy:
    """`asked` holds each method and target, `logins` each Proxy-Authorization."""

    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, version = head.split("\r\n")[0].split(" ")
            lines = head.split("\r\n")[1:-2]
            for line in lines:
                if line.lower().startswith("proxy-authorization:"):
                    self.logins.append(line.partition(":")[2].strip())
            if method == "CONNECT":
                self.asked.append((method, target))
                far = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                url = urlsplit(target)
                self.asked.append((method, f"{url.scheme}://{url.netloc}"))
                far = await asyncio.open_connection("127.0.0.1", url.port or 80)
                path = url.path + (f"?{url.query}" if url.query else "")
                kept = [line for line in lines if not line.lower().startswith(("proxy-", "conn"))]
                whole = [f"{method} {path} {version}", *kept, "Connection: close", "", ""]
                far[1].write("\r\n".join(whole).encode("latin-1"))
            await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
        writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def forward_proxy() -> AsyncIterator[ForwardProxy]:
    proxy, tasks = ForwardProxy(), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(proxy.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
