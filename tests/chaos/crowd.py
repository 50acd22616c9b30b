"""A crowd: so many exports a second, whatever becomes of them, or phones that never rest.

Unlike good clients they do not send again what was turned away.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from tests.chaos.moulds import Mould
from tests.chaos.oracle import Oracle
from tests.chaos.phones import LINES, Sub, everybody
from tests.chaos.sockets import EXPORT, Heard, Sockets

LARGE_LINES = 7_500  # as JSON 5 MB
LARGE_EVERY = 50
REFUSALS = {429, 503}
RATE_HEADERS = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy")


@dataclass(slots=True)
class Tally:
    """What was answered. Times are in seconds; those of acceptance from when it was due."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted: list[tuple[float, float]] = field(default_factory=list)  # when, and after how long
    refused: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)  # by which the sender was late itself
    without_retry_after: int = 0
    without_rate: int = 0  # 429, and its RateLimit headers are not all there

    def count(self, heard: Heard, lag: float) -> None:
        self.statuses[heard.status] += 1
        self.lags.append(lag)
        if heard.status in {200, 202}:
            self.accepted.append((time.perf_counter(), lag + heard.seconds))
        elif heard.status in REFUSALS:
            self.refused.append(heard.seconds)
            self.without_retry_after += not heard.answer.retry_after.isdecimal()
        if heard.status == 429:
            self.without_rate += not all(name in heard.headers for name in RATE_HEADERS)

    def took(self) -> list[float]:
        return [seconds for _, seconds in self.accepted]

    def rate(self, began: float, ended: float) -> float:
        """Accepted a second, between these moments."""
        return sum(began <= at <= ended for at, _ in self.accepted) / (ended - began)

    def others(self) -> dict[int, int]:
        """Statuses that are neither an acceptance nor a refusal for the time being."""
        good = {200, 202, *REFUSALS}
        return {status: count for status, count in self.statuses.items() if status not in good}


def quantile(values: Sequence[float], share: float) -> float:
    """Not a number, of none."""
    return sorted(values)[int(len(values) * share)] if values else float("nan")


@dataclass(slots=True)
class Crowd:
    """Each `large_every`th export is of 5 MB; 0 is none."""

    sockets: Sockets
    tokens: Callable[[str], str]
    oracle: Oracle
    chance: random.Random
    name: str
    sub: Sub = everybody
    large_every: int = LARGE_EVERY
    small: Mould = field(init=False)
    large: Mould = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.small = Mould(self.chance, LINES)
        self.large = Mould(self.chance, LARGE_LINES if self.large_every else 1)

    async def send(self, tally: Tally, due: float) -> Heard:
        """The next one, once."""
        self.sent += 1
        is_large = self.large_every > 0 and self.sent % self.large_every == 0
        mould, name = self.large if is_large else self.small, f"{self.name}-{self.sent}"
        body = mould.body(name)
        token = self.tokens(self.sub(self.sent))
        self.oracle.leaves(name, mould.lines)
        began = time.perf_counter()
        heard = await self.sockets.post(self.sockets.head(EXPORT, token, body), body)
        tally.count(heard, began - due)
        if heard.answer.reply is not None:
            self.oracle.answered(name, heard.answer.reply)
        elif heard.status in REFUSALS:
            self.oracle.given_up.add(name)
        return heard

    async def offer(self, a_second: float, seconds: float) -> Tally:
        """The next is due whether the last was answered or not."""
        tally, began = Tally(), time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(int(a_second * seconds)):
                due = began + number / a_second
                await anyio.sleep(max(0.0, due - time.perf_counter()))
                tasks.start_soon(self.send, tally, due)
        return tally

    async def never_rest(self, phones: int, seconds: float, patience: float) -> Tally:
        """So many at a time, each sending another as soon as it was answered.

        Who was turned away waits for so many seconds; a flood has no patience.
        """
        tally, until = Tally(), time.perf_counter() + seconds

        async def phone() -> None:
            while (now := time.perf_counter()) < until:
                heard = await self.send(tally, now)
                if heard.status not in {200, 202}:
                    await anyio.sleep(patience)

        async with anyio.create_task_group() as tasks:
            for _ in range(phones):
                tasks.start_soon(phone)
        return tally
