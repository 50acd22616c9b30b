"""The four ports of `atlas local`."""

import errno
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from atlas.cli.emulators import HOST, STATE
from atlas.cli.program import render_program
from atlas.core.errors import CommandError
from atlas.server import bind

OTHER_PORTS = range(9000, 10_000, 10)  # first ports to suggest if these are in use
LISTENING = "0A"  # a state in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the service and its emulators."""

    atlas: int
    foundry: int
    auth0: int
    operator: int

    @classmethod
    def count_from(cls, first: int) -> "Ports":
        return cls(first, first + 1, first + 2, first + 3)

    def __iter__(self) -> Iterator[int]:
        return iter((self.atlas, self.foundry, self.auth0, self.operator))

    @property
    def are_free(self) -> bool:
        with suppress(CommandError):
            for port in self:
                bind(HOST, port).close()
            return True
        return False


def require_free_ports(ports: Ports, state: Path) -> None:
    """Raise CommandError, which says how to take other ports, unless all of them are free."""
    for port in ports:
        try:
            bind(HOST, port).close()
        except CommandError as error:
            if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
                raise
            raise CommandError(
                f"Port {port} is in use{describe_listener(port)}; atlas local needs the ports "
                f"{ports.atlas} to {ports.operator}. {suggest_ports(state)}"
            ) from error


def suggest_ports(state: Path) -> str:
    """Return a sentence with a command that takes free ports and this folder."""
    first = find_other_port()
    return f"To use others: {render_local(first, state)}"


def suggest_folder(state: Path) -> str:
    """Return a sentence with a command that takes free ports and a folder of their own."""
    first = find_other_port()
    other = state.with_name(f"{state.name}-{first}")
    return f"To run one more: {render_local(first, other)}"


def find_other_port() -> int:
    return next((each for each in OTHER_PORTS if Ports.count_from(each).are_free), OTHER_PORTS[0])


def render_local(first: int, state: Path) -> str:
    folder = "" if state == STATE else f" --state {shlex.quote(str(state))}"
    return f"{render_program()} local --port {first}{folder}"


def describe_listener(port: int) -> str:
    """Return " by process 42 (caddy)", or "" if the system does not say that."""
    with suppress(OSError):
        sockets = {f"socket:[{inode}]" for inode in list_listening_sockets(port)}
        for process in Path("/proc").glob("[0-9]*"):
            if has_any_socket(process, sockets):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f" by process {process.name} ({name})"
    return ""


def list_listening_sockets(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen at this port. Raises OSError without /proc."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, address, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and int(address.rpartition(":")[2], 16) == port:
                yield inode


def has_any_socket(process: Path, sockets: set[str]) -> bool:
    with suppress(OSError):  # it is another user's, or has ended
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) in sockets:
                    return True
    return False
