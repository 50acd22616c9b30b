"""Notifies the service manager: the protocol of systemd, sd_notify(3)."""

import socket
from contextlib import suppress
from dataclasses import dataclass

SEND_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """The manager that started this process. `address` is its NOTIFY_SOCKET, "" if there is none.

    It is the path of a UNIX socket, or an abstract one that begins with @.
    """

    address: str = ""

    def notify(self, *assignments: str) -> None:
        """Send assignments such as READY=1. A manager that does not listen is ignored."""
        if not self.address:
            return
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        lines = (" ".join(each.split()) for each in assignments)  # a line break would end one
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(SEND_SECONDS_MAX)
            channel.connect(address)
            channel.sendall("\n".join(lines).encode())
