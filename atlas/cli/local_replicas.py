"""`atlas local --replicas N`: replicas on a real PostgreSQL, behind a load balancer.

Each replica is a process of its own, `atlas serve` with generated settings, so that one can be
killed and the others take over.
"""

import base64
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import anyio
import msgspec
import typer
from anyio.abc import Process

from atlas.cli.emulators import HOST
from atlas.cli.local_folder import write_private, write_settings
from atlas.cli.program import render_program
from atlas.core.errors import CommandError
from atlas.local.balancer import run_balancer
from atlas.local.postgres import PostgresFailed, PostgresMissing, PostgresServer, find_programs
from atlas.local.postgres.processes import watch
from atlas.local.postgres.server import find_free_port
from atlas.service.extras import describe_missing_extra
from atlas.settings import VARIABLES, Settings

PROGRAMS = "ATLAS_POSTGRES_BIN"
READY = re.compile(rb"^ready |\"message\":\"ready\"", re.MULTILINE)  # text or JSON, as its log
STOP_SECONDS = 15.0  # a service ends within 10


class LocalSecrets(msgspec.Struct, frozen=True):
    """The password of the database and the key of the journal, which the next run needs again."""

    password: str
    journal_key: str

    @classmethod
    def load(cls, file: Path) -> "LocalSecrets":
        """Read them from the file; create it if it does not exist."""
        if not file.exists():
            key = base64.b64encode(secrets.token_bytes(32)).decode()
            write_private(file, msgspec.json.encode(cls(secrets.token_urlsafe(24), key)))
        return msgspec.json.decode(file.read_bytes(), type=cls)


@dataclass(frozen=True, slots=True)
class ReplicaProcess:
    """A replica, and the process that runs it."""

    number: int
    config: Path
    settings: Settings
    process: Process

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.settings.edge.port}"

    @property
    def restart(self) -> str:
        return f"{render_program()} serve --config {shlex.quote(str(self.config))}"

    async def report_end(self) -> None:
        """Say that the process has ended, and how to start it again."""
        code = await self.process.wait()
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        typer.echo(f"Replica {self.number} ended ({reason}). Start it again: {self.restart}")


def run_replicas(
    settings: Settings,
    operator_port: int,
    state: Path,
    count: int,
    open_emulators: Callable[[], AbstractAsyncContextManager[None]],
    on_ready: Callable[[str, str], None],
) -> None:
    """Run a database, emulators, replicas and a balancer until Ctrl-C.

    `settings` are those of one service: the balancer takes its port, and each replica a free one.
    The first replica has the given port for operators. `on_ready` gets the balancer's address and a
    description of the replicas.
    """

    async def main(server: PostgresServer, key: str) -> None:
        all_settings = [
            build_replica_settings(settings, server.url, key, port)
            for port in (operator_port, *(find_free_port() for _ in range(count - 1)))
        ]
        urls = [f"http://{HOST}:{each.edge.port}" for each in all_settings]
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(open_emulators())
            url = await stack.enter_async_context(run_balancer(urls, settings.edge.port))
            replicas = []
            for number, each in enumerate(all_settings, 1):
                config = state / f"replica-{number}.toml"
                replica = await stack.enter_async_context(run_replica(number, config, each))
                replicas.append(replica)
            on_ready(url, render_replicas(replicas, server))
            await wait_for_signal(replicas)
            for replica in replicas:  # all at once; the stack waits for each
                terminate(replica.process)

    with open_database(state) as (server, key):
        anyio.run(main, server, key)


@contextmanager
def open_database(state: Path) -> Iterator[tuple[PostgresServer, str]]:
    """Run a PostgreSQL server on the data of the last run; yield it and the key of the journal.

    Raises CommandError.
    """
    if find_spec("asyncpg") is None:
        raise CommandError(describe_missing_extra("--replicas", "asyncpg", "postgres"))
    state.mkdir(parents=True, exist_ok=True)
    folder = os.environ.get(PROGRAMS)
    with ExitStack() as running:
        try:
            programs = find_programs(Path(folder) if folder else None)
            known = LocalSecrets.load(state / "replicas.json")
            server = PostgresServer(programs, state / "postgres", password=known.password)
            if server.account.ids is not None:  # another account has to reach its folder
                state.chmod(state.stat().st_mode | 0o011)
            running.enter_context(server)
        except (PostgresMissing, PostgresFailed) as error:
            raise CommandError(str(error)) from error
        yield server, known.journal_key


def build_replica_settings(
    settings: Settings, database_url: str, key: str, operator_port: int
) -> Settings:
    """Replace the settings in which a replica differs from a single service."""
    replace = msgspec.structs.replace
    url = f"{database_url}?schema=atlas"
    return replace(
        settings,
        edge=replace(settings.edge, port=find_free_port()),
        journal=replace(settings.journal, url=url, keys=(key,)),
        operator=replace(settings.operator, listen=f"{HOST}:{operator_port}"),
    )


@asynccontextmanager
async def run_replica(
    number: int, config: Path, settings: Settings
) -> AsyncIterator[ReplicaProcess]:
    """Run `atlas serve` until the end of the block. It does not outlive this process.

    Raises CommandError if it does not start.
    """
    write_settings(config, settings)
    process = await anyio.open_process(
        [sys.executable, "-m", "atlas", "serve"],
        stdin=subprocess.DEVNULL,
        stderr=None,
        env=build_environment(os.environ, config),
        start_new_session=True,  # Ctrl-C is for this process only
    )
    watchdog = watch(process.pid)
    try:
        await wait_until_ready(number, process)
        yield ReplicaProcess(number, config, settings, process)
        terminate(process)
        with anyio.move_on_after(STOP_SECONDS):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        watchdog.kill()
        watchdog.communicate()
        with anyio.CancelScope(shield=True):
            await process.aclose()


def build_environment(environ: Mapping[str, str], config: Path) -> dict[str, str]:
    """Build the environment of a replica, whose settings are all in its file."""
    inherited = {name: value for name, value in environ.items() if name not in VARIABLES}
    return inherited | {"ATLAS_CONFIG": str(config)}


async def wait_until_ready(number: int, process: Process) -> None:
    """Return once it says that it is ready. Raises CommandError if it ends before."""
    output = b""
    while READY.search(output) is None:
        try:
            output += await process.stdout.receive() if process.stdout else b""
        except anyio.EndOfStream:
            raise CommandError(f"Replica {number} does not start: see above.") from None


def terminate(process: Process) -> None:
    if process.returncode is None:
        process.terminate()


async def wait_for_signal(replicas: Sequence[ReplicaProcess]) -> None:
    """Wait for Ctrl-C or SIGTERM, and report replicas that end before."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            for replica in replicas:
                tasks.start_soon(replica.report_end)
            await anext(signals)
            tasks.cancel_scope.cancel()


def render_replicas(replicas: Sequence[ReplicaProcess], server: PostgresServer) -> str:
    """Render the addresses of the replicas, and how to kill one and start it again."""
    lines = [
        f"  Replica {each.number:<5}  {each.url}  process {each.process.pid},"
        f" operator page http://{each.settings.operator.listen}/"
        for each in replicas
    ]
    first = replicas[0]
    return "\n".join(
        [
            *lines,
            f"  Database       {HOST}:{server.port}  PostgreSQL, data in {server.data}",
            "",
            "Kill a replica, and another one takes over:",
            f"  kill -9 {first.process.pid}",
            "Start it again, from another terminal:",
            f"  {first.restart}",
            "",
        ]
    )
