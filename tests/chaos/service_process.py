"""A hand on the service under trial: it is started, killed, ended, asked and measured."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from tests.chaos.failpoints import Failpoint

START_SECONDS, END_SECONDS = 30.0, 15.0
Configuration = Mapping[str, Mapping[str, object]]  # room: key: value, as atlas.toml has them
BUGS = re.compile(r'"Stage crashed"|Traceback|Ended by a bug')


class Broken(Exception):
    """A trial cannot go on; the message says why."""


class Skipped(Exception):
    """A trial cannot be made here; the message says why."""


class Totals(msgspec.Struct):
    """How many exports stand where, as the operator sees them."""

    accepted: int
    committed: int
    set_aside: int


class Listing(msgspec.Struct):
    totals: Totals


@dataclass(slots=True)
class MemoryGrowth:
    """What it held before, in MiB, and by how much that has grown at most."""

    before: float | None
    grown: float = 0.0

    def update(self, now: float | None) -> None:
        if now is not None and self.before is not None:
            self.grown = max(self.grown, now - self.before)


class ServiceProcess:
    """One journal, one configuration, and one process after another."""

    def __init__(self, folder: Path, settings: Configuration) -> None:
        self.file = folder / "atlas.toml"
        self.settings = {section: dict(keys) for section, keys in settings.items()}
        self._clock = folder / "clock"
        self._log = folder / "log"
        self.operator = f"http://{settings['operator']['listen']}"
        self._process: asyncio.subprocess.Process | None = None
        self.configure("journal")
        self.shift_clock(0)

    @property
    def process(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise Broken("The service was never started.")
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def configure(self, section: str, **keys: object) -> None:
        """From the next start on."""
        self.settings[section] |= keys
        self.file.write_text(to_toml(self.settings), encoding="utf-8")

    def shift_clock(self, seconds: int) -> None:
        """From now on its wall clock is wrong by so many seconds."""
        other = self._clock.with_suffix(".new")
        other.write_text(str(seconds), encoding="utf-8")
        other.replace(self._clock)

    def build_command(self, failpoint: Failpoint | None) -> list[str]:
        point = [failpoint.point, str(failpoint.hits)] if failpoint else []
        victim = [sys.executable, "-m", "tests.chaos.service_main"]
        return [*victim, str(self.file), str(self._clock), *point]

    async def launch(self, failpoint: Failpoint | None = None) -> None:
        """Start it, and do not wait for it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.build_command(failpoint),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for whoever proves
            )

    async def start(self, failpoint: Failpoint | None = None) -> float:
        """Start it; the seconds until it was ready."""
        began = time.monotonic()
        await self.launch(failpoint)
        output = self.process.stdout
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                if output is not None and (await output.readline()).startswith(b"ready "):
                    return time.monotonic() - began
        lines = self.read_log().splitlines()
        raise Broken(f"The service does not start: {lines[-1] if lines else 'it says nothing'}")

    async def run_to_exit(self) -> int | None:
        """Start what cannot start: its exit code."""
        await self.launch()
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                return await self.process.wait()
        raise Broken("The service starts all the same.")

    async def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        if self.is_running:
            self.process.kill()
        await self.process.wait()

    async def exits_within(self, seconds: float) -> bool:
        """Whether it ends by its own hand within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self.process.wait() == -signal.SIGKILL
        return False

    async def end(self) -> tuple[int | None, float]:
        """SIGTERM: its exit code, None if it had to be killed, and the seconds that it took."""
        began = time.monotonic()
        self.process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                code = await self.process.wait()
                return code, time.monotonic() - began
        await self.kill()
        return None, time.monotonic() - began

    async def fetch_totals(self, session: aiohttp.ClientSession) -> Totals | None:
        """None if it does not answer."""
        try:
            async with session.get(f"{self.operator}/exports?limit=1") as answer:
                return msgspec.json.decode(await answer.read(), type=Listing).totals
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
            return None

    async def replay(self, session: aiohttp.ClientSession, id: str | None) -> bool:
        """Whether it does."""
        path = f"{id}/replay" if id else "replay"
        try:
            async with session.post(f"{self.operator}/exports/{path}") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def measure_memory(self) -> float | None:
        """What it holds in memory; None where the system does not tell."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return None
        match_ = re.search(r"VmRSS:\s*(\d+) kB", status)
        return int(match_[1]) / 1024 if match_ else None

    def read_log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def count_bugs(self) -> int:
        return len(BUGS.findall(self.read_log()))


def to_toml(settings: Configuration) -> str:
    """Numbers, texts and booleans are written the same in JSON."""
    lines = []
    for section, keys in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"
