"""Synthetic phones that send to an `atlas local`, for tests and pictures of the operator page."""

import random
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from threading import Event

import msgspec

from atlas.core.identifiers import API_PREFIX
from tests.conftest import an_export
from tests.support import generator

SECONDS = 30.0
HOST = "127.0.0.1"
USERS = tuple(f"auth0|demo-{number:02}" for number in range(40))
BAD_LINE = b'{"sampleType":\n'  # as of a phone that was cut off
BAD_SHARE, PATIENT_SHARE = 0.03, 0.1
THREADS = 32


@dataclass
class DemoPhones:
    """Phones of forty users, at a fixed rate."""

    port: int  # of `atlas local`; its emulators have the next two
    per_second: float = 20.0
    seed: int = 1
    _stop: Event = field(default_factory=Event)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send in the background, from several threads. Raises at the end if an export failed."""
        with ThreadPoolExecutor(THREADS) as threads:
            phones = threads.submit(self.run, threads)
            try:
                yield
            finally:
                self._stop.set()
            for sent in phones.result():
                sent.result()

    def run(self, threads: ThreadPoolExecutor) -> list[Future[None]]:
        chance = random.Random(self.seed)
        tokens = [self.fetch_token(user) for user in USERS]
        sent: list[Future[None]] = []
        for number in count():
            if self._stop.wait(chance.expovariate(self.per_second)):
                break
            ndjson = generator.export(chance.randint(3, 60), number)
            if chance.random() < BAD_SHARE:
                ndjson += BAD_LINE
            prefer = "wait=5" if chance.random() < PATIENT_SHARE else "respond-async"
            sent.append(threads.submit(self.send, chance.choice(tokens), ndjson, prefer))
        return sent

    def fetch_token(self, user: str) -> str:
        address = f"http://{HOST}:{self.port + 2}/stand-in/tokens?sub={user.replace('|', '%7C')}"
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            return str(answer.read().decode())

    def send(self, token: str, ndjson: bytes, prefer: str) -> None:
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}{API_PREFIX}/export",
            msgspec.json.encode(an_export(ndjson)),
            {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Prefer": prefer,
            },
        )
        urllib.request.urlopen(request, timeout=SECONDS).close()
