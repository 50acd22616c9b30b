"""Load of many clients: a fixed rate whatever the answers, or clients without pauses.

Unlike the well-behaved clients, these do not retry a refused export.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from tests.chaos.clients import LINES, Sub, choose_user
from tests.chaos.export_templates import ExportTemplate
from tests.chaos.oracle import Oracle
from tests.chaos.raw_http import EXPORT, RawHttpClient, TimedResponse

LARGE_LINES = 7_500  # 5 MB as JSON
LARGE_EVERY = 50
REFUSALS = {429, 503}
RATE_HEADERS = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy")


@dataclass(slots=True)
class LoadStats:
    """Answers, with times in seconds; latencies count from the time at which an export was due."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted: list[tuple[float, float]] = field(default_factory=list)  # time and latency
    refused: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)  # delays of the sender itself
    without_retry_after: int = 0
    without_rate: int = 0  # 429 with RateLimit headers missing

    def count(self, response: TimedResponse, lag: float) -> None:
        self.statuses[response.status] += 1
        self.lags.append(lag)
        if response.status in {200, 202}:
            self.accepted.append((time.perf_counter(), lag + response.seconds))
        elif response.status in REFUSALS:
            self.refused.append(response.seconds)
            self.without_retry_after += not response.to_answer.retry_after.isdecimal()
        if response.status == 429:
            self.without_rate += not all(name in response.headers for name in RATE_HEADERS)

    def list_latencies(self) -> list[float]:
        return [seconds for _, seconds in self.accepted]

    def measure_rate(self, began: float, ended: float) -> float:
        """Return the accepted exports per second between these times."""
        return sum(began <= at <= ended for at, _ in self.accepted) / (ended - began)

    def count_unexpected(self) -> dict[int, int]:
        """Count the statuses that are neither an acceptance nor a temporary refusal."""
        good = {200, 202, *REFUSALS}
        return {status: count for status, count in self.statuses.items() if status not in good}


def compute_quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, NaN if there are no values."""
    return sorted(values)[int(len(values) * share)] if values else float("nan")


@dataclass(slots=True)
class LoadGenerator:
    """Sends exports of all users. Each `large_every`th export has 5 MB; 0 means none."""

    sockets: RawHttpClient
    tokens: Callable[[str], str]
    oracle: Oracle
    rng: random.Random
    name: str
    sub: Sub = choose_user
    large_every: int = LARGE_EVERY
    small_template: ExportTemplate = field(init=False)
    large_template: ExportTemplate = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.small_template = ExportTemplate(self.rng, LINES)
        self.large_template = ExportTemplate(self.rng, LARGE_LINES if self.large_every else 1)

    async def send(self, stats: LoadStats, due: float) -> TimedResponse:
        """Send the next export once."""
        self.sent += 1
        is_large = self.large_every > 0 and self.sent % self.large_every == 0
        template, name = (
            self.large_template if is_large else self.small_template,
            f"{self.name}-{self.sent}",
        )
        body = template.render_json(name)
        token = self.tokens(self.sub(self.sent))
        self.oracle.record_sent(name, template.lines)
        began = time.perf_counter()
        response = await self.sockets.post(self.sockets.build_head(EXPORT, token, body), body)
        stats.count(response, began - due)
        if response.to_answer.reply is not None:
            self.oracle.record_answer(name, response.to_answer.reply)
        elif response.status in REFUSALS:
            self.oracle.given_up.add(name)
        return response

    async def run_open_loop(self, a_second: float, seconds: float) -> LoadStats:
        """Send at a fixed rate, without waiting for answers."""
        stats, began = LoadStats(), time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(int(a_second * seconds)):
                due = began + number / a_second
                await anyio.sleep(max(0.0, due - time.perf_counter()))
                tasks.start_soon(self.send, stats, due)
        return stats

    async def run_closed_loop(self, phones: int, seconds: float, patience: float) -> LoadStats:
        """Run `phones` clients, each of which sends its next export as soon as it has an answer.

        A refused client waits `patience` seconds first; a flood has a patience of zero.
        """
        stats, until = LoadStats(), time.perf_counter() + seconds

        async def run_client() -> None:
            while (now := time.perf_counter()) < until:
                response = await self.send(stats, now)
                if response.status not in {200, 202}:
                    await anyio.sleep(patience)

        async with anyio.create_task_group() as tasks:
            for _ in range(phones):
                tasks.start_soon(run_client)
        return stats
