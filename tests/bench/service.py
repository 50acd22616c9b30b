"""Exports over HTTP: Atlas against a plain service, with Foundry in another process.

Both in the same layout of three processes: senders, service, stand-ins. The stand-in's limit of
requests is off; every answer of it takes as long as is said. Atlas has the settings that it has for
everybody, but for the commit interval where that is said; senders that never rest need more calls
than Foundry allows in a minute.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from atlas.settings import Foundry
from tests.bench import load
from tests.bench.load import Outcome, Senders

OFFER, OFFER_SECONDS, WARM_SECONDS = 340.0, 15.0, 4.0
CONNECTIONS, SECONDS, ROUNDS = 64, 6.0, 3
BATCH = 6  # exports of one request
INTERVAL, DEFAULT_INTERVAL = 1.0, Foundry().commit_interval_seconds
NO_LIMITS = "[foundry]\nuploads_at_once = 396\nrequests_per_minute = 1000000\n"
ATLAS = [str(Path(sys.executable).with_name("atlas")), "serve"]
MEMORY = Path("/dev/shm")  # Foundry's disk is not ours: only the journal is on a real one
PLAIN = [sys.executable, "-m", "tests.bench.plain"]


@dataclass
class Process:
    """What it said first, where it is, and what it said at its end."""

    pid: int
    said: str
    last_words: str = ""


@contextmanager
def process(
    command: list[str], environ: dict[str, str], log: Path = Path(os.devnull)
) -> Iterator[Process]:
    """A process that tells where it is in its first line."""
    with log.open("wb") as errors:
        running = subprocess.Popen(
            command,
            env=os.environ | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert running.stdout is not None
    assert running.stdin is not None
    found = Process(running.pid, running.stdout.readline().strip())
    try:
        yield found
    finally:
        running.terminate()
        running.stdin.close()
        found.last_words = running.stdout.read()
        running.wait(20)
        running.stdout.close()


def outcome(
    command: list[str],
    latency: float,
    interval: float,
    work: Callable[[Senders], Awaitable[Outcome]],
    settings: str = "",
) -> Outcome:
    """What senders meet who do this work, with everything started afresh.

    `settings` is what stands in `atlas.toml`.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as foundrys,
    ):
        stand_ins = [sys.executable, "-m", "tests.bench.standins", foundrys, str(latency)]
        with process(stand_ins, {}) as addresses:
            foundry, auth0 = addresses.said.split()
            environ = beside(foundry, auth0, folder, interval)
            environ["ATLAS_CONFIG"] = str(write_settings(folder, settings))
            with process(command, environ) as ready:
                url = ready.said.removeprefix("ready ")
                return anyio.run(load.run, url, auth0, work, backend_options={"use_uvloop": True})


def beside(foundry: str, auth0: str, folder: str, interval: float) -> dict[str, str]:
    """The environment of a service between these stand-ins, with its journal in this folder."""
    return {
        "AUTH0_ISSUER": f"{auth0}/",
        "FOUNDRY_HOST": foundry,
        "FOUNDRY_CLIENT_ID": "local",
        "FOUNDRY_CLIENT_SECRET": "local-secret",
        "PORT": "0",
        "ATLAS_OPERATOR_LISTEN": "127.0.0.1:0",
        "ATLAS_JOURNAL": f"sqlite:///{folder}/journal.db",
        "ATLAS_COMMIT_INTERVAL_SECONDS": str(interval),
        "ATLAS_RATE_PER_MINUTE": "0",  # few senders stand for thousands of phones
    }


def write_settings(folder: str, settings: str = NO_LIMITS) -> Path:
    path = Path(folder) / "bench.toml"
    path.write_text(settings, encoding="utf-8")
    return path


async def offered(senders: Senders) -> Outcome:
    await senders.offer(OFFER, WARM_SECONDS)  # who has just started has no connections yet
    return await senders.offer(OFFER, OFFER_SECONDS)


async def offered_in_batches(senders: Senders) -> Outcome:
    await senders.offer_batches(OFFER, WARM_SECONDS, CONNECTIONS, BATCH)
    return await senders.offer_batches(OFFER, OFFER_SECONDS, CONNECTIONS, BATCH)


async def restless(senders: Senders) -> Outcome:
    return await senders.never_rest(CONNECTIONS, SECONDS)


def best_of_rounds(
    interval: float, work: Callable[[Senders], Awaitable[Outcome]]
) -> tuple[Outcome, str]:
    """The best for Atlas, and the p99 of each round."""
    several = [outcome(ATLAS, 0.3, interval, work) for _ in range(ROUNDS)]
    best = min(several, key=lambda each: (each.failed, each.p99))
    return best, ", ".join(f"{each.p99:.2f}" for each in several)


def measure() -> list[tuple[str, str, str]]:
    plain = outcome(PLAIN, 0.3, INTERVAL, offered)
    rows = [
        (
            f"{OFFER:.0f} exports/s of {load.RECORDS} records offered, Foundry at 0.3 s a call",
            "",
            "",
        ),
        ("  plain: answered 200", f"{plain.rate:.1f}/s", ""),
        ("  plain: failed", f"{plain.failed:.1%}", ""),
        *offer_rows("connections as needed", INTERVAL, "3 s or less", offered),
        *offer_rows("connections as needed", DEFAULT_INTERVAL, "8 s or less", offered),
        *offer_rows(
            f"batches of {BATCH} over {CONNECTIONS} connections", INTERVAL, "", offered_in_batches
        ),
    ]
    fastest = {"atlas": 0.0, "plain": 0.0}
    for _ in range(ROUNDS):
        for name, command in (("atlas", ATLAS), ("plain", PLAIN)):
            found = outcome(command, 0.0, 0.0, restless, NO_LIMITS)
            fastest[name] = max(fastest[name], found.rate)
    return [
        *rows,
        (f"{CONNECTIONS} senders that never rest, Foundry at 0 s a call", "", ""),
        ("  plain: answered 200", f"{fastest['plain']:.0f}/s", ""),
        ("  Atlas: answered 200", f"{fastest['atlas']:.0f}/s", ""),
        ("  times as many", f"{fastest['atlas'] / fastest['plain']:.1f}", "3 or more"),
    ]


def offer_rows(
    how: str, interval: float, p99: str, work: Callable[[Senders], Awaitable[Outcome]]
) -> list[tuple[str, str, str]]:
    atlas, rounds = best_of_rounds(interval, work)
    return [
        (f"  Atlas: default settings, a commit every {interval:g} s, {how}", "", ""),
        ("    answered 200", f"{atlas.rate:.1f}/s, {atlas.answered:.1%}", ""),
        ("    failed", f"{atlas.failed:.1%}", "none" if p99 else ""),
        ("    p50 from due to answered", f"{atlas.p50:.2f} s", ""),
        ("    p99 from due to answered", f"{atlas.p99:.2f} s", p99),
        ("    ... of each round", rounds, ""),
    ]
