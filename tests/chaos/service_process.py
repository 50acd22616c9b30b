"""Controls the service under test: starts, kills, ends, queries and measures it."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.chaos.failpoints import Failpoint
from tests.support.ready_line import read_ready_url

START_SECONDS, END_SECONDS = 30.0, 15.0
Configuration = Mapping[str, Mapping[str, object]]  # section: key: value, as in atlas.toml
FIXED = "="  # begins the text of a clock that stands still
BUGS = re.compile(r'"Stage crashed"|Traceback|Ended by a bug')


class Broken(Exception):
    """The trial cannot continue; the message says why."""


class Skipped(Exception):
    """The trial cannot run on this machine; the message says why."""


class Totals(msgspec.Struct):
    """Numbers of exports by status, as an operator sees them."""

    accepted: int
    committed: int
    set_aside: int


class Listing(msgspec.Struct):
    totals: Totals


@dataclass(slots=True)
class MemoryGrowth:
    """Memory at the beginning, in MiB, and its largest growth since."""

    before: float | None
    grown: float = 0.0

    def update(self, now: float | None) -> None:
        if now is not None and self.before is not None:
            self.grown = max(self.grown, now - self.before)


class ServiceProcess:
    """One journal and one configuration, run by one process after another."""

    def __init__(self, folder: Path, settings: Configuration) -> None:
        self.file = folder / "atlas.toml"
        self.settings = {section: dict(keys) for section, keys in settings.items()}
        self._clock = folder / "clock"
        self._log = folder / "log"
        self.address = f"http://127.0.0.1:{settings['edge']['port']}"
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
        """Change settings from the next start on."""
        self.settings[section] |= keys
        self.file.write_text(to_toml(self.settings), encoding="utf-8")

    def shift_clock(self, seconds: int) -> None:
        """Shift the service's wall clock by this many seconds from now on."""
        self._set_clock(str(seconds))

    def stop_clock(self, at: datetime) -> None:
        """Let the service's wall clock stand still."""
        self._set_clock(FIXED + at.isoformat())

    def _set_clock(self, text: str) -> None:
        other = self._clock.with_suffix(".new")
        other.write_text(text, encoding="utf-8")
        other.replace(self._clock)

    def build_command(self, failpoint: Failpoint | None) -> list[str]:
        point = [failpoint.point, str(failpoint.hits), failpoint.kind.name] if failpoint else []
        command = [sys.executable, "-m", "tests.chaos.service_main"]
        return [*command, str(self.file), str(self._clock), *point]

    async def launch(self, failpoint: Failpoint | None = None) -> None:
        """Start the service without waiting until it is ready."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.build_command(failpoint),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process only
            )

    async def start(self, failpoint: Failpoint | None = None) -> float:
        """Start the service; return the seconds until it was ready."""
        began = time.monotonic()
        await self.launch(failpoint)
        output = self.process.stdout
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                if output is not None and read_ready_url((await output.readline()).decode()):
                    return time.monotonic() - began
        lines = self.read_log().splitlines()
        raise Broken(f"The service does not start: {lines[-1] if lines else 'it says nothing'}")

    async def run_to_exit(self) -> int | None:
        """Start a service that cannot start; return its exit code."""
        await self.launch()
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                return await self.process.wait()
        raise Broken("The service starts all the same.")

    async def kill(self) -> None:
        """Send SIGKILL, at any moment."""
        if self.is_running:
            self.process.kill()
        await self.process.wait()

    async def exits_within(self, seconds: float) -> bool:
        """True if the service ends without a signal within this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self.process.wait() == -signal.SIGKILL
        return False

    def freeze(self) -> None:
        """Send SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Send SIGCONT, which a process that is not frozen ignores."""
        self.process.send_signal(signal.SIGCONT)

    async def freezes_within(self, seconds: float) -> bool:
        """True if the service is frozen within this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.is_frozen():
                    await asyncio.sleep(0.01)
                return True
        return False

    def is_frozen(self) -> bool:
        try:
            status = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] == "T"

    def list_events(self, sentence: str) -> list[dict[str, Any]]:
        """Return the lines of the log with this sentence."""
        lines = [line for line in self.read_log().splitlines() if f'"{sentence}"' in line]
        return [msgspec.json.decode(line) for line in lines]

    async def end(self) -> tuple[int | None, float]:
        """Send SIGTERM; return the exit code (None if it had to be killed) and the seconds."""
        began = time.monotonic()
        self.process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                code = await self.process.wait()
                return code, time.monotonic() - began
        await self.kill()
        return None, time.monotonic() - began

    async def fetch_totals(self, session: aiohttp.ClientSession) -> Totals | None:
        """Return None if the service does not answer."""
        try:
            async with session.get(f"{self.operator}/exports?limit=1") as answer:
                return msgspec.json.decode(await answer.read(), type=Listing).totals
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
            return None

    async def replay(self, session: aiohttp.ClientSession, id: str | None) -> bool:
        """Return True if the service has accepted the replay."""
        path = f"{id}/replay" if id else "replay"
        try:
            async with session.post(f"{self.operator}/exports/{path}") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def measure_memory(self) -> float | None:
        """Return its memory in MiB; None if the system does not report it."""
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
    """Encode as TOML. Numbers, strings and booleans are written as in JSON."""
    lines = []
    for section, keys in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"
