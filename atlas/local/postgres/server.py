"""A PostgreSQL server: start, stop, kill, freeze."""

import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Self
from urllib.parse import quote

from atlas.local.postgres.accounts import (
    STEP_SECONDS_MAX,
    PostgresFailed,
    ServerAccount,
    choose_account,
    describe_failure,
)
from atlas.local.postgres.processes import list_running, send, watch

HOST = "127.0.0.1"
USER = "atlas"
PORTS = range(20_000, 32_000)  # below those that systems give to outgoing connections
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.005


def find_free_port() -> int:
    while True:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


@dataclass(slots=True)
class PostgresServer:
    """A server: a folder of data, a port and, while it runs, a process with children.

    A new folder gets a new password, unless there is one; an existing folder needs its own.
    `settings` are parameters of PostgreSQL, and take precedence over ALTER SYSTEM. As a context
    manager it starts and stops.
    """

    programs: Path
    data: Path
    port: int = field(default_factory=find_free_port)
    password: str = field(default="", repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    account: ServerAccount = field(default_factory=choose_account)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _watchdog: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address with the password in it: not for logs."""
        return f"postgresql://{USER}:{quote(self.password, safe='')}@{HOST}:{self.port}/postgres"

    @property
    def log(self) -> Path:
        return self.data / "server.log"

    def start(self) -> None:
        """Start it, and return as soon as it accepts connections. Raises PostgresFailed."""
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        elif not self.password:
            raise PostgresFailed(f"{self.data} exists: starting it needs its password.")
        parameters = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # a killed server leaves nothing elsewhere
            **self.settings,
        }
        options = [word for item in parameters.items() for word in ("-c", "=".join(item))]
        command = (self.programs / "postgres", "-D", self.data.absolute(), *options)
        with self.log.open("ab") as log:
            self.account.own(self.log)
            self.process = self.account.spawn(command, log.fileno(), self.environ)
        with ExitStack() as unless_ready:
            unless_ready.callback(self.kill)
            self._watchdog = watch(self.process.pid)
            wait_until(self._is_ready)
            unless_ready.pop_all()

    def _initialize(self) -> None:
        self.password = self.password or secrets.token_urlsafe(24)
        self.make_folder()
        with NamedTemporaryFile("w", dir=self.data.parent, encoding="ascii") as password:
            password.write(self.password)
            password.flush()
            self.account.own(Path(password.name))
            how = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
            which = (f"--username={USER}", f"--pwfile={password.name}")
            folder = f"--pgdata={self.data.absolute()}"
            initdb = self.programs / "initdb"
            self.account.run(initdb, *how, *which, folder, environ=self.environ)

    def make_folder(self) -> None:
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.account.own(self.data)

    def _is_ready(self) -> bool:
        """Return True once the server says so in its file. Raises PostgresFailed if it ended."""
        if self.process is None or self.process.poll() is not None:
            raise PostgresFailed(describe_failure("postgres", self.log.read_bytes()))
        pid, *_, status = self._read_pid_file() or ("", "")
        return pid == str(self.process.pid) and status == "ready"

    def _read_pid_file(self) -> list[str]:
        """Return pid, folder, start, port, socket, host, memory and status; [] if incomplete."""
        try:
            text = (self.data / "postmaster.pid").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        lines = [line.strip() for line in text.splitlines()]
        return lines if len(lines) == 8 else []

    def stop(self) -> None:
        """Stop it: open transactions are aborted, and the next start needs no recovery."""
        self.resume()
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS_MAX)
        self.kill()

    def kill(self) -> None:
        """Kill the server and its children at once. The data remain as they are."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
        if self.process is not None:
            children = self.freeze()
            send(signal.SIGKILL, children)
            self.process.kill()
            self.process.wait()
            wait_until(lambda: not children & {each.pid for each in list_running()})
            self._remove_shared_memory()
        self.process = self._watchdog = None

    def _remove_shared_memory(self) -> None:
        """Remove the segment that marks the data as in use; a server that stopped has none."""
        if lines := self._read_pid_file():
            _, segment = lines[6].split()  # a key and an id
            with suppress(PostgresFailed):
                self.account.run("ipcrm", "-m", segment, environ={})

    def freeze(self) -> set[int]:
        """Suspend the server and its children, and return the children's pids.

        Connections stay open, and nothing answers.
        """
        if self.process is None or self.process.poll() is not None:
            return set()
        self.process.send_signal(signal.SIGSTOP)
        pid = self.process.pid
        wait_until(lambda: pid not in {e.pid for e in list_running() if e.state != "T"})
        children = self._list_children()  # a frozen server starts no more of them
        send(signal.SIGSTOP, children)
        return children

    def resume(self) -> None:
        """Let a frozen server continue."""
        if self.process is not None and self.process.poll() is None:
            send(signal.SIGCONT, self._list_children())
            self.process.send_signal(signal.SIGCONT)

    def _list_children(self) -> set[int]:
        own = self.process and self.process.pid
        return {each.pid for each in list_running() if each.parent == own}


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until it holds. Raises PostgresFailed if that takes too long."""
    deadline = time.monotonic() + STEP_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise PostgresFailed(f"PostgreSQL did not react within {STEP_SECONDS_MAX:.0f} s.")
        time.sleep(POLL_SECONDS)
