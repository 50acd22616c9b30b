"""Atlas in its own process, its surroundings in ours, and a record of all of its output.

It has its own working folder and temporary folder, so that leftovers are found. Secrets come from
the environment, as in production.
"""

import asyncio
import base64
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from atlas.core.identifiers import API_PREFIX
from atlas.local.auth0 import TokenRequest
from atlas.settings import NAMES
from tests.chaos import emulators
from tests.chaos.emulators import HOST, Emulators
from tests.chaos.service_process import to_toml
from tests.chaos.trial_environment import find_free_port
from tests.support.canaries import Canaries, joined
from tests.support.processes import children
from tests.support.ready_line import read_ready_url

SECONDS = 60.0  # longer than anything here takes
KIB = 1024
# Atlas with injected bugs; an uncaught exception ends it as it ends the command
VICTIM = """
import sys
from pathlib import Path
from atlas.cli.main import report_bug
from tests.chaos import service_main
sys.excepthook = report_bug
service_main.main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
"""
CONFIG = {
    "edge": {"body_bytes_max": 300 * KIB, "slow_seconds": 1.0},
    "export": {"bytes_max": 200 * KIB, "workers": 1},
    "foundry": {"call_seconds": 1.0},
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: bytes

    @property
    def body(self) -> Any:
        return msgspec.json.decode(self.text)


@dataclass
class Sandbox:
    """`told` is the output of Atlas, by place."""

    folder: Path
    canaries: Canaries
    emulators: Emulators
    session: aiohttp.ClientSession
    environ: dict[str, str]
    told: dict[str, bytes] = field(default_factory=dict)
    spans: list[bytes] = field(default_factory=list)
    dataset: bytes = b""  # from before anyone was erased
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.environ['PORT']}"

    @property
    def operator(self) -> str:
        return f"http://{self.environ['ATLAS_OPERATOR_LISTEN']}"

    @property
    def journal(self) -> Path:
        return self.folder / "journal" / "journal.db"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def record_output(self, place: str, *texts: bytes | str) -> None:
        self.told[place] = joined(self.told.get(place, b""), *texts)

    def token(self, sub: str | None, **wish: Any) -> str:
        """Return a token with many personal claims; each part of it is a canary."""
        c = self.canaries
        claims = {"email": c["claim.email"], c["claim.key"]: {"deep": [c["claim.deep"]]}}
        claims |= {"scope": c["scope"], "permissions": [c["permission"]]} | wish.pop("claims", {})
        header = {"cty": c["token.header"]} | wish.pop("header", {})
        said = {"sub": sub, "claims": claims, "header": header} | wish
        token = self.emulators.tenant.issue_token(msgspec.convert(said, TokenRequest))
        for name, part in zip(("header", "payload", "signature"), token.split("."), strict=True):
            c.add(f"token.{name} of {sub} {secrets.token_hex(2)}", part)
        return token

    async def start(self, *bug: str) -> None:
        """Start `atlas serve`, optionally with a bug injected, and wait until it is ready."""
        await self.launch(*bug)
        assert self.process is not None
        with anyio.fail_after(SECONDS):
            assert self.process.stdout is not None
            said = await self.process.stdout.readline()
        assert read_ready_url(said.decode()), self.log[-2_000:]

    async def start_unready(self) -> None:
        """Start it, and wait only until it listens."""
        since = len(self.log)
        await self.launch()
        with anyio.fail_after(SECONDS):
            while '"Listening"' not in self.log[since:]:
                await anyio.sleep(0.05)

    async def launch(self, *bug: str) -> None:
        command = ["-m", "atlas", "serve"]
        if bug:
            command = ["-c", VICTIM, str(self.folder / "secret" / "atlas.toml"), *self.clock, *bug]
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, *command),
                cwd=self.folder / "cwd",
                env=self.environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    @property
    def clock(self) -> list[str]:
        (self.folder / "secret" / "clock").write_text("0")
        return [str(self.folder / "secret" / "clock")]

    async def wait_for_exit(self, number: signal.Signals | None = None) -> int:
        """Wait for the end, or cause it with this signal; return the exit code."""
        assert self.process is not None
        if number is not None:
            self.record_output("process list", processes(self.process.pid))
            self.process.send_signal(number)
        with anyio.fail_after(SECONDS):
            out, _ = await self.process.communicate()
        self.record_output("standard output", out)
        return int(self.process.returncode or 0)

    async def atlas(self, *arguments: str, input: str = "", **environ: str) -> str:
        """Run another command and return its output."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atlas", *arguments),
            cwd=self.folder / "cwd",
            env=self.environ | environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        with anyio.fail_after(SECONDS):
            out, _ = await process.communicate(input.encode())
        self.record_output(f"atlas {' '.join(arguments[:2])}", out)
        return out.decode()

    async def send(
        self, method: str, path: str, token: str | None, body: bytes = b"", **headers: str
    ) -> Answer:
        """Send a request to the public listener. Errors and successful responses are kept apart."""
        sent = {"Content-Type": "application/json"}
        sent |= {} if token is None else {"Authorization": f"Bearer {token}"}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        async with self.session.request(method, self.url + path, headers=sent, data=body) as answer:
            found = Answer(answer.status, answer.headers, await answer.read())
        kind = "answers of error" if found.status >= 400 else "answers of success"
        self.record_output(kind, repr(dict(found.headers)), found.text)
        return found

    async def post(
        self, ndjson: bytes, token: str, path: str = "/export", **headers: str
    ) -> Answer:
        """Send one export with a canary in every other field."""
        c = self.canaries
        about = {
            "device": c["request.device"],
            "timestamp": c["request.timestamp"],
            "manifest": {c["manifest.key"]: [c["manifest.value"]]},
            "options": {c["options.key"]: c["options.value"]},
            c["request.key"]: c["request.value"],
        }
        export = {"rawhealthkit": base64.b64encode(ndjson).decode()} | about
        sent = {"chunks": [export, export | {"device": c["chunk.device"]}], "options": {}}
        body = msgspec.json.encode(sent if path.endswith("batch") else export)
        return await self.send("POST", API_PREFIX + path, token, body, **headers)

    async def send_raw(self, request: bytes) -> bytes:
        """Send bytes that no client would send; return the response."""
        answer = b""
        async with await anyio.connect_tcp(HOST, int(self.environ["PORT"])) as stream:
            await stream.send(request)
            with anyio.move_on_after(5):
                async for piece in stream:
                    answer += piece
        self.record_output("answers of error", answer)
        return answer

    async def query_operator(
        self, method: str, path: str, body: object = None, token: str = ""
    ) -> Answer:
        """Send a request to the operator listener."""
        token = token or self.environ["ATLAS_OPERATOR_TOKEN"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        text = b"" if body is None else msgspec.json.encode(body)
        url = self.operator + path
        async with self.session.request(method, url, headers=headers, data=text) as answer:
            if path == "/status/stream":
                found = Answer(
                    answer.status, answer.headers, await answer.content.readuntil(b"\n\n")
                )
            else:
                found = Answer(answer.status, answer.headers, await answer.read())
        self.record_output(
            f"operator {path.partition('?')[0]}", repr(dict(found.headers)), found.text
        )
        return found

    async def wait_for_counts(self, **totals: int) -> None:
        """Return once at least so many exports have each status."""
        with anyio.fail_after(SECONDS):
            while True:
                found = (await self.query_operator("GET", "/exports?limit=1")).body["totals"]
                if all(found[status] >= count for status, count in totals.items()):
                    return
                await anyio.sleep(0.05)

    async def drained(self) -> None:
        with anyio.fail_after(SECONDS):
            while (await self.query_operator("GET", "/exports?limit=1")).body["totals"]["accepted"]:
                await anyio.sleep(0.05)

    async def logged(self, text: str, since: int = 0) -> None:
        with anyio.fail_after(SECONDS):
            while text not in self.log[since:]:
                await anyio.sleep(0.02)

    def record_files(self, *but: str) -> None:
        """Record every file in the folders of Atlas, except those meant to be read."""
        for place in ("journal", "cwd", "tmp"):
            for file in (self.folder / place).rglob("*"):
                if file.is_file() and file.name not in but:
                    self.record_output(f"{place}/{file.name}", str(file), file.read_bytes())

    def committed(self) -> bytes:
        """Return the contents of the dataset, with their paths."""
        found = (self.folder / "foundry").rglob("*.ndjson")
        return joined(*(joined(str(file), file.read_bytes()) for file in found))


def processes(pid: int) -> bytes:
    """Return the command lines of a process and its children, which every user can see."""
    return joined(*(Path(f"/proc/{each}/cmdline").read_bytes() for each in (pid, *children(pid))))


def environ_of(pid: int) -> set[bytes]:
    return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))


@asynccontextmanager
async def open_sandbox(folder: Path, canaries: Canaries, **environ: str) -> AsyncIterator[Sandbox]:
    """Yield a sandbox before Atlas is started. `environ` is for Atlas."""
    for name in ("cwd", "tmp", "journal", "secret"):
        (folder / name).mkdir()
    spans: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        spans.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    collector = web.Application()
    collector.router.add_post("/v1/traces", collect)
    async with AsyncExitStack() as ends:
        around = await ends.enter_async_context(emulators.open_emulators(folder / "foundry"))
        server = await ends.enter_async_context(TestServer(collector))
        session = await ends.enter_async_context(aiohttp.ClientSession())
        around.foundry.client = ("client", canaries["foundry.secret"])
        settings = settings_of(around, folder, canaries) | environ
        settings["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = str(server.make_url("/v1/traces"))
        (folder / "secret" / "atlas.toml").write_text(as_toml(settings))
        (folder / "config.toml").write_text(to_toml(CONFIG))
        plain = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",  # otherwise Python sets it for its children
            "TMPDIR": str(folder / "tmp"),
            "ATLAS_CONFIG": str(folder / "config.toml"),
            "PYTHONFAULTHANDLER": "1",
        }
        sandbox = Sandbox(folder, canaries, around, session, settings | plain, spans=spans)
        try:
            yield sandbox
        finally:
            if sandbox.process is not None and sandbox.process.returncode is None:
                sandbox.process.kill()
                await sandbox.process.communicate()


def settings_of(around: Emulators, folder: Path, canaries: Canaries) -> dict[str, str]:
    """Return the settings by environment name."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    return {
        "PORT": str(find_free_port()),
        "LOG_LEVEL": "debug",
        "AUTH0_ISSUER": around.tenant.issuer,
        "FOUNDRY_HOST": around.foundry_url,
        "FOUNDRY_CLIENT_ID": "client",
        "FOUNDRY_CLIENT_SECRET": canaries["foundry.secret"],
        "ATLAS_JOURNAL": f"sqlite:///{folder / 'journal' / 'journal.db'}",
        "ATLAS_JOURNAL_KEY": canaries.add("journal.key", key),
        "ATLAS_OPERATOR_LISTEN": f"{HOST}:{find_free_port()}",
        "ATLAS_OPERATOR_TOKEN": canaries["operator.token"],
        "ATLAS_COMMIT_INTERVAL_SECONDS": "0.1",
        "ATLAS_COMMIT_WAIT_SECONDS": "10",
        "ATLAS_RATE_PER_MINUTE": "0",
    }


def as_toml(settings: Mapping[str, str]) -> str:
    """Return the same as TOML, for a process that reads no environment."""
    rooms: dict[str, dict[str, object]] = {room: dict(keys) for room, keys in CONFIG.items()}
    for name, text in settings.items():
        room, _, key = NAMES[name].partition(".")
        rooms.setdefault(room, {})[key] = [text] if key == "keys" else text
    return to_toml(rooms)
