"""Synthetic phones that send all the time, for `atlas local --demo`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice
from random import Random

import anyio

from atlas.cli.tokens import fetch_token
from atlas.client import LineAccounting, open_client
from atlas.core.errors import CommandError
from atlas.synthetic import generate_lines

PHONES = (
    ("auth0|ada", "iPhone 16"),
    ("auth0|ben", "iPhone 14"),
    ("auth0|chi", "iPhone 15 Pro"),
    ("auth0|chi", "iPad"),
    ("auth0|dara", "iPhone SE"),
)
LIFE_DAYS = 365  # of one synthetic person; a phone sends them in a few hours
PAUSE_SECONDS = 0.5, 4.0  # between two exports of a phone
EXPORT_LINES = 3, 40
BROKEN_LINE_SHARE, EXPIRED_TOKEN_SHARE = 0.1, 0.05  # of exports
BROKEN_LINE = b'{"uuid": "cut off in tran\n'


@dataclass(frozen=True, slots=True)
class DemoPhone:
    """A phone of one user, which sends the samples of a synthetic life, a few at a time."""

    sub: str
    device: str
    rng: Random

    async def send_all_the_time(self, atlas_url: str, auth0_url: str) -> None:
        samples = self.generate_samples()
        while True:
            await anyio.sleep(self.rng.uniform(*PAUSE_SECONDS))
            lines = list(islice(samples, self.rng.randint(*EXPORT_LINES)))
            if self.rng.random() < BROKEN_LINE_SHARE:
                lines.append(BROKEN_LINE)
            if self.rng.random() < EXPIRED_TOKEN_SHARE:
                await self.send(lines, atlas_url, auth0_url, token_seconds=-3600)
            await self.send(lines, atlas_url, auth0_url)

    def generate_samples(self) -> Iterator[bytes]:
        for seed in count(self.rng.getrandbits(48)):
            yield from generate_lines(LIFE_DAYS, seed, datetime.now(UTC))

    async def send(
        self, lines: list[bytes], atlas_url: str, auth0_url: str, token_seconds: int | None = None
    ) -> None:
        """Send an export. If that fails, the operator sees it; the phone goes on."""
        with suppress(CommandError):  # Auth0 issues no token
            token = await fetch_token(auth0_url, self.sub, token_seconds)
            async with open_client(atlas_url, token, self.device) as client:
                await client.send(lines, LineAccounting())


@asynccontextmanager
async def run_demo(atlas_url: str, auth0_url: str, rng: Random) -> AsyncIterator[None]:
    """Let the phones send until the end of the block."""
    async with anyio.create_task_group() as tasks:
        for sub, device in PHONES:
            phone = DemoPhone(sub, device, Random(rng.random()))  # noqa: S311 - no secret
            tasks.start_soon(phone.send_all_the_time, atlas_url, auth0_url)
        yield
        tasks.cancel_scope.cancel()
