"""The limits of a listener."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of a connection, and of the number of connections.

    `header_bytes_max` includes the request line. `write_timeout_seconds`: how long a client may read nothing
    of an answer.
    """

    header_bytes_max: int = 16 * 1024
    header_seconds: float = 10.0
    write_timeout_seconds: float = 10.0
    idle_seconds: float = 75.0
    connections_max: int = 10_000
