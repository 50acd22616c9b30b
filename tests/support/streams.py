"""A stream in memory, and one over HTTP with the emulator as its server."""

import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp.test_utils import TestServer

from atlas.core.errors import FoundryError, RecordsRefused, RecordTooLarge, RequestTooLarge
from atlas.local import foundry as local_foundry
from atlas.outside import foundry
from tests.support.emulated_stream import STREAM, emulate_stream
from tests.support.fakes import at_once


@dataclass
class MemoryStream:
    """A stream that refuses records which contain a word, and everything while it is down."""

    refuses: tuple[bytes, ...] = ()
    bytes_max: int = 10**9
    record_bytes_max: int = 10**9
    down: Exception | None = None
    records: list[bytes] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    async def publish(self, records):
        self.requests.append(len(records))
        if self.down is not None:
            raise self.down
        if sum(map(len, records)) > self.bytes_max:
            raise RequestTooLarge("Foundry answers 413.")
        if max(map(len, records)) > self.record_bytes_max:
            raise RecordTooLarge("Foundry answers 413 RecordTooLarge.")
        if any(word in record for word in self.refuses for record in records):
            raise RecordsRefused("Foundry answers 400 RecordDoesNotMatchStreamSchema.")
        self.records += records


def no_stream(message="Foundry answers 404 StreamNotFound.", **more):
    return FoundryError(message, **more)


@asynccontextmanager
async def open_emulated_stream(folder, rid=STREAM, emit=lambda _: None, seconds=5.0):
    """Yield the emulator and the real client of its stream."""
    emulator = local_foundry.FoundryEmulator(folder)
    emulate_stream(emulator)
    async with TestServer(local_foundry.build_application(emulator)) as server:
        host = str(server.make_url("")).rstrip("/")
        credentials = foundry.Credentials(
            f"{host}/multipass/api/oauth2/token", "local", "local-secret"
        )
        target = foundry.FoundryTarget(host, rid, "master")
        limits = foundry.CallLimits(2, 10_000, seconds)
        async with foundry.open_stream(
            target, credentials, limits, emit, time.monotonic, random.random, at_once
        ) as stream:
            yield emulator, stream
