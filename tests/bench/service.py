"""Exports over HTTP: Atlas against a plain service, with Foundry in another process.

Both in the same layout of three processes: senders, service, stand-ins. Foundry's limit of requests
is off; every answer of it takes as long as is said.
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

from tests.bench import load
from tests.bench.load import Outcome, Senders

OFFER, OFFER_SECONDS, WARM_SECONDS = 340.0, 15.0, 4.0
CONNECTIONS, SECONDS, ROUNDS = 64, 6.0, 3
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
) -> Outcome:
    """What senders meet who do this work, with everything started afresh."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as foundrys,
    ):
        stand_ins = [sys.executable, "-m", "tests.bench.standins", foundrys, str(latency)]
        with process(stand_ins, {}) as addresses:
            foundry, auth0 = addresses.said.split()
            environ = beside(foundry, auth0, folder, interval)
            with process(command, environ | {"ATLAS_CONFIG": str(settings(folder))}) as ready:
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


def settings(folder: str) -> Path:
    path = Path(folder) / "bench.toml"
    no_limit = "uploads_at_once = 396\nrequests_per_minute = 1000000\n"
    path.write_text(f"[foundry]\n{no_limit}", encoding="utf-8")
    return path


def measure() -> list[tuple[str, str, str]]:
    async def offered(senders: Senders) -> Outcome:
        await senders.offer(OFFER, WARM_SECONDS)  # who has just started has no connections yet
        return await senders.offer(OFFER, OFFER_SECONDS)

    async def restless(senders: Senders) -> Outcome:
        return await senders.never_rest(CONNECTIONS, SECONDS)

    several = [outcome(ATLAS, 0.3, 1.0, offered) for _ in range(ROUNDS)]
    atlas = min(several, key=lambda each: (each.failed, each.p99))
    plain = outcome(PLAIN, 0.3, 1.0, offered)
    fastest = {"atlas": 0.0, "plain": 0.0}
    for _ in range(ROUNDS):
        fastest["atlas"] = max(fastest["atlas"], outcome(ATLAS, 0.0, 0.0, restless).rate)
        fastest["plain"] = max(fastest["plain"], outcome(PLAIN, 0.0, 0.0, restless).rate)
    return [
        (
            f"{OFFER:.0f} exports/s of {load.RECORDS} records offered, Foundry at 0.3 s a call",
            "",
            "",
        ),
        ("  plain: answered 200", f"{plain.rate:.1f}/s", ""),
        ("  plain: failed", f"{plain.failed:.1%}", ""),
        ("  Atlas: answered 200", f"{atlas.rate:.1f}/s", ""),
        ("  Atlas: failed", f"{atlas.failed:.1%}", "none"),
        ("  Atlas: p99 from due to answered", f"{atlas.p99:.2f} s", "3 s or less"),
        ("  Atlas: ... of each round", ", ".join(f"{each.p99:.2f}" for each in several), ""),
        (f"{CONNECTIONS} senders that never rest, Foundry at 0 s a call", "", ""),
        ("  plain: answered 200", f"{fastest['plain']:.0f}/s", ""),
        ("  Atlas: answered 200", f"{fastest['atlas']:.0f}/s", ""),
        ("  times as many", f"{fastest['atlas'] / fastest['plain']:.1f}", "3 or more"),
    ]
