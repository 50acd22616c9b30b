"""A TCP proxy in front of a PostgreSQL server, for faults of the way to it and of statements.

It reads the messages of clients as far as needed to know where a statement ends: a type and a
length. A prepared statement is two: one is prepared, the other executed.
"""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

HOST = "127.0.0.1"
LENGTH = struct.Struct("!i")
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
NEGOTIATIONS = {80877103, 80877104}  # requests for TLS or GSSAPI, before the real start
UNCOUNTED = b"pXdcf"  # passwords, the end, and COPY
FLUSH = b"H"
ENDS = b"SQ" + FLUSH  # Sync, Query and Flush: what comes before is one step


@dataclass(frozen=True)
class StatementFault:
    """A fault of one statement.

    `at`: its number, from 0; None for the first with the words `text`. `sqlstate`: it fails with
    this one, on the server. Otherwise the connection is reset: after the server has answered it,
    or, with `is_lost`, instead of sending it.
    """

    at: int | None = None
    text: str = ""
    sqlstate: str = ""
    is_lost: bool = False


@dataclass(eq=False)
class Link:
    """A connection of a client, and its connection to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    statements: list[str] = field(default_factory=list)
    prepared: dict[bytes, str] = field(default_factory=dict)
    is_answer_lost: bool = False

    def reset(self) -> None:
        for writer in (self.client, self.server):
            found = writer.get_extra_info("socket")
            with suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()


@dataclass
class PostgresProxy:
    """`flow`: both directions; "none" swallows what arrives, "asks" only the server's answers.

    It holds for connections that name a text of `only`, if there is one. `refusal`: a SQLSTATE for
    everybody who connects, `delay_seconds` how long each of them waits for the server. `statements`
    holds those since `arm`.
    """

    target: int
    port: int = 0
    flow: Literal["both", "none", "asks"] = "both"
    only: str = ""
    refusal: str = ""
    delay_seconds: float = 0.0
    fault: StatementFault | None = None
    statements: list[str] = field(default_factory=list)
    links: set[Link] = field(default_factory=set)
    has_struck: bool = False
    forgotten: set[Link] = field(default_factory=set)

    def forget(self) -> None:
        """Swallow what arrives over the present connections, as a NAT that has forgotten them."""
        self.forgotten |= self.links

    def arm(self, fault: StatementFault | None = None) -> None:
        """Count statements from here on, and let this fault happen once."""
        self.fault, self.has_struck = fault, False
        self.statements.clear()

    def reset(self) -> None:
        """Reset all connections, or those that `only` names."""
        for link in list(self.links):
            if self._is_meant(link):
                link.reset()

    def _is_meant(self, link: Link) -> bool:
        return any(self.only in text for text in link.statements) if self.only else True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusal:
            await refuse(reader, writer, self.refusal)
            return
        try:
            await asyncio.sleep(self.delay_seconds)
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        link = Link(writer, far_writer)
        self.links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forward(reader, link))
                tasks.create_task(self._answer(far_reader, link))
        except* (OSError, asyncio.IncompleteReadError):
            link.reset()
        finally:
            self.links.discard(link)
            for each in (link.client, link.server):
                each.close()

    async def _answer(self, reader: asyncio.StreamReader, link: Link) -> None:
        while chunk := await reader.read(65_536):
            if link.is_answer_lost:
                link.reset()
            elif link not in self.forgotten and (self.flow == "both" or not self._is_meant(link)):
                link.client.write(chunk)
        raise ConnectionResetError

    async def _forward(self, reader: asyncio.StreamReader, link: Link) -> None:
        await self._forward_start(reader, link)
        messages, text = [], ""
        while True:
            kind = await reader.readexactly(1)
            body = await read_body(reader)
            text = name_statement(kind, body, link) or text
            messages.append(kind + LENGTH.pack(len(body) + 4) + body)
            if kind in UNCOUNTED:
                self._send(link, messages)
            elif kind in ENDS:
                link.statements.append(text)
                self._send(link, self._apply_fault(link, text, messages))
                text = ""
            else:
                continue
            messages = []

    async def _forward_start(self, reader: asyncio.StreamReader, link: Link) -> None:
        is_negotiating = True
        while is_negotiating:
            body = await read_body(reader)
            self._send(link, [LENGTH.pack(len(body) + 4) + body])
            is_negotiating = LENGTH.unpack(body[:4])[0] in NEGOTIATIONS

    def _apply_fault(self, link: Link, text: str, messages: list[bytes]) -> list[bytes]:
        """Return the messages that are sent instead."""
        at, fault = len(self.statements), self.fault
        self.statements.append(text)
        if fault is None or self.has_struck:
            return messages
        has_words = re.search(rf"\b{re.escape(fault.text)}\b", text) is not None
        if not has_words if fault.at is None else fault.at != at:
            return messages
        self.has_struck = True
        if fault.sqlstate and messages[-1][:1] == FLUSH:
            # a statement that is only prepared: the client goes on with a Sync, which ends this
            link.client.write(build_error(fault.sqlstate, "ERROR", "injected"))
            return []
        if fault.sqlstate:
            return [build_raise(fault.sqlstate)]
        if fault.is_lost:
            link.reset()
            return []
        link.is_answer_lost = True
        return messages

    def _send(self, link: Link, messages: list[bytes]) -> None:
        if link not in self.forgotten and (self.flow != "none" or not self._is_meant(link)):
            link.server.write(b"".join(messages))


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sqlstate: str) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while LENGTH.unpack((await read_body(reader))[:4])[0] in NEGOTIATIONS:
            writer.write(b"N")
        writer.write(build_error(sqlstate, "FATAL", "refused"))
    writer.close()


async def read_body(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(4))
    return await reader.readexactly(length - 4)


def name_statement(kind: bytes, body: bytes, link: Link) -> str:
    """Return the text of a statement that is sent, prepared or executed."""
    if kind == b"Q":
        return body[:-1].decode()
    if kind == b"P":
        name, text, _ = body.split(b"\0", 2)
        link.prepared[name] = text.decode()
        return f"prepare {text.decode()}"
    if kind == b"B":
        _, name, _ = body.split(b"\0", 2)
        return link.prepared.get(name, "")
    return ""


def build_raise(sqlstate: str) -> bytes:
    """Return a statement that fails, so that the server is in the state that follows."""
    text = f"DO $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{sqlstate}'; END $$\0".encode()
    return b"Q" + LENGTH.pack(len(text) + 4) + text


def build_error(sqlstate: str, severity: str, text: str) -> bytes:
    fields = f"S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0".encode()
    return b"E" + LENGTH.pack(len(fields) + 4) + fields


@asynccontextmanager
async def run_postgres_proxy(target: int) -> AsyncIterator[PostgresProxy]:
    """Run a proxy in front of the server at this port of this machine."""
    proxy, tasks = PostgresProxy(target), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, HOST, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
